"""The state of a vCPU of another architecture than x86 in a line, and the words for what made it leave the guest.

Numbers: Linux arch/{riscv,s390,powerpc}/include/asm, and Arm's and the RISC-V privileged architecture's manuals.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi import error_numbers
from kvmwhy.abi.arm64 import esr
from kvmwhy.record import Failure

_EXCEPTION_LEVELS: Final = {0: "EL0", 4: "EL1t", 5: "EL1h", 8: "EL2t", 9: "EL2h"}  # PSTATE.M, 64-bit
_AARCH32: Final = 1 << 4
_CAUSES: Final = {  # SCAUSE
    0: "instruction address misaligned", 1: "instruction access fault", 2: "illegal instruction", 3: "breakpoint",
    4: "load address misaligned", 5: "load access fault", 6: "store address misaligned", 7: "store access fault",
    8: "call from user mode", 9: "call from supervisor mode", 10: "call from the guest's kernel",
    12: "instruction page fault", 13: "load page fault", 15: "store page fault", 16: "double trap",
    18: "software check", 20: "instruction guest-page fault", 21: "load guest-page fault", 22: "virtual instruction",
    23: "store guest-page fault",
}  # fmt: skip
_INTERCEPTS: Final = {  # icptcode
    0x04: "instruction", 0x08: "program interruption", 0x0C: "instruction and program interruption",
    0x10: "external request", 0x14: "external interruption", 0x18: "I/O request", 0x1C: "wait state", 0x20: "validity",
    0x28: "stop request", 0x2C: "operation exception", 0x38: "partial execution", 0x40: "I/O", 0x5C: "keyless",
    0x60: "machine-check request", 0x64: "interruption enabled", 0x68: "protected: instruction",
    0x6C: "protected: notification", 0x70: "protected: prefix",
}  # fmt: skip
_TRAPS: Final = {  # arch/powerpc/include/asm/kvm_asm.h: BOOK3S_INTERRUPT_*
    0x100: "system reset", 0x200: "machine check", 0x300: "data storage", 0x380: "data segment",
    0x400: "instruction storage", 0x480: "instruction segment", 0x500: "external", 0x600: "alignment", 0x700: "program",
    0x800: "floating point unavailable", 0x900: "decrementer", 0x980: "hypervisor decrementer", 0xA00: "doorbell",
    0xC00: "system call", 0xD00: "trace", 0xE00: "hypervisor data storage", 0xE20: "hypervisor instruction storage",
    0xE40: "hypervisor emulation assist", 0xE60: "hypervisor maintenance", 0xE80: "hypervisor doorbell",
    0xEA0: "hypervisor virtualization", 0xF00: "performance monitor", 0xF20: "vector unavailable",
    0xF40: "VSX unavailable", 0xF60: "facility unavailable", 0xF80: "hypervisor facility unavailable",
}  # fmt: skip
_S390_ENTRY: Final = (0x180000000, 0x7FD00600)  # where QEMU's boot loader begins
_POWER_RESET: Final = 0x100
_NEGATIVE: Final = 1 << 63


def state(failure: Failure) -> str | None:
    """Where the vCPU was; None if that is x86's, or not shown."""
    registers = failure.cpu.registers if failure.cpu else {}
    match failure.arch:
        case "arm64":
            parts = _arm64(registers)
        case "riscv64":
            parts = _riscv64(registers)
        case "s390x":
            parts = _s390x(registers)
        case "ppc64" | "ppc":
            parts = _power(registers)
        case "loongarch" | "mips":
            parts = [f"PC {registers['pc']:#x}"] if "pc" in registers else []
        case _:
            return None
    return "; ".join(parts) or None


def exit_words(failure: Failure) -> str | None:
    """What made it leave the guest, where the text gives it."""
    left = failure.exit
    if left is None or left.isa is not None:
        return None
    address = f", guest address {left.info2:#x}" if left.info2 is not None else ""
    match failure.arch:
        case "arm64":
            words = esr.describe(left.info1) if left.info1 else esr.CLASSES.get(left.reason)
        case "riscv64":
            words = _CAUSES.get(left.reason)
        case "s390x":
            words = _INTERCEPTS.get(left.reason)
        case _:
            words = None
    return f"{words or f'{left.reason:#x}'}{address}"


def hardware_reason(failure: Failure) -> str | None:
    """The number of KVM_EXIT_UNKNOWN on POWER: a trap, or an error of the hypervisor below."""
    number = failure.hardware_reason
    if number is None or failure.arch not in {"ppc64", "ppc"}:
        return None
    if number & _NEGATIVE:
        error = (1 << 64) - number
        return f"-{error} ({'H_P2' if error == _H_P2 else '-' + error_numbers.NAMES.get(error, str(error))})"
    return f"{_TRAPS[number]} interrupt" if number in _TRAPS else None


_H_P2: Final = 55  # hvcall.h: the second parameter of the hypercall is refused


def _arm64(registers: dict[str, int]) -> list[str]:
    parts = [f"PC {registers['pc']:#x}"] if "pc" in registers else []
    if (pstate := registers.get("pstate")) is not None:
        level = "AArch32" if pstate & _AARCH32 else _EXCEPTION_LEVELS.get(pstate & 0xF, f"mode {pstate & 0xF:#x}")
        parts.append(f"{level} (PSTATE {pstate:#x})")
    if "far_el2" in registers:
        parts.append(f"FAR {registers['far_el2']:#x}")
    return parts


def _riscv64(registers: dict[str, int]) -> list[str]:
    parts = [f"PC {registers['pc']:#x}"] if "pc" in registers else []
    if "stval" in registers:
        parts.append(f"STVAL {registers['stval']:#x}")
    return parts


def _s390x(registers: dict[str, int]) -> list[str]:
    mask, addr = registers.get("psw_mask"), registers.get("psw_addr")
    if mask is None or addr is None:
        return []
    parts = [f"PSW {mask:#x} {addr:#x}"]
    if (mask, addr) == _S390_ENTRY:
        parts.append("the boot loader's entry: nothing ran yet")
    return parts


def _power(registers: dict[str, int]) -> list[str]:
    if "nip" not in registers:
        return []
    parts = [f"NIP {registers['nip']:#x}"]
    if "msr" in registers:
        parts.append(f"MSR {registers['msr']:#x}")
    gprs = [registers.get(f"r{n}") for n in range(4, 32)]
    if registers["nip"] == _POWER_RESET and not any(gprs):
        parts.append("the reset vector: nothing ran yet")
    return parts
