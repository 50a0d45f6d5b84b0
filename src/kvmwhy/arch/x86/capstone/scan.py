"""Prefixes, opcode map, opcode and ModRM of an encoding, read from its bytes.

What a disassembler leaves out or gets wrong is decided by these: EVEX's mask and broadcast, a prefix that chooses the
opcode, the size of the operand.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.instruction import MAX_LENGTH, Encoding

OPERAND_SIZE: Final = 0x66
ADDRESS_SIZE: Final = 0x67
LOCK: Final = 0xF0
REPNE: Final = 0xF2
REP: Final = 0xF3
MANDATORY: Final = frozenset({OPERAND_SIZE, REP, REPNE})  # what can choose an opcode behind 0F
_SEGMENTS: Final = {0x26: "es", 0x2E: "cs", 0x36: "ss", 0x3E: "ds", 0x64: "fs", 0x65: "gs"}
_LEGACY: Final = frozenset({*_SEGMENTS, *MANDATORY, ADDRESS_SIZE, LOCK})
_ESCAPES: Final = {0x38: 2, 0x3A: 3}
_ESCAPE_LENGTH: Final = (0, 1, 2, 2)


class Scan(NamedTuple):
    """Where the parts of an encoding are. ``opcode`` and ``modrm`` are ``None`` where the bytes end before them."""

    bitness: int
    prefixes: frozenset[int]
    repeat: int  # the last of F2 and F3, or 0
    segment: str | None  # the segment prefix that counts; of CS, DS, ES and SS in 64-bit code it has no effect
    rex: int  # 0: none
    encoding: Encoding
    number: int  # opcode map: 0 one byte, 1 behind 0F, 2 behind 0F 38, 3 behind 0F 3A; VEX's, EVEX's and XOP's own
    opcode: int | None
    modrm: int | None
    at: int  # of the opcode
    mandatory: int = 0  # pp of VEX and EVEX: 66, F3, F2
    wide: bool = False  # W of REX, VEX, EVEX, XOP
    vector: int = 0  # log2 of the vector's length in 16 bytes
    mask: int = 0  # EVEX.aaa
    zeroing: bool = False
    broadcast: bool = False  # EVEX.b: broadcast of memory, rounding or SAE of registers

    @property
    def legacy(self) -> bool:
        return self.encoding == "legacy"

    @property
    def memory(self) -> bool:
        """ModRM has a memory operand, if the opcode has a ModRM."""
        return self.modrm is not None and self.modrm < 0xC0

    @property
    def operation(self) -> int:
        """The field of ModRM that extends an opcode."""
        return (self.modrm or 0) >> 3 & 7

    @property
    def escape(self) -> int:
        """How many bytes before a legacy opcode choose its map."""
        return _ESCAPE_LENGTH[self.number]

    @property
    def operand_size(self) -> int:
        """In bits, of a general register, by the code's size, 66 and W."""
        if self.wide:
            return 64
        return 16 if (OPERAND_SIZE in self.prefixes) == (self.bitness != 16) else 32

    @property
    def address_size(self) -> int:
        if ADDRESS_SIZE in self.prefixes:
            return 16 if self.bitness == 32 else 32
        return self.bitness

    @property
    def segment_counts(self) -> bool:
        return self.segment is not None and (self.bitness != 64 or self.segment in {"fs", "gs"})


def scan(code: bytes, bitness: int) -> Scan:
    """The parts of the first instruction in ``code``."""
    code = code[:MAX_LENGTH]
    at = rex = repeat = 0
    segment: str | None = None
    prefixes = set()
    while at < len(code):
        byte = code[at]
        if byte in _LEGACY:
            prefixes.add(byte)
            rex = 0
            name = _SEGMENTS.get(byte)
            if name and (bitness != 64 or segment not in {"fs", "gs"} or name in {"fs", "gs"}):
                segment = name
            if byte in {REP, REPNE}:
                repeat = byte
        elif bitness == 64 and byte & 0xF0 == 0x40:
            rex = byte
        else:
            break
        at += 1
    prefix_scan = Scan(bitness, frozenset(prefixes), repeat, segment, rex, "legacy", 0, None, None, at)
    return (None if rex else _vector(code, prefix_scan)) or _legacy(code, prefix_scan)


def _byte(code: bytes, at: int) -> int | None:
    return code[at] if at < len(code) else None


def _legacy(code: bytes, prefix_scan: Scan) -> Scan:
    at, number = prefix_scan.at, 0
    encoding: Encoding = "legacy"
    if _byte(code, at) == 0x0F:
        second = _byte(code, at + 1)
        number = _ESCAPES.get(second or 0, 1)
        encoding = "3dnow" if second == 0x0F else "legacy"
        at += _ESCAPE_LENGTH[number]
    return prefix_scan._replace(
        encoding=encoding,
        number=number,
        opcode=_byte(code, at),
        modrm=_byte(code, at + 1),
        at=at,
        wide=bool(prefix_scan.rex & 8),
    )


def _vector(code: bytes, prefix_scan: Scan) -> Scan | None:
    """VEX, EVEX and XOP: in 16- and 32-bit code only what LDS, LES, BOUND and POP do not take."""
    at = prefix_scan.at
    first, second = _byte(code, at), _byte(code, at + 1)
    if second is None:
        return None
    taken = prefix_scan.bitness != 64 and second < 0xC0
    payload = code[at + 1 : at + 4] + bytes(3)
    if first == 0xC5 and not taken:
        return _parts(code, prefix_scan, 2, 1, payload[0] & 0x7F)
    if first == 0xC4 and not taken:
        return _parts(code, prefix_scan, 3, payload[0] & 0x1F, payload[1])
    if first == 0x8F and second & 0x1F >= 8:
        return _parts(code, prefix_scan, 3, payload[0] & 0x1F, payload[1])._replace(encoding="xop")
    if first == 0x62 and not taken:
        last = payload[2]
        return _parts(code, prefix_scan, 4, payload[0] & 7, payload[1])._replace(
            encoding="evex", vector=last >> 5 & 3, mask=last & 7, zeroing=bool(last & 0x80), broadcast=bool(last & 0x10)
        )
    return None


def _parts(code: bytes, prefix_scan: Scan, length: int, number: int, payload: int) -> Scan:
    at = prefix_scan.at + length
    return prefix_scan._replace(
        encoding="vex",
        number=number,
        opcode=_byte(code, at),
        modrm=_byte(code, at + 1),
        at=at,
        mandatory=payload & 3,
        wide=bool(payload & 0x80),
        vector=payload >> 2 & 1,
    )
