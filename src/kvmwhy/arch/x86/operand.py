"""The address a memory operand had, from the registers that were printed."""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.arch.x86.instruction import Access, Instruction, MemoryOperand
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.record import Cpu

_CR4_LA57 = 1 << 12
_MASK16, _MASK32, _MASK64 = 0xFFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


def _parts() -> dict[str, tuple[str, int, int]]:
    """Every general register's spelling: its 64-bit name, shift and mask."""
    out: dict[str, tuple[str, int, int]] = {"rip": ("rip", 0, _MASK64), "eip": ("rip", 0, _MASK32)}
    for letter in "abcd":
        full = f"r{letter}x"
        out[f"{letter}l"] = (full, 0, 0xFF)
        out[f"{letter}h"] = (full, 8, 0xFF)
        out[f"{letter}x"] = (full, 0, _MASK16)
    for name in ("sp", "bp", "si", "di"):
        out[f"{name}l"] = (f"r{name}", 0, 0xFF)
        out[name] = (f"r{name}", 0, _MASK16)
    for name in ("ax", "bx", "cx", "dx", "sp", "bp", "si", "di"):
        out[f"e{name}"] = (f"r{name}", 0, _MASK32)
        out[f"r{name}"] = (f"r{name}", 0, _MASK64)
    for number in range(8, 16):
        full = f"r{number}"
        out[full] = (full, 0, _MASK64)
        out[f"{full}d"] = (full, 0, _MASK32)
        out[f"{full}w"] = (full, 0, _MASK16)
        out[f"{full}l"] = (full, 0, 0xFF)
    return out


_PARTS = _parts()


class Operand(Struct, frozen=True):
    """Where an operand lay. ``effective`` and ``linear`` are ``None`` when ``missing`` names why.

    ``canonical`` is ``None`` where the question does not arise or cannot be answered.
    """

    segment: str
    effective: int | None
    linear: int | None
    size: int
    access: Access
    canonical: bool | None
    missing: tuple[str, ...]


def operand_address(operand: MemoryOperand, instruction: Instruction, cpu: Cpu, mode: Mode) -> Operand:
    """The operand's effective and linear address, as far as the registers allow.

    Bit-string instructions with a register offset (BT m, r) reach further than this: only their
    ModRM address is given. REP is not followed either: the address is that of the next element.
    """
    registers = cpu.registers
    missing: tuple[str, ...] = ()
    address = operand.displacement
    for name, scale in ((operand.base, 1), (operand.index, operand.scale)):
        if name is None:
            continue
        part = _PARTS.get(name)
        value = None if part is None else registers.get(part[0])
        if part is None or value is None:  # a vector index (VSIB) is a set of addresses, not one
            missing += (name,)
        else:
            address += (value >> part[1] & part[2]) * scale
    effective = None
    if not missing:
        effective = address & (1 << _address_size(operand, instruction, cpu, mode)) - 1

    segment = cpu.segments.get(operand.segment)
    base: int | None
    if mode.bitness == 64 and operand.segment not in ("fs", "gs"):
        base = 0
    elif segment is None:
        base = None
        missing += (operand.segment,)
    else:
        base = segment.base
    linear = None
    canonical = None
    if effective is not None and base is not None:
        linear = (base + effective) & (_MASK64 if mode.bitness == 64 else _MASK32)
        canonical = _canonical(linear, registers.get("cr4")) if mode.bitness == 64 else None
    return Operand(operand.segment, effective, linear, operand.size, operand.access, canonical, missing)


def _address_size(operand: MemoryOperand, instruction: Instruction, cpu: Cpu, mode: Mode) -> int:
    """Pushes and pops use the size SS.B says, whatever the code's size (SDM vol. 1, 6.2.3)."""
    if operand.stack and instruction.stack and mode.bitness != 64:
        ss = cpu.segments.get("ss")
        if ss is not None and ss.attributes:
            return 32 if ss.big else 16
    return operand.address_size


def _canonical(linear: int, cr4: int | None) -> bool | None:
    if linear >> 47 in (0, 0x1FFFF):
        return True
    if linear >> 56 not in (0, 0xFF):
        return False
    return None if cr4 is None else bool(cr4 & _CR4_LA57)
