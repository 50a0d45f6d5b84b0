"""Styled lines: what the text renderers make, and how they reach a terminal or a pipe.

A page is plain data, so that it can be tested without a terminal; colour is the terminal's affair.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.text import Text

Style = Literal["answer", "head", "label", "good", "bad", "dim", "plain"]

_RICH = {
    "answer": "bold",
    "head": "bold cyan",
    "label": "cyan",
    "good": "green",
    "bad": "yellow",
    "dim": "dim",
    "plain": "",
}


class Line(NamedTuple):
    """A label and a text; the text is folded under itself."""

    text: str = ""
    style: Style = "plain"
    label: str = ""
    indent: int = 0
    label_style: Style = "label"
    whole: bool = False  # a command to copy: never folded


def fold(line: Line, width: int) -> list[str]:
    """The line as rows of at most ``width`` columns, except where one word is longer."""
    start = " " * line.indent + line.label
    if not line.text:
        return [start.rstrip()]
    if line.whole:
        return [start + line.text]
    return textwrap.wrap(
        line.text,
        max(width, 40),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [start.rstrip()]


def to_plain(lines: list[Line], width: int) -> str:
    return "\n".join(row for line in lines for row in fold(line, width)) + "\n"


def to_rich(lines: list[Line], width: int) -> Text:
    """The same rows with styles. Built from plain strings: no markup of a log is ever interpreted."""
    from rich.text import Text

    text = Text()
    for line in lines:
        for n, row in enumerate(fold(line, width)):
            cut = line.indent + len(line.label) if n == 0 else 0
            text.append(row[:cut], _RICH[line.label_style])
            text.append(row[cut:] + "\n", _RICH[line.style])
    return text
