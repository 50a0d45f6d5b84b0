"""The mode of a live CPU, and where its memory operands lie.

``x86.mode`` and ``x86.operand`` answer the same from registers that some evidence showed, and must
say what they do not know. Here everything is known, and it has to be fast.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.instruction import Instruction, MemoryOperand
from kvmwhy.arch.x86.mode import COMPAT16, COMPAT32, LONG64, PROT16, PROT32, REAL16, VM86, Mode
from kvmwhy.machine.model.unicorn_state import BIG, CS, LMA, LONG, SEGMENTS, SS, VM, Env

_BIG_REAL16: Final = REAL16._replace(bitness=32)
_MASK32: Final = 0xFFFF_FFFF


def mode_of(env: Env) -> Mode:
    flags = env.segs[CS].flags
    if not env.cr[0] & 1:
        return _BIG_REAL16 if flags & BIG else REAL16
    if env.efer & LMA:
        if flags & LONG:
            return LONG64
        return COMPAT32 if flags & BIG else COMPAT16
    if env.eflags & VM:
        return VM86
    return PROT32 if flags & BIG else PROT16


def _registers() -> dict[str, tuple[int, int]]:
    """Spelling: number and mask. No address is made of AH and its like; XLAT has AL in it."""
    names = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
    out = {"al": (0, 0xFF)}
    for number, name in enumerate(names):
        out[name] = (number, 0xFFFF)
        out[f"e{name}"] = (number, _MASK32)
        out[f"r{name}"] = (number, -1)
    for number in range(8, 16):
        out[f"r{number}"] = (number, -1)
        out[f"r{number}d"] = (number, _MASK32)
    return out


_REGISTERS: Final = _registers()


def linear_address(operand: MemoryOperand, instruction: Instruction, env: Env, mode: Mode) -> int | None:
    """None for an operand with a vector of addresses (VSIB)."""
    address = operand.displacement
    for name, scale in ((operand.base, 1), (operand.index, operand.scale)):
        if name is None or name in {"rip", "eip"}:  # the displacement has the whole address then
            continue
        register = _REGISTERS.get(name)
        if register is None:
            return None
        address += (env.regs[register[0]] & register[1]) * scale
    size = operand.address_size
    if operand.stack and instruction.stack and mode.bitness != 64:
        size = 32 if env.segs[SS].flags & BIG else 16  # SDM vol. 1, 6.2.3
    address &= (1 << size) - 1
    if mode.bitness == 64:
        base = env.segs[SEGMENTS[operand.segment]].base if operand.segment in {"fs", "gs"} else 0
        return address + base & 0xFFFF_FFFF_FFFF_FFFF
    return address + env.segs[SEGMENTS[operand.segment]].base & _MASK32
