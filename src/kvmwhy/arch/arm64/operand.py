"""Where a load or store of A64 points: its base register, and what the encoding adds to it.

Arm ARM DDI 0487, "Loads and Stores"; bit numbers as there. An index register is taken as zero.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.arm64.load_store import LoadStore, load_store

STACK_POINTER: Final = 31


class Operand(NamedTuple):
    """``base`` is a register's number, 31 the stack pointer; ``added`` an index register's, 31 zero.

    ``is_changed``: of the index only 32 bits are taken, or it is shifted.
    """

    base: int
    offset: int = 0
    added: int | None = None
    is_changed: bool = False


def operand(word: int) -> Operand | None:
    """None for what is no load or store, and for one whose address is relative to the PC."""
    access = load_store(word)
    if not isinstance(access, LoadStore) or access.form == "literal":
        return None
    if _bits(word, 29, 27) == 0b011 and not _bits(word, 24, 24):  # LDR of a literal into a SIMD register; PRFM of one
        return None
    base = _bits(word, 9, 5)
    match _bits(word, 29, 28):
        case 0b10:  # a pair: bits 24:23 are 01 where the base is changed afterwards
            return Operand(base, 0 if _bits(word, 24, 23) == 0b01 else _signed(word, 21, 15) << _pair_scale(word))
        case 0b11:
            return _register(word, base, access)
        case 0b01 if _bits(word, 24, 24) and _bits(word, 11, 10) == 0b00:  # LDAPUR, STLUR
            return Operand(base, _signed(word, 20, 12))
        case _:
            return Operand(base)


def _register(word: int, base: int, access: LoadStore) -> Operand:
    if _bits(word, 24, 24):
        return Operand(base, _bits(word, 21, 10) << _scale(word))
    low = _bits(word, 11, 10)
    if _bits(word, 21, 21):
        if low == 0b10:
            whole = _bits(word, 14, 13) == 0b11 and not _bits(word, 12, 12)  # LSL #0 or SXTX, not UXTW or SXTW
            return Operand(base, added=_bits(word, 20, 16), is_changed=not whole)
        if low & 1:  # LDRAA, LDRAB: ten bits, of which the first stands apart
            return Operand(base, (_signed(word, 22, 22) << 9 | _bits(word, 20, 12)) << 3)
        return Operand(base)
    if access.form == "memory tag":
        return Operand(base)
    return Operand(base, 0 if low == 0b01 else _signed(word, 20, 12))


def _scale(word: int) -> int:
    """log2 of the access's size: a SIMD register of 128 bits has size 0 and opc above 1."""
    size = _bits(word, 31, 30)
    return 4 if _bits(word, 26, 26) and _bits(word, 23, 23) and size == 0 else size


def _pair_scale(word: int) -> int:
    opc = _bits(word, 31, 30)
    if _bits(word, 26, 26):
        return 2 + opc
    return 3 if opc & 0b10 else 4 if opc == 0b01 and not _bits(word, 22, 22) else 2  # STGP counts in tags' granules


def _bits(word: int, high: int, low: int) -> int:
    return word >> low & (1 << high - low + 1) - 1


def _signed(word: int, high: int, low: int) -> int:
    value = _bits(word, high, low)
    return value - (1 << high - low + 1) if value >> high - low else value
