"""Which mode the CPU was in, as far as the printed registers tell."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kvmwhy.record import Cpu, Segment

ModeName = Literal["real16", "vm86", "prot16", "prot32", "compat16", "compat32", "long64"]
Bitness = Literal[16, 32, 64]

_CR0_PE = 1 << 0
_CR0_PG = 1 << 31
_EFER_LME = 1 << 8
_EFER_LMA = 1 << 10
_RFLAGS_VM = 1 << 17
_MASK32 = 0xFFFF_FFFF
_MASK64 = 0xFFFF_FFFF_FFFF_FFFF


class Mode(NamedTuple):
    """How the CPU read its code. ``bitness`` is the default size an instruction decoder needs."""

    name: ModeName
    bitness: Bitness
    certain: bool
    why: str


REAL16 = Mode("real16", 16, True, "CR0.PE is clear: real mode")
_REAL16_STALE_L = Mode("real16", 16, True, "CR0.PE is clear: real mode; the L bit left in CS has no effect")
_REAL16_BIG = Mode("real16", 32, True, "CR0.PE is clear, but CS.D is set: real mode with 32-bit code")
_REAL16_NO_CS = Mode("real16", 16, False, "CR0.PE is clear: real mode; CS was not shown")
_REAL16_ALL_ZERO = Mode("real16", 16, False, "CR0 and CS read as zero: not a state a real CPU has")
_REAL16_BY_BASE = Mode("real16", 16, False, "CR0 was not shown; CS.base is the selector times 16")
VM86 = Mode("vm86", 16, True, "RFLAGS.VM is set: virtual-8086 mode")
LONG64 = Mode("long64", 64, True, "EFER.LMA and CS.L are set: 64-bit mode")
_LONG64_ENABLED = Mode("long64", 64, True, "EFER.LME, CR0.PG and CS.L are set: 64-bit mode")
_LONG64_HIGH_RIP = Mode("long64", 64, True, "RIP needs more than 32 bits: 64-bit mode")
_LONG64_NO_CS = Mode("long64", 64, False, "EFER.LMA is set and CS was not shown: most likely 64-bit mode")
_LONG64_BY_L = Mode("long64", 64, False, "CS.L is set and EFER was not shown: most likely 64-bit mode")
_LONG64_BY_R8 = Mode("long64", 64, False, "r8 was printed, as VMMs do for 64-bit code")
_LONG64_BY_WIDTH = Mode("long64", 64, True, "it was printed as 64-bit code")
COMPAT32 = Mode("compat32", 32, True, "EFER.LMA is set, CS.L clear, CS.D set: 32-bit code of a 64-bit system")
COMPAT16 = Mode("compat16", 16, True, "EFER.LMA is set, CS.L and CS.D clear: 16-bit code of a 64-bit system")
PROT32 = Mode("prot32", 32, True, "CR0.PE and CS.D are set: 32-bit protected mode")
PROT16 = Mode("prot16", 16, True, "CR0.PE is set, CS.D clear: 16-bit protected mode")
_PROT32_NO_CS = Mode("prot32", 32, False, "CR0.PE is set and CS was not shown: most likely 32-bit code")
_PROT32_NO_CR0 = Mode("prot32", 32, False, "CR0 was not shown; CS.D is set: 32-bit code")


def cpu_mode(cpu: Cpu) -> Mode | None:
    """The CPU's mode, or ``None`` when the registers do not tell.

    The order is the one KVM uses: CR0.PE first, so that an L bit or EFER.LMA left over from earlier
    never makes real mode look like 64-bit code.
    """
    registers = cpu.registers
    cs = cpu.segments.get("cs")
    cr0 = registers.get("cr0")
    if cr0 is None and cpu.wide:
        return _LONG64_BY_WIDTH
    if cr0 is None:
        return _without_cr0(registers, cs)
    if not cr0 & _CR0_PE:
        return _real(cr0, cs)
    efer = registers.get("efer")
    if efer is None:
        return _without_efer(registers, cr0, cs)
    active = efer & _EFER_LMA
    if active or (efer & _EFER_LME and cr0 & _CR0_PG):
        return _long(registers, cs, bool(active))
    return _protected(registers, cs)


def _real(cr0: int, cs: Segment | None) -> Mode:
    if cs is None:
        return _REAL16_NO_CS
    if cs.big:
        return _REAL16_BIG
    if not cr0 and not (cs.selector | cs.base | cs.attributes):
        return _REAL16_ALL_ZERO
    return _REAL16_STALE_L if cs.long else REAL16


def _long(registers: dict[str, int], cs: Segment | None, active: bool) -> Mode:
    if cs is None:
        return _LONG64_HIGH_RIP if registers.get("rip", 0) > _MASK32 else _LONG64_NO_CS
    if cs.long:
        return LONG64 if active else _LONG64_ENABLED
    return COMPAT32 if cs.big else COMPAT16


def _protected(registers: dict[str, int], cs: Segment | None) -> Mode:
    if registers.get("rflags", 0) & _RFLAGS_VM:
        return VM86
    if cs is None:
        return _PROT32_NO_CS
    return PROT32 if cs.big else PROT16


def _without_efer(registers: dict[str, int], cr0: int, cs: Segment | None) -> Mode:
    """PE is set. CS.L counts only together with paging: long mode cannot be active without."""
    if registers.get("rip", 0) > _MASK32:
        return _LONG64_HIGH_RIP
    if cs is None:
        return _LONG64_BY_R8 if "r8" in registers else _protected(registers, cs)
    if cs.long and not cs.big and cr0 & _CR0_PG:
        return _LONG64_BY_L
    return _protected(registers, cs)


def _without_cr0(registers: dict[str, int], cs: Segment | None) -> Mode | None:
    if registers.get("rip", 0) > _MASK32:
        return _LONG64_HIGH_RIP
    if registers.get("efer", 0) & _EFER_LMA:  # cannot be set without PE and PG
        return _long(registers, cs, active=True)
    if cs is not None and cs.long and not cs.big and "efer" not in registers:
        return _LONG64_BY_L
    if "r8" in registers and cs is None:
        return _LONG64_BY_R8
    if registers.get("rflags", 0) & _RFLAGS_VM:
        return VM86
    if cs is None:
        return None
    if cs.big:
        return _PROT32_NO_CR0
    if cs.attributes and (cs.base == cs.selector << 4 or (cs.selector, cs.base) == (0xF000, 0xFFFF_0000)):
        return _REAL16_BY_BASE
    return None


def cpu_cpl(cpu: Cpu) -> int | None:
    """The privilege level: the printed one, else SS.DPL, else the low bits of the CS selector."""
    if cpu.cpl is not None:
        return cpu.cpl
    mode = cpu_mode(cpu)
    if mode is None:
        return None
    if mode.name == "real16":
        return 0
    if mode.name == "vm86":
        return 3
    ss = cpu.segments.get("ss")
    if ss is not None and ss.attributes:
        return ss.dpl
    cs = cpu.segments.get("cs")
    return None if cs is None else cs.selector & 3


def linear_rip(cpu: Cpu, mode: Mode) -> int | None:
    """The linear address of the instruction at RIP."""
    rip = cpu.registers.get("rip")
    if rip is None:
        return None
    if mode.name == "long64":
        return rip & _MASK64
    cs = cpu.segments.get("cs")
    return None if cs is None else (cs.base + rip) & _MASK32
