"""Lines as they were before somebody posted them: without quoting, numbers and marks, joined where they were broken.

What is taken off carries no meaning: who wrote a line, and when, is left to ``log_prefix``. Each step looks first
whether there is anything to do: most texts are as they were printed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.mail import DECODED_QUOTED_PRINTABLE, undo_in_lines
from kvmwhy.ingest.marker_prefix import learned, may_be_learned, of_file, without, without_marks

_BEFORE_QUOTES: Final = (" ", "\t", ">", "|", "[")
_LATER_QUOTE: Final = deferred(r"\n[ \t>|\[]")
_QUOTE: Final = deferred(r"[ \t]*(?:[>|]|\[\*\])(?:[>| \t]|\[\*\])*")
_CELL_END: Final = deferred(r"(?<=\S)[ \t]{1,16}\|[| \t]{0,16}$")  # of a table's rows
_MOST_MARKS: Final = 2  # numbers before quoted lines, quoted again
_FEWEST: Final = 4
_INTACT: Final = deferred(r"Code=(?:<?[0-9a-f?]{2}>? ){40}[^\n]{20}")
_ONE_REPORT: Final = 8 << 10

REJOINED: Final = "lines were broken by a mailer or a terminal; they were joined"


class Posted(NamedTuple):
    """``numbers`` are those of the lines in the text, from 0; ``widths`` the columns that they took there."""

    lines: list[str]
    numbers: list[int]
    widths: list[int]
    repairs: tuple[str, ...] = ()

    def only(self, kept: list[int]) -> Posted:
        lines, numbers, widths = ([each[n] for n in kept] for each in (self.lines, self.numbers, self.widths))
        return self._replace(lines=lines, numbers=numbers, widths=widths)  # type: ignore[arg-type]  # as they were


def restore(text: str) -> Posted | None:
    """``None`` if they are as they were."""
    lines = text.split("\n")
    posted = first = Posted(lines, list(range(len(lines))), list(map(len, lines)))
    if text.startswith(_BEFORE_QUOTES) or _LATER_QUOTE.search(text):
        unquoted = _unquoted(posted.lines)
        posted = posted if unquoted == posted.lines else posted._replace(lines=unquoted)
    posted = _without_margins(posted)
    for _ in range(_MOST_MARKS):
        bare = without_marks(posted.lines)
        if bare is None:
            break
        posted = posted._replace(lines=_unquoted(bare))
    if "=3D" in text or "=\n" in text:
        posted = _decoded(posted)
    posted = _joined(posted, text)
    return None if posted is first else posted


def _without_margins(posted: Posted) -> Posted:
    """Without the empty lines, columns and table cells that were put between and around the lines."""
    lines = posted.lines
    if _is_doubled(lines):
        posted = posted.only([n for n, line in enumerate(lines) if line.strip() or n + 1 == len(lines)])
        lines = posted.lines
    filled = [line for line in lines if line.strip()]
    first = filled[0] if filled else ""
    if sum(map(str.isspace, [line[-2:] for line in filled])) * 5 > 4 * len(filled):
        posted = posted._replace(lines=[line.rstrip() for line in lines])
        lines = posted.lines
    if first[:1] in {" ", "\t"} and (indent := _common_indent(lines)):
        posted = posted._replace(lines=[line[indent:] for line in lines])
        lines = posted.lines
    if _CELL_END.search(first):
        bare = [_CELL_END.sub("", line) for line in lines]
        if sum(map(str.__ne__, bare, lines)) * 5 > 4 * len(filled):
            posted = posted._replace(lines=bare)
    return posted


def _decoded(posted: Posted) -> Posted:
    decoded = undo_in_lines(posted.lines)
    if decoded is None:
        return posted
    lines = [line for _, line in decoded]
    numbers = [posted.numbers[n] for n, _ in decoded]
    return Posted(lines, numbers, list(map(len, lines)), (DECODED_QUOTED_PRINTABLE,))


def _joined(posted: Posted, text: str) -> Posted:
    """With lines joined that were broken, and without a prefix of unknown form."""
    prefix = (learned(posted.lines) if may_be_learned(text) else None) or of_file(posted.lines)
    if len(text) > _ONE_REPORT or not _INTACT.search(text):
        from kvmwhy.ingest.broken_lines import Piece, rejoin
        from kvmwhy.ingest.line_starts import STAMPED

        stamped: Callable[[str], object] = STAMPED.match
        if prefix is not None:
            stamped = lambda line: prefix.match(line) or STAMPED.match(line)  # noqa: E731
        pieces = rejoin(list(map(Piece, posted.lines, posted.widths)), stamped)
        if len(pieces) < len(posted.lines):
            firsts = [first for first, _ in pieces]
            posted = posted.only(firsts)._replace(
                lines=[line for _, line in pieces], repairs=(*posted.repairs, REJOINED)
            )
    return posted if prefix is None else posted._replace(lines=without(posted.lines, prefix))


def _is_doubled(lines: list[str]) -> bool:
    """Whether an empty line stands behind every line."""
    if lines.count("") * 8 < len(lines) * 3 or len(lines) < _FEWEST:
        return False
    empty = [not line.strip() for line in lines]
    filled = [n for n, is_empty in enumerate(empty) if not is_empty]
    return sum(empty[n + 1] for n in filled if n + 1 < len(lines)) >= len(filled) - 1 - len(filled) // 16


def _common_indent(lines: list[str]) -> int:
    """The columns that are empty before every line; a single one may be the format's own."""
    least = 0
    for line in lines:
        if bare := line.lstrip(" \t"):
            indent = len(line) - len(bare)
            least = min(least, indent) if least else indent
            if not indent or (indent == 1 and line[0] == " "):
                return 0
    return least


def _unquoted(lines: list[str]) -> list[str]:
    return [line[match.end() :] if (match := _QUOTE.match(line)) else line for line in lines]
