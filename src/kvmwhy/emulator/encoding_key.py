"""What an emulator can tell apart in an instruction's bytes, as one number: forms with the same key are equal.

Left out is what no decoder looks at to choose an instruction: segment overrides, the address size, which registers
and which address, displacement, immediates. Kept are the mode, the encoding, the map, the opcode, the prefixes that
select, LOCK, REX.W, the vector length, ModRM.reg where it selects, and whether ModRM names memory.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Mode = Literal["real16", "prot16", "prot32", "long64"]
MODES: Final[tuple[Mode, ...]] = ("real16", "prot16", "prot32", "long64")
# The modes of x86.mode that KVM's emulator takes for one of these. It has vm86 as a mode of its own.
SAME: Final[dict[str, Mode]] = {"compat16": "prot16", "compat32": "prot32", **{mode: mode for mode in MODES}}

LEGACY, VEX, EVEX, XOP, REX2 = range(5)
_NO_MODRM, _MEMORY, _REGISTER = range(3)
_MAX_LENGTH: Final = 15

# From the lowest bit: rm:3 reg:3 shape:2 | aaa z b vvvv | W | F2 F3 66 LOCK | pp:2 L:2 | opcode:8 map:5 encoding:3
# mode:2
_SHAPE, _EXTRA, _W, _PREFIX, _LENGTH, _OPCODE, _MAP, _ENCODING, _MODE = 6, 8, 12, 13, 17, 21, 29, 34, 37
BITS: Final = 39
UNUSED_VVVV: Final = 1 << _EXTRA + 3
_EVEX_ONLY: Final = 7 << _EXTRA
REX_W: Final = 1 << _W
F2, F3, OPERAND_SIZE, LOCK = (1 << _PREFIX + n for n in range(4))


def _bits(*ranges: tuple[int, int]) -> frozenset[int]:
    return frozenset(n for first, last in ranges for n in range(first, last + 1))


_ARITHMETIC: Final = tuple((row + column, row + column + 3) for row in range(0, 0x40, 16) for column in (0, 8))
_MODRM_0: Final = _bits(
    *_ARITHMETIC,
    *((0x62, 0x63), (0x69, 0x69), (0x6B, 0x6B), (0x80, 0x8F), (0xC0, 0xC1), (0xC4, 0xC7), (0xD0, 0xD3)),
    *((0xD8, 0xDF), (0xF6, 0xF7), (0xFE, 0xFF)),
)
_NO_MODRM_0F: Final = _bits(
    *((0x04, 0x0C), (0x0E, 0x0E), (0x30, 0x37), (0x77, 0x77), (0x80, 0x8F), (0xA0, 0xA2), (0xA8, 0xAA), (0xC8, 0xCF))
)
# ModRM.reg selects the instruction, or, for moves of control and segment registers, whether there is one.
_REG_0: Final = _bits(
    *((0x80, 0x83), (0x8C, 0x8C), (0x8E, 0x8F), (0xC0, 0xC1), (0xC6, 0xC7), (0xD0, 0xD3), (0xD8, 0xDF)),
    *((0xF6, 0xF7), (0xFE, 0xFF)),
)
_REG_0F: Final = _bits(
    *((0x00, 0x01), (0x0D, 0x0D), (0x18, 0x26), (0x71, 0x73), (0xA6, 0xA7), (0xAE, 0xAE), (0xBA, 0xBA), (0xC7, 0xC7))
)
_REG: Final = {
    (LEGACY, 0): _REG_0,
    (LEGACY, 1): _REG_0F,
    (VEX, 1): _bits((0x71, 0x73), (0xAE, 0xAE)),
    (VEX, 2): _bits((0x49, 0x49), (0xF3, 0xF3)),
    (EVEX, 1): _bits((0x71, 0x73)),
    (EVEX, 2): _bits((0xC6, 0xC7)),
    (EVEX, 4): _REG_0,  # APX: map 0 again, promoted
    (XOP, 9): _bits((0x01, 0x02), (0x12, 0x12)),
    (XOP, 10): _bits((0x12, 0x12)),
}
# With a register, ModRM.rm selects as well.
_RM: Final = {(LEGACY, 0): _bits((0xC6, 0xC7), (0xD8, 0xDF)), (LEGACY, 1): _bits((0x01, 0x01), (0x1E, 0x1E))}
_NOTHING: Final = frozenset[int]()
_LEGACY_PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x67))
_MODE_BITS: Final = {mode: n << _MODE for n, mode in enumerate(MODES)}


class _Opcode(NamedTuple):
    """An opcode found: where it is, and the bits of its key but for ModRM's."""

    at: int
    encoding: int
    number: int  # of the map
    bits: int


def key_of(code: bytes, mode: Mode) -> int | None:
    """The key of the first instruction in ``code``; None if the bytes end before it is known."""
    try:
        opcode = _opcode(code[:_MAX_LENGTH], mode)
        byte = code[opcode.at]
        key = opcode.bits | byte << _OPCODE | opcode.number << _MAP | opcode.encoding << _ENCODING | _MODE_BITS[mode]
        if not _has_modrm(opcode, byte):
            return key
        modrm = code[opcode.at + 1]
    except IndexError:
        return None
    which = (opcode.encoding, opcode.number)
    register = modrm >= 0xC0 or (which == (LEGACY, 1) and 0x20 <= byte <= 0x26)  # moves of CR, DR, TR ignore mod
    key |= (_REGISTER if register else _MEMORY) << _SHAPE
    if byte in _REG.get(which, _NOTHING):
        key |= (modrm >> 3 & 7) << 3
    if register and byte in _RM.get(which, _NOTHING):
        key |= modrm & 7
    return key


class Place(NamedTuple):
    """Where an instruction stands in the opcode space: how it is encoded, the number of its map, its opcode byte."""

    encoding: int
    number: int
    opcode: int


def place_of(code: bytes, mode: Mode) -> Place | None:
    """That of the first instruction in ``code``; None if the bytes end before it is known."""
    try:
        opcode = _opcode(code[:_MAX_LENGTH], mode)
        return Place(opcode.encoding, opcode.number, code[opcode.at])
    except IndexError:
        return None


def _has_modrm(opcode: _Opcode, byte: int) -> bool:
    if opcode.encoding in {LEGACY, REX2}:
        return byte in _MODRM_0 if opcode.number == 0 else opcode.number != 1 or byte not in _NO_MODRM_0F
    return (opcode.encoding, opcode.number, byte) != (VEX, 1, 0x77)


def _opcode(code: bytes, mode: Mode) -> _Opcode:
    """Raises IndexError if the bytes end before the opcode does."""
    long = mode == "long64"
    at = bits = rex = 0
    while True:
        byte = code[at]
        if byte == 0x66:
            bits |= OPERAND_SIZE
        elif byte == 0xF2:
            bits = bits & ~F3 | F2
        elif byte == 0xF3:
            bits = bits & ~F2 | F3
        elif byte == 0xF0:
            bits |= LOCK
        elif long and byte & 0xF0 == 0x40:
            rex = byte
            at += 1
            continue
        elif byte not in _LEGACY_PREFIXES:
            break
        rex = 0  # a legacy prefix after REX cancels it
        at += 1
    after = code[at + 1] if at + 1 < len(code) else 0
    if byte in (0xC4, 0xC5) and (long or after >= 0xC0):
        return _vex(code, at, bits)
    if byte == 0x62 and (long or after >= 0xC0):
        return _evex(code, at, bits)
    if byte == 0x8F and after & 0x1F >= 8 and at + 4 < len(code):  # to KVM it is POP, with whatever ModRM.reg
        return _three_bytes(code, at, bits, XOP)
    if byte == 0xD5 and long:
        bits |= REX_W if after & 8 else 0
        return _Opcode(at + 2, REX2, after >> 7, bits)
    if rex & 8:
        bits |= REX_W
    if byte != 0x0F:
        return _Opcode(at, LEGACY, 0, bits)
    if after == 0x38:
        return _Opcode(at + 2, LEGACY, 2, bits)
    if after == 0x3A:
        return _Opcode(at + 2, LEGACY, 3, bits)
    return _Opcode(at + 1, LEGACY, 1, bits)


def _vex(code: bytes, at: int, bits: int) -> _Opcode:
    if code[at] == 0xC4:
        return _three_bytes(code, at, bits, VEX)
    last = code[at + 1]
    return _Opcode(at + 2, VEX, 1, bits | _last(last))


def _three_bytes(code: bytes, at: int, bits: int, encoding: int) -> _Opcode:
    last = code[at + 2]
    bits |= REX_W if last & 0x80 else 0
    return _Opcode(at + 3, encoding, code[at + 1] & 0x1F, bits | _last(last))


def _last(byte: int) -> int:
    """vvvv, L and pp, as VEX and XOP have them."""
    return (UNUSED_VVVV if byte & 0x78 == 0x78 else 0) | (byte & 7) << _LENGTH


def _evex(code: bytes, at: int, bits: int) -> _Opcode:
    """SDM vol. 2A, 2.7.1: P0 R X B R' 0 m m m, P1 W vvvv 1 pp, P2 z L'L b V' aaa."""
    first, second, third = code[at + 1], code[at + 2], code[at + 3]
    bits |= REX_W if second & 0x80 else 0
    bits |= UNUSED_VVVV if second & 0x78 == 0x78 else 0
    bits |= (bool(third & 7) | bool(third & 0x80) << 1 | bool(third & 0x10) << 2) << _EXTRA
    bits |= ((third >> 5 & 3) << 2 | second & 3) << _LENGTH
    number = first & 7 if second & 4 else 8 | first & 7  # bit 2 of P1 is clear in MVEX
    return _Opcode(at + 4, EVEX, number, bits)


def mode_of(key: int) -> Mode:
    return MODES[key >> _MODE]


def relaxed(key: int) -> tuple[tuple[int, str], ...]:
    """Keys of forms that are the same instruction on a CPU, the closest first, and what they leave out."""
    encoding = key >> _ENCODING & 7
    keys: list[tuple[int, str]] = []

    def without(bits: int, name: str) -> None:
        base, dropped = keys[-1] if keys else (key, "")
        if base & bits:
            keys.append((base & ~bits, f"{dropped}, {name}" if dropped else name))

    if encoding == LEGACY:
        without(REX_W, "REX.W")
        without(F2 | F3, "the F2 or F3 prefix")
        without(OPERAND_SIZE, "the 66 prefix")
        return tuple(keys)
    if key & UNUSED_VVVV:
        keys.append((key & ~UNUSED_VVVV, "vvvv"))
    else:
        keys.append((key | UNUSED_VVVV, "vvvv"))
    bare = key & ~_EVEX_ONLY
    if bare != key:
        keys += [(bare, "masking and broadcast"), (bare ^ UNUSED_VVVV, "vvvv, masking and broadcast")]
    keys += [(looser ^ REX_W, f"{dropped}, W" if dropped else "W") for looser, dropped in ((key, ""), *keys)]
    return tuple(keys)
