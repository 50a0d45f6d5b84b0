"""Lines of a dump as the kernel's own format strings have them, turned into patterns.

A table of forms reads like the kernel's source: ``"RSP = 0x%x  RIP = 0x%x"`` with the names of what
is printed. Spaces in a form stand for any number of spaces, none included, since a form's padding
changed from kernel to kernel and mail folds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

_VALUES = {"%x": "([0-9a-f]{1,16})", "%d": "(-?[0-9]{1,20})"}
_PIECE = re.compile(r"%[xd]| +|\t|[^% \t]+")
_MASK64 = (1 << 64) - 1


class Form(NamedTuple):
    """One line of a dump: its format, the names of its values, and the bases they are printed in."""

    text: str
    names: tuple[str, ...]
    bases: tuple[int, ...]


class Reading(NamedTuple):
    """What one form matched: which form of the section, and its values by name."""

    form: int
    values: dict[str, int]
    start: int


_NARROW: Final = 5
_WIDE: Final = frozenset({8, 16})


class Section:
    """The forms that may follow one heading; all of them are one pattern."""

    def __init__(self, name: str, forms: Sequence[tuple[str, str]]) -> None:
        self.name = name
        self.forms = tuple(Form(text, tuple(names.split()), _bases(text)) for text, names in forms)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Compiled when the first dump is read: most evidence has none."""
        choice = "|".join(f"(?P<f{n}>{_pattern(form.text)})" for n, form in enumerate(self.forms))
        return re.compile(rf"(?<![\w.])(?:{choice})(?![0-9A-Za-z])")

    def read(self, line: str) -> Iterator[Reading]:
        """Every form in the line, from left to right: some of the kernel's lines are made of several."""
        for match in self._pattern.finditer(line):
            number = int((match.lastgroup or "f0")[1:])
            form = self.forms[number]
            first = self._pattern.groupindex[f"f{number}"] + 1
            texts = match.groups()[first - 1 : first - 1 + len(form.names)]
            values = {
                name: int(text, base) & _MASK64
                for name, text, base in zip(form.names, texts, form.bases, strict=True)
                if not _is_torn(text)
            }
            yield Reading(number, values, match.start())


def _is_torn(digits: str) -> bool:
    """Zeros in front are of a field of fixed width, %02x to %05x, %08x or %016x: of any other, digits are lost."""
    return digits.startswith("0") and len(digits) > _NARROW and len(digits) not in _WIDE


def _bases(text: str) -> tuple[int, ...]:
    return tuple(16 if piece == "%x" else 10 for piece in _PIECE.findall(text) if piece.startswith("%"))


def _pattern(text: str) -> str:
    spaced = text.replace("%x %x", "%x\t%x")  # here a space is what tells two values from one
    pieces = [_VALUES.get(p) or {"\t": r"\s+"}.get(p) or _literal(p) for p in _PIECE.findall(spaced)]
    return "".join(pieces)


def _literal(piece: str) -> str:
    return r"\s*" if piece.isspace() else re.escape(piece)
