"""Opcodes that capstone does not know, or reads without their operands, and what stands in for them.

An opcode with the same kinds of operands is asked for: ModRM, SIB, displacement and immediate are laid out alike, so
registers, address and length come out right, and only the name and the size in memory are ours to say (SDM vol. 2;
APM vol. 3; Intel's ISE reference for what is newer).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.capstone.scan import OPERAND_SIZE, REP, REPNE, Scan
from kvmwhy.arch.x86.capstone.values import Parsed, Register, low_half, word_set


class StandIn(NamedTuple):
    """``opcode``, with its escape bytes, is decoded in place of a legacy encoding's own."""

    name: str
    opcode: bytes
    operation: str | None = None  # its name in a form, where that is another
    swapped: bool = False  # its two operands are the other way round
    modrm: int | None = None  # in place of the encoding's own
    bare: bool = False  # it has no operands
    size: int | None = None
    wide_only: bool = False  # its registers have 32 bits or, with W, 64

    def encode(self, code: bytes, scanned: Scan) -> bytes:
        behind = scanned.at + 1
        if self.bare:
            return code[: scanned.at - scanned.escape] + self.opcode + code[behind + 1 :]
        modrm = code[behind : behind + 1] if self.modrm is None else bytes([self.modrm])
        return code[: scanned.at - scanned.escape] + self.opcode + modrm + code[behind + 1 :]

    def longer(self, scanned: Scan) -> int:
        return len(self.opcode) - scanned.escape - 1 - self.bare

    def in_its_place(self, parsed: Parsed) -> Parsed:
        operands = () if self.bare else parsed.operands[::-1] if self.swapped else parsed.operands
        if self.opcode in {_INC, _POP} or self.wide_only:  # 66 does not make these narrower
            bits = 64 if parsed.scan.wide or self.opcode == _POP else 32
            operands = tuple(
                Register(_resized(operand.name, bits)) if isinstance(operand, Register) else operand
                for operand in operands
            )
        named = parsed.named(self.name)._replace(operation=self.operation or self.name, operands=operands)
        return named if self.size is None else named.sized(self.size)


_IMUL: Final = b"\x0f\xaf"  # register, and register or memory, of any operand size
_INC: Final = b"\xff"  # with 0 in ModRM's middle: register or memory
_POP: Final = b"\x8f"  # the same with 64 bits
_RDTSC: Final = b"\x0f\x31"  # nothing

_HINT: Final = StandIn("nop", _IMUL, "reservednop", swapped=True)
# 0F 01 with a register in ModRM, by the last of 66, F3 and F2 before it.
_BARE: Final[dict[int, dict[int, str]]] = {
    0: {0xC6: "wrmsrns", 0xC7: "pbndkb", 0xE8: "serialize", 0xFD: "rdpru", 0xFE: "invlpgb", 0xFF: "tlbsync"},
    OPERAND_SIZE: {0xCC: "tdcall", 0xCD: "seamret", 0xCE: "seamops", 0xCF: "seamcall"},
    REP: {
        0xC6: "wrmsrlist",
        0xCA: "eretu",
        0xEC: "uiret",
        0xED: "testui",
        0xEE: "clui",
        0xEF: "stui",
        0xD9: "vmgexit",
        0xFA: "mcommit",
        0xFD: "rmpquery",
        0xFE: "rmpadjust",
        0xFF: "psmash",
    },
    REPNE: {
        0xC6: "rdmsrlist",
        0xCA: "erets",
        0xD9: "vmgexit",
        0xE8: "xsusldtrk",
        0xE9: "xresldtrk",
        0xFE: "rmpupdate",
        0xFF: "pvalidate",
    },
}
_LONG_ONLY: Final = word_set(
    "wrmsrlist rdmsrlist eretu erets uiret testui clui stui pbndkb seamret seamops seamcall rmpquery rmpadjust "
    "rmpupdate psmash"
)
# Aliases that no manual has any more, by opcode and ModRM's middle: they do what these do.
_X87: Final = {
    (0xDC, 2): ("fcom", 0xD8, 0xD0),
    (0xDC, 3): ("fcomp", 0xD8, 0xD8),
    (0xDE, 2): ("fcomp", 0xD8, 0xD8),
    (0xDD, 1): ("fxch", 0xD9, 0xC8),
    (0xDF, 1): ("fxch", 0xD9, 0xC8),
    (0xDF, 2): ("fstp", 0xDD, 0xD8),
    (0xDF, 3): ("fstp", 0xDD, 0xD8),
}
_KEY_LOCKER: Final = {
    0xDC: ("aesenc128kl", 48),
    0xDD: ("aesdec128kl", 48),
    0xDE: ("aesenc256kl", 64),
    0xDF: ("aesdec256kl", 64),
}
_KEY_LOCKER_WIDE: Final = (
    ("aesencwide128kl", 48),
    ("aesdecwide128kl", 48),
    ("aesencwide256kl", 64),
    ("aesdecwide256kl", 64),
)
_PREFETCHES: Final = (
    "prefetch",
    "prefetchw",
    "prefetchwt1",
    "prefetchw",
    "prefetch",
    "prefetch",
    "prefetch",
    "prefetch",
)
_PREFETCH: Final = b"\x0f\x18"


def _resized(name: str, bits: int) -> str:
    wide = name.rstrip("wd") if name[1].isdigit() else f"r{name[-2:]}"
    return wide if bits == 64 else low_half(wide, 32)


def stand_in(scanned: Scan) -> StandIn | None:
    if scanned.modrm is None or scanned.opcode is None or not scanned.legacy:
        return None
    match scanned.number:
        case 0:
            return _x87(scanned)
        case 1:
            return _behind_0f(scanned, scanned.opcode, scanned.modrm)
        case 2:
            return _behind_0f38(scanned, scanned.opcode)
        case _:
            return None


def _x87(scanned: Scan) -> StandIn | None:
    alias = _X87.get((scanned.opcode or 0, scanned.operation))
    if alias is None or scanned.memory:
        return None
    name, opcode, modrm = alias
    return StandIn(name, bytes([opcode]), modrm=modrm | (scanned.modrm or 0) & 7)


def _behind_0f(scanned: Scan, opcode: int, modrm: int) -> StandIn | None:
    operation = scanned.operation
    prefix = scanned.repeat or (OPERAND_SIZE if OPERAND_SIZE in scanned.prefixes else 0)
    inc = 0xC0 & modrm | modrm & 7
    match opcode:
        case 0x01 if not scanned.memory:
            name = _BARE[prefix].get(modrm)
            if name is None or (scanned.bitness != 64 and name in _LONG_ONLY):
                return None
            return StandIn(name, _RDTSC, bare=True)
        case 0x0D if not scanned.memory:
            return _HINT
        case 0x0D:
            return StandIn(_PREFETCHES[operation], _PREFETCH, modrm=inc)
        case 0x18 if scanned.memory and operation >= 6:
            return StandIn("prefetchit1" if operation == 6 else "prefetchit0", _PREFETCH, modrm=inc)
        case 0x18 if operation >= 4 or not scanned.memory:
            return _HINT
        case 0x19 | 0x1A | 0x1B | 0x1D:
            return _HINT
        case 0x1C if operation or prefix or not scanned.memory:
            return _HINT
        case 0x1E:
            known = not scanned.memory and (operation == 1 or modrm in {0xFA, 0xFB})
            return None if known and scanned.repeat == REP else _HINT
        case 0x1F if operation:
            return _HINT
        case 0xAE if prefix == REP and operation == 4:
            return StandIn("ptwrite", _INC, modrm=inc, size=8 if scanned.wide else 4)
        case 0xAE if prefix == REP and operation == 5 and not scanned.memory:
            return StandIn("incsspq" if scanned.wide else "incsspd", _INC, modrm=inc)
        case 0xAE if prefix == REP and operation == 6 and scanned.memory:
            return StandIn("clrssbsy", _INC, modrm=inc)
        case 0xAE if prefix == REPNE and operation == 6 and not scanned.memory:
            return StandIn("umwait", _INC, modrm=inc)
        case 0xC7 if prefix == REP and operation == 6 and not scanned.memory and scanned.bitness == 64:
            return StandIn("senduipi", _POP, modrm=inc)
        case 0xB9:
            return StandIn("ud1", _IMUL)
        case 0xFF:
            return StandIn("ud0", _IMUL)
        case 0xBC if scanned.repeat == REPNE:
            return StandIn("bsf", _IMUL)
        case 0xBD if scanned.repeat == REPNE:
            return StandIn("bsr", _IMUL)
        case _:
            return None


def _behind_0f38(scanned: Scan, opcode: int) -> StandIn | None:
    if scanned.repeat == REP and opcode in _KEY_LOCKER and scanned.memory:
        name, size = _KEY_LOCKER[opcode]
        return StandIn(name, b"\x0f\x10", size=size)  # F3 0F 10 is MOVSS
    if scanned.repeat == REP and opcode == 0xDC:
        return StandIn("loadiwkey", b"\x0f\x10")
    if scanned.repeat == REP and opcode == 0xD8 and scanned.memory and scanned.operation < 4:
        name, size = _KEY_LOCKER_WIDE[scanned.operation]
        return StandIn(name, _INC, modrm=0xC0 & (scanned.modrm or 0) | (scanned.modrm or 0) & 7, size=size)
    if scanned.repeat == REP and opcode in {0xFA, 0xFB} and not scanned.memory:
        return StandIn("encodekey128" if opcode == 0xFA else "encodekey256", _IMUL, wide_only=True)
    return None
