"""Where output goes: plain into a pipe, styled onto a terminal."""

from __future__ import annotations

import codecs
import io
import os
import sys

from kvmwhy.render.page import Line, to_plain, to_rich

_PIPE_WIDTH = 100
_MAX_WIDTH = 120
_TERMINAL_ROWS = 24


def suit_streams() -> None:
    """Let a locale without our characters (LC_ALL=C, latin-1) print the nearest ones, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            codecs.register_error(_NEAREST, _nearest)
            stream.reconfigure(errors=_NEAREST)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_ASCII.get(char, "?") for char in error.object[error.start : error.end]), error.end


_NEAREST = "kvmwhy.nearest"
_ASCII = {
    "·": "|", "─": "-", "│": "|", "█": "#", "▒": ":", "░": ".", "▲": "^", "–": "-", "…": "...", "×": "x", "≥": ">=",
    "≤": "<=", "µ": "u", "→": "->", "§": "section ",
}  # fmt: skip


def show(lines: list[Line], *, paged: bool = False) -> None:
    """Print a page. Colour needs a terminal, and NO_COLOR to be unset or empty.

    ``paged``: on a terminal that it does not fit, through a pager, as git does it.
    """
    out = sys.stdout
    columns = width()
    if not out.isatty():
        out.write(to_plain(lines, columns))
        return
    text = styled(lines, columns)
    if paged and os.environ.get("TERM") != "dumb" and text.count("\n") >= _rows():
        import click

        os.environ.setdefault("LESS", "FRX")  # git's choice: quit if it fits, keep colours and the screen
        click.echo_via_pager(text, color=True)
        return
    out.write(text)


def styled(lines: list[Line], width: int) -> str:
    """The same for a terminal that is not the standard output."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return to_plain(lines, min(width, _MAX_WIDTH))
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, highlight=False, soft_wrap=True, force_terminal=True)
    console.print(to_rich(lines, min(width, _MAX_WIDTH)), end="")
    return out.getvalue()


def plain(lines: list[Line]) -> str:
    """The same for a pipe."""
    return to_plain(lines, _PIPE_WIDTH)


def width() -> int:
    """How wide a page is, into a pipe or onto this terminal."""
    return min(_columns(), _MAX_WIDTH) if sys.stdout.isatty() else _PIPE_WIDTH


def _rows() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).lines or _TERMINAL_ROWS
    except OSError:
        return _TERMINAL_ROWS


def _columns() -> int:
    """What shutil.get_terminal_size does, without its start-up cost."""
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    except OSError:
        return _PIPE_WIDTH


def complain(message: str) -> None:
    """One sentence to stderr, with nothing of the input that a terminal would act on."""
    from kvmwhy.render.safe import safe

    sys.stderr.write(f"kvmwhy: {safe(message)}\n")
