"""From what a person calls an instruction to the forms that were measured.

There is no assembler here: the text's mnemonic and the kinds of its operands are compared with those of every form.
``movntdqa xmm0, [rdi]`` and ``movntdqa xmm2, xmmword ptr [rbx]`` have the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Final, NamedTuple

from kvmwhy.emulator.atlas import Atlas, Measured, Row
from kvmwhy.probe.att_syntax import is_att, to_intel
from kvmwhy.probe.encodings import Mode, text_of

MAX_TEXT: Final = 200
_ALIKE: Final = 0.6  # of difflib's ratio: 1 is equal
_PREFIXES: Final = ("lock", "rep", "repe", "repz", "repne", "repnz", "xacquire", "xrelease", "bnd", "notrack")
_SAME_PREFIX: Final = {"repz": "rep", "repe": "rep", "repnz": "repne"}
_SIZES: Final = {
    "byte": 1,
    "word": 2,
    "dword": 4,
    "fword": 6,
    "qword": 8,
    "tbyte": 10,
    "xmmword": 16,
    "ymmword": 32,
    "zmmword": 64,
}
_SIZE: Final = re.compile(r"(\w+)\s+(?:ptr|bcst)\b")
_BYTES: Final = frozenset(("al", "bl", "cl", "dl", "ah", "bh", "ch", "dh", "sil", "dil", "bpl", "spl")) | {
    f"r{n}b" for n in range(8, 32)
}
_NAMES: Final = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
_WORDS: Final = frozenset(_NAMES) | {f"r{n}w" for n in range(8, 32)}
_QWORDS: Final = frozenset(f"r{name}" for name in _NAMES) | {f"r{n}" for n in range(8, 32)}
_DWORDS: Final = frozenset(f"e{name}" for name in _NAMES) | {f"r{n}d" for n in range(8, 32)}
_SEGMENTS: Final = frozenset(("es", "cs", "ss", "ds", "fs", "gs"))
_NUMBERED: Final = re.compile(r"(xmm|ymm|zmm|mm|k|tmm|bnd|cr|dr|tr|st)\(?\d*\)?(?:\+\d+)?")
_DECORATION: Final = re.compile(r"\{[^}]*\}")


class Operand(NamedTuple):
    """What kind it is; the size in bytes of one in memory, 0 if the text does not say."""

    kind: str
    size: int = 0

    def fits(self, other: Operand) -> bool:
        return self.kind == other.kind and (not self.size or not other.size or self.size == other.size)


class Shape(NamedTuple):
    prefixes: frozenset[str]
    mnemonic: str
    operands: tuple[Operand, ...]

    def fits(self, other: Shape) -> bool:
        """A shape without operands fits any that has some: a mnemonic alone asks about all of its forms."""
        if (self.mnemonic, self.prefixes) != (other.mnemonic, other.prefixes):
            return False
        if not self.operands:
            return True
        return len(self.operands) == len(other.operands) and all(
            mine.fits(theirs) for mine, theirs in zip(self.operands, other.operands, strict=True)
        )


def shape_of(text: str) -> Shape | None:
    """Of an instruction in Intel's syntax; None if it is nothing of the sort."""
    words = _DECORATION.sub("", text.lower()[:MAX_TEXT]).split()
    prefixes = set()
    while words and words[0] in _PREFIXES:
        prefixes.add(_SAME_PREFIX.get(words[0], words[0]))
        words.pop(0)
    while words and words[0] in {"data16", "data32", "data64", "addr16", "addr32"}:
        words.pop(0)
    if not words or not re.fullmatch(r"[a-z][a-z0-9_]*", words[0]):
        return None
    rest = " ".join(words[1:]).strip()
    return Shape(frozenset(prefixes), words[0], tuple(_operands(rest)))


def _operands(text: str) -> Iterator[Operand]:
    depth, start = 0, 0
    for at, character in enumerate(text + ","):
        depth += (character == "[") - (character == "]")
        if character == "," and depth <= 0:
            operand = text[start:at].strip()
            if operand and operand != "st":  # the top of the x87's stack: some write it, some do not
                yield _operand(operand)
            start = at + 1


def _operand(text: str) -> Operand:
    if "[" in text:
        size = _SIZE.match(text)
        return Operand("memory", _SIZES.get(size[1], 0) if size else 0)
    for kind, names in (("r8", _BYTES), ("r16", _WORDS), ("r32", _DWORDS), ("r64", _QWORDS), ("segment", _SEGMENTS)):
        if text in names:
            return Operand(kind)
    if numbered := _NUMBERED.fullmatch(text):
        return Operand(numbered[1])
    return Operand("constant")


class Found(NamedTuple):
    row: Row
    text: str


@cache
def _shapes(atlas: Atlas, mode: Mode) -> tuple[tuple[Shape, Row, str], ...]:
    rows = ((row, text_of(row.code.ljust(15, b"\xf4"), mode)) for row in atlas if row.mode == mode)
    return tuple((shape, row, text) for row, text in rows if (shape := shape_of(text)))


@cache
def mnemonics(atlas: Atlas, mode: Mode) -> frozenset[str]:
    """Of all measured forms."""
    return frozenset(shape.mnemonic for shape, _, _ in _shapes(atlas, mode))


def near(atlas: Atlas, text: str, mode: Mode) -> list[str]:
    """Mnemonics that the text's may have been meant to be, the nearest first."""
    wanted = shape_of(text)
    word = wanted.mnemonic if wanted else ""
    return get_close_matches(word, sorted(mnemonics(atlas, mode)), n=3, cutoff=_ALIKE) if word else []


def find(atlas: Atlas, text: str, mode: Mode) -> list[Found]:
    """The measured forms of that shape, one of those that came out alike; what CPUs have first, the shortest first.

    ``text`` is in Intel's syntax or in AT&T's.
    """
    known = mnemonics(atlas, mode)
    if is_att(text):
        text = to_intel(text, known)
    wanted = shape_of(text)
    if wanted is not None and not wanted.operands and wanted.mnemonic not in known:
        wanted = shape_of(to_intel(text, known))  # a mnemonic alone may have AT&T's suffix
    if wanted is None:
        return []
    matches: dict[tuple[Shape, tuple[Measured | None, ...]], Found] = {}
    for shape, row, spelling in _shapes(atlas, mode):
        which = (shape, row.verdicts)
        if wanted.fits(shape) and (which not in matches or (row.defined and not matches[which].row.defined)):
            matches[which] = Found(row, spelling)
    return sorted(matches.values(), key=lambda match: (not match.row.defined, len(match.row.code)))
