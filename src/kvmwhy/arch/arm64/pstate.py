"""PSTATE in words, as KVM's ONE_REG and QEMU's dump have it: the layout of SPSR (Arm ARM DDI 0487, SPSR_EL1)."""

from __future__ import annotations

from typing import Final

AARCH32: Final = 1 << 4
_LEVELS: Final = {0x0: "EL0", 0x4: "EL1t", 0x5: "EL1h", 0x8: "EL2t", 0x9: "EL2h", 0xC: "EL3t", 0xD: "EL3h"}
_MODES32: Final = {
    0x0: "User", 0x1: "FIQ", 0x2: "IRQ", 0x3: "Supervisor", 0x6: "Monitor", 0x7: "Abort", 0xA: "Hyp", 0xB: "Undefined",
    0xF: "System",
}  # fmt: skip
_THUMB: Final = 1 << 5
_IL: Final = 1 << 20
_SS: Final = 1 << 21
_MASKS: Final = ((9, "debug"), (8, "SError"), (7, "IRQ"), (6, "FIQ"))
_BTYPE: Final = 10  # two bits


def mode(pstate: int) -> str:
    """The exception level with its stack pointer (h: of that level, t: of EL0), or AArch32's mode."""
    if pstate & AARCH32:
        state = "Thumb" if pstate & _THUMB else "A32"
        return f"AArch32 {_MODES32.get(pstate & 0xF, f'mode {pstate & 0xF:#x}')}, {state}"
    return _LEVELS.get(pstate & 0xF, f"mode {pstate & 0xF:#x}")


def level(pstate: int) -> int | None:
    """The exception level of AArch64; of AArch32 it does not follow from the mode alone."""
    return None if pstate & AARCH32 else pstate >> 2 & 3


def words(pstate: int) -> list[str]:
    """The mode, then what is out of the ordinary: interrupts masked, illegal state, single step."""
    parts = [mode(pstate)]
    masked = [name for bit, name in _MASKS if pstate >> bit & 1 and not (pstate & AARCH32 and name == "debug")]
    if masked:
        parts.append("all interrupts masked" if len(masked) == len(_MASKS) else f"{', '.join(masked)} masked")
    if pstate & _IL:
        parts.append("illegal execution state")
    if not pstate & AARCH32 and pstate & _SS:
        parts.append("single step")
    if not pstate & AARCH32 and pstate >> _BTYPE & 3:
        parts.append("behind an indirect branch")
    return parts
