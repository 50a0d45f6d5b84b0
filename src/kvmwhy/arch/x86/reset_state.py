"""Whether the vCPU still is as a reset left it: did the guest run at all?

Reset values: SDM vol. 3A, table 11-1 (INIT and power-up), APM vol. 2, 14.1.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from kvmwhy.record import Cpu

State = Literal["reset", "startup", "zero", "mixture", "ran", "unknown"]

_CR0_CD_NW = 0x6000_0000  # INIT leaves them as they were
_CR0_PG = 1 << 31
_GPRS = ("rax", "rbx", "rcx", "rsi", "rdi", "rbp", "rsp", *(f"r{number}" for number in range(8, 16)))


class ResetVerdict(NamedTuple):
    """``parts`` still have reset values, ``differ`` do not. What was not shown is in neither.

    ``state``: ``reset`` nothing has executed; ``startup`` an application processor that a SIPI just
    started; ``zero`` no real CPU looks like this; ``mixture`` parts of two states; ``ran``; ``unknown``.
    """

    pristine: bool
    parts: tuple[str, ...]
    why: str
    differ: tuple[str, ...] = ()
    state: State = "unknown"


def is_reset_state(cpu: Cpu) -> ResetVerdict:
    """How much of the reset state is left, and what that says about the guest."""
    checks = _checks(cpu)
    parts = tuple(name for name, same in checks.items() if same)
    differ = tuple(name for name, same in checks.items() if not same)
    state, why = _judge(cpu, checks, differ)
    return ResetVerdict(state == "reset", parts, why, differ, state)


def _checks(cpu: Cpu) -> dict[str, bool]:
    registers = cpu.registers
    out: dict[str, bool] = {}
    if (rip := registers.get("rip")) is not None:
        out["rip"] = rip == 0xFFF0
    if (cs := cpu.segments.get("cs")) is not None:
        out["cs"] = cs.selector == 0xF000 and cs.base == 0xFFFF_0000
    general = [registers[name] for name in _GPRS if name in registers]
    if general:
        out["gprs"] = not any(general)
    if (rflags := registers.get("rflags")) is not None:
        out["rflags"] = rflags == 2
    if (cr0 := registers.get("cr0")) is not None:
        out["cr0"] = cr0 & ~_CR0_CD_NW == 0x10
    for name in ("cr3", "cr4", "efer"):
        if (value := registers.get(name)) is not None:
            out[name] = value == 0
    return out


def _judge(cpu: Cpu, checks: dict[str, bool], differ: tuple[str, ...]) -> tuple[State, str]:
    if not {"rip", "cs"} & checks.keys():
        return "unknown", "Neither RIP nor CS was shown."
    if _all_zero(cpu):
        return "zero", (
            "Every register reads as zero, CR0 included, which no running CPU can show: "
            "the state is hidden (a confidential guest) or was never loaded."
        )
    at_rip, at_cs = checks.get("rip"), checks.get("cs")
    if not differ:
        if at_rip and at_cs:
            return (
                "reset",
                "The vCPU is at its reset vector with reset values: the guest has executed nothing.",
            )
        return "unknown", "What was shown has reset values, but RIP or CS is missing."
    rest = ", ".join(differ)
    if at_rip and at_cs:
        return "mixture", f"RIP and CS are at the reset vector, but {rest} cannot be: two states are mixed."
    if at_cs and _impossible_at_reset_segment(cpu):
        return "mixture", (
            f"CS is as a reset leaves it, but {rest} differ in a way no firmware reaches "
            "before it reloads CS: two states are mixed."
        )
    if at_cs:
        return "ran", "CS is as a reset leaves it: the firmware was in its very first instructions."
    if at_rip and _paging_or_long(cpu):
        return (
            "mixture",
            f"RIP is the reset vector's, but {rest} belong to a running system: two states are mixed.",
        )
    if _startup(cpu, differ):
        return "startup", "A start-up IPI has just placed this processor: it has executed nothing yet."
    return "ran", "The registers do not have reset values: the guest has run."


def _all_zero(cpu: Cpu) -> bool:
    registers = cpu.registers
    if registers.get("cr0") != 0:
        return False
    if any(registers.get(name) for name in (*_GPRS, "rdx", "rip", "cr3", "cr4", "efer")):
        return False
    return not any(one.selector or one.base or one.attributes for one in cpu.segments.values())


def _paging_or_long(cpu: Cpu) -> bool:
    registers = cpu.registers
    return bool(registers.get("cr0", 0) & _CR0_PG or registers.get("efer", 0) or registers.get("cr3", 0))


def _impossible_at_reset_segment(cpu: Cpu) -> bool:
    """The reset CS is a 64-KiB segment; paging cannot be on while the firmware still uses it."""
    return cpu.registers.get("rip", 0) > 0xFFFF or _paging_or_long(cpu)


def _startup(cpu: Cpu, differ: tuple[str, ...]) -> bool:
    """SIPI vector v: CS = v << 8, base v << 12, RIP 0; all else as INIT left it."""
    cs = cpu.segments.get("cs")
    return (
        cs is not None
        and cs.base == cs.selector << 4
        and not cs.selector & 0xFF
        and cpu.registers.get("rip") == 0
        and set(differ) <= {"rip", "cs"}
    )


# AMD's extended families that Intel does not use as well: 10h, 11h, 14h … 1ah (Hygon's 18h among them).
# 12h and 13h are taken by both (Llano; Nova Lake, Diamond Rapids).
_AMD_EXTENDED = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 11))


def cpu_signature_vendor(edx: int) -> Literal["intel", "amd"] | None:
    """Whose CPU the reset value of EDX (CPUID.1:EAX) describes, if that is unambiguous.

    It is the *guest's* CPU model: ``-cpu host`` and named models tell; QEMU's kvm64 and qemu64
    (family 15) do not. Family 6 before Core Duo was Intel's and AMD's alike.
    """
    family = edx >> 8 & 0xF
    model = edx >> 4 & 0xF
    extended_model = edx >> 16 & 0xF
    extended_family = edx >> 20 & 0xFF
    if family == 6:
        return "intel" if extended_model or model >= 0xE else None
    if family == 0xF and extended_family in _AMD_EXTENDED:
        return "amd"
    return None
