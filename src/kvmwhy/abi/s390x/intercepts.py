"""Why the SIE instruction ended, what a disabled wait means, and why a SIE block is not valid.

arch/s390/include/asm/kvm_host.h (ICPT_*), arch/s390/kvm/intercept.c, and the PSW of the Principles of Operation.
"""

from __future__ import annotations

from typing import Final

INTERCEPTS: Final = {
    0x04: "instruction", 0x08: "program interruption", 0x0C: "instruction and program interruption",
    0x10: "external request", 0x14: "external interruption", 0x18: "I/O request", 0x1C: "wait state", 0x20: "validity",
    0x24: "software intercept", 0x28: "stop request", 0x2C: "operation exception", 0x38: "partial execution",
    0x40: "I/O instruction", 0x4C: "monitor or partial execution", 0x5C: "keyless subset",
    0x60: "machine-check request",
    0x64: "interruption enabled", 0x68: "protected: instruction", 0x6C: "protected: notification",
    0x70: "protected: prefix",
}  # fmt: skip
# hw/s390x and target/s390x: what a VMM makes of them (kvm.c: handle_intercept).
FATAL: Final = {
    0x08: "a program interruption came while its own handler could not be entered (a loop)",
    0x14: "an external interruption came while its own handler could not be entered (a loop)",
    0x1C: "the guest went into a disabled wait: it gave up by itself",
}
_MASK: Final = {
    62: "PER", 58: "translation", 57: "I/O", 56: "external", 50: "machine checks", 48: "problem state",
}  # fmt: skip
_WAIT: Final = 1 << 49
_ENABLED: Final = 1 << 57 | 1 << 56 | 1 << 50
_ORDERLY: Final = 0xFFF  # target/s390x/kvm/kvm.c: the guest switched itself off


def intercept(code: int) -> str:
    """The intercept code in words."""
    return INTERCEPTS.get(code, f"intercept {code:#x}")


def is_disabled_wait(mask: int) -> bool:
    """The CPU waits with every interruption masked."""
    return bool(mask & _WAIT) and not mask & _ENABLED


def psw(mask: int, address: int) -> list[str]:
    """The state that a PSW stands for."""
    parts = []
    if is_disabled_wait(mask):
        what = "switched itself off" if address == _ORDERLY else f"gave up by itself, code {address:#x}"
        parts.append(f"disabled wait: the guest {what}")
    elif mask & _WAIT:
        parts.append("waiting for an interruption")
    enabled = [name for bit, name in _MASK.items() if mask >> bit & 1]
    parts.append(f"on: {', '.join(enabled)}" if enabled else "no translation, interruptions off")
    parts.append({0: "24-bit", 1: "31-bit", 3: "64-bit"}.get(mask >> 31 & 3, "no valid") + " addressing")
    return parts


def validity(code: int) -> str:
    """The reason code of a validity intercept: the SIE block is wrong."""
    if code >> 12 == 2:
        return "of a protected guest"
    return {0x37: "the guest's runtime instrumentation controls are not valid", 0x44: "runtime instrumentation"}.get(
        code, "the SIE block holds what the machine does not allow"
    )
