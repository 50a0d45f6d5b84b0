"""Where a load or store of RV64 points: its base register, and what the encoding adds to it.

The RISC-V Instruction Set Manual, vol. I: formats I and S, "A" (no offset), and of "C" the formats CL, CS, CI and CSS.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_STACK_POINTER: Final = 2
# Of the compressed ones by quadrant and funct3: FLD, LW, LD and FSD, SW, SD; those on the stack likewise.
_SIZES: Final = {1: 3, 2: 2, 3: 3, 5: 3, 6: 2, 7: 3}  # log2


class Operand(NamedTuple):
    base: int  # a register's number
    offset: int = 0
    store: bool = False


def length(code: bytes) -> int:
    """Of the first instruction: 2 if it is compressed, else 4. Longer ones are reserved."""
    return 4 if code[:1] and code[0] & 3 == 3 else 2


def operand(code: bytes) -> Operand | None:
    """None for what is no load or store."""
    if len(code) < length(code):
        return None
    word = int.from_bytes(code[: length(code)], "little")
    if length(code) == 2:
        return _compressed(word)
    base = _bits(word, 19, 15)
    match word & 0x7F:
        case 0x03 | 0x07:
            return Operand(base, _signed(_bits(word, 31, 20)))
        case 0x23 | 0x27:
            return Operand(base, _signed(_bits(word, 31, 25) << 5 | _bits(word, 11, 7)), store=True)
        case 0x2F:
            return Operand(base, store=_bits(word, 31, 27) != _LR)
    return None


def _compressed(word: int) -> Operand | None:
    funct3 = _bits(word, 15, 13)
    size = _SIZES.get(funct3)
    if size is None or word & 3 not in {0, 2}:
        return None
    store = funct3 > 4
    if word & 3 == 0:  # CL, CS: registers 8 to 15
        high = _bits(word, 12, 10) << 3
        offset = high | (_bits(word, 6, 5) << 6 if size == 3 else _bits(word, 6, 6) << 2 | _bits(word, 5, 5) << 6)
        return Operand(8 + _bits(word, 9, 7), offset, store)
    if store:  # CSS
        low = _bits(word, 12, 10) << 3 if size == 3 else _bits(word, 12, 9) << 2
        offset = low | (_bits(word, 9, 7) if size == 3 else _bits(word, 8, 7)) << 6
    elif size == 3:  # CI
        offset = _bits(word, 12, 12) << 5 | _bits(word, 6, 5) << 3 | _bits(word, 4, 2) << 6
    else:
        offset = _bits(word, 12, 12) << 5 | _bits(word, 6, 4) << 2 | _bits(word, 3, 2) << 6
    return Operand(_STACK_POINTER, offset, store)


_LR: Final = 0b00010


def _bits(word: int, high: int, low: int) -> int:
    return word >> low & (1 << high - low + 1) - 1


def _signed(value: int) -> int:
    return value - (1 << 12) if value >> 11 else value
