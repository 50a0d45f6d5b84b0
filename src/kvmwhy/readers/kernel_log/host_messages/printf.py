"""A format string of printk turned into a pattern, with names for what it prints.

``"vmwrite failed: field=%lx val=%lx err=%u"`` is written in the tables as the kernel's source has it; a blank in it
stands for any white space, since mail folds lines and joins columns.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final, NamedTuple

_PIECE: Final = re.compile(
    r"%(?P<flags>[-+ #0]{0,4})(?P<width>[0-9]{1,3}|\*)?(?:\.(?:[0-9]{1,3}|\*))?(?:hh|h|ll|l|L|z)?"
    r"(?P<as>[xXduisc]|p[A-Za-z]{0,3})|\s+|%%|[^%\s]+"
)
_HEX: Final = r"([0-9a-fA-F]{1,16})"
_SIGNED: Final = r"(-?[0-9]{1,20})"
_POINTER: Final = r"((?:0x)?[0-9a-f]{1,16}|\(_{0,4}ptrval_{0,4}\)|\(null\)|[A-Za-z_][\w.+/-]{0,80}(?: \[\w{1,40}\])?)"
_WORDS: Final = r"(.{0,100}?)"
_LAST_WORDS: Final = r"(.{0,160})"
_MASK64: Final = (1 << 64) - 1

Value = int | str


class Format(NamedTuple):
    """``text`` as in the source, the names of its values in order (``_``: of no use), and what it means besides."""

    text: str
    names: tuple[str, ...] = ()
    means: tuple[tuple[str, Value], ...] = ()


class Found(NamedTuple):
    fields: dict[str, Value]
    end: int


class Pattern:
    """A format, compiled when a line has its mark for the first time."""

    def __init__(self, form: Format, mark: str | None = None) -> None:
        self.form = form
        self.mark = mark or _mark(form.text)

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str], tuple[bool | None, ...]]:
        return _compile(self.form.text)

    def read(self, text: str) -> Found | None:
        """The values, if the text begins as the format does."""
        pattern, is_hex = self._compiled
        match = pattern.match(text)
        if match is None:
            return None
        fields: dict[str, Value] = dict(self.form.means)
        for name, value, base in zip(self.form.names, match.groups(), is_hex, strict=False):
            if name != "_" and value is not None:
                fields[name] = _value(value.strip(), base)
        return Found(fields, match.end())


def form(text: str, names: str = "", **means: Value) -> Format:
    return Format(text, tuple(names.split()), tuple(means.items()))


def _value(text: str, is_hex: bool | None) -> Value:
    if is_hex is None:
        return text
    return int(text, 16 if is_hex else 10) & _MASK64 if is_hex or not text.startswith("-") else int(text)


def _compile(text: str) -> tuple[re.Pattern[str], tuple[bool | None, ...]]:
    pieces: list[str] = []
    is_hex: list[bool | None] = []
    parts = list(_PIECE.finditer(text.rstrip("\n")))
    for n, piece in enumerate(parts):
        kind = piece["as"]
        if piece["width"] and "0" not in piece["flags"] and kind != "s":
            pieces.append(" {0,24}")
        if piece[0] == "%%":
            pieces.append("%")
        elif piece[0].isspace():
            pieces.append(r"\s{1,40}" if n + 1 < len(parts) else "")
        elif kind is None:
            pieces.append(re.escape(piece[0]))
        elif kind in {"x", "X"}:
            pieces.append((r"(?:0x)?" if "#" in piece["flags"] else "") + _HEX)
            is_hex.append(True)
        elif kind in {"d", "i", "u"}:
            pieces.append(_SIGNED)
            is_hex.append(False)
        elif kind == "c":
            pieces.append("(.)")
            is_hex.append(None)
        elif kind.startswith("p"):
            pieces.append(_POINTER)
            is_hex.append(None)
        else:
            pieces.append(_LAST_WORDS if n + 1 == len(parts) else _WORDS)
            is_hex.append(None)
    tail = r"(?![0-9A-Za-z])" if parts and parts[-1]["as"] not in {"s", None} else ""
    return re.compile("".join(pieces) + tail), tuple(is_hex)


def _mark(text: str) -> str:
    """The longest text between two values: what a line must hold to be worth matching."""
    parts: list[str] = [""]
    for piece in _PIECE.finditer(text.rstrip("\n")):
        if piece["as"] or piece[0] == "%%":
            parts.append("")
        else:
            parts[-1] += piece[0] if not piece[0].isspace() or parts[-1] else ""
    return max((part.strip() for part in parts), key=len)
