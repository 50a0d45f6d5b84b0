"""Where output goes: plain into a pipe, styled onto a terminal."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Literal

from kvmwhy.render.page import Line, to_plain, to_rich

_colour = "auto"  # what --color says
_quiet = False
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


def choose_colour(mode: str) -> None:
    """--color: auto, always or never."""
    global _colour  # noqa: PLW0603 -- an option of the whole process
    _colour = mode


def be_quiet() -> None:
    """--quiet: nothing on stderr but what a terminal shows while it waits."""
    global _quiet  # noqa: PLW0603 -- an option of the whole process
    _quiet = True


def is_coloured(*, terminal: bool) -> bool:
    """Whether output is styled; what the command line says goes before the environment."""
    if _colour != "auto":
        return _colour == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return terminal and os.environ.get("TERM") != "dumb"


def show(lines: list[Line], *, paged: bool = False) -> None:
    """Print a page, styled on a terminal unless --color, NO_COLOR or FORCE_COLOR say otherwise.

    ``paged``: on a terminal that it does not fit, through a pager, as git does it.
    """
    out = sys.stdout
    columns = width()
    terminal = out.isatty()
    text = styled(lines, columns, terminal=terminal)
    if paged and terminal and os.environ.get("TERM") != "dumb" and text.count("\n") >= _rows():
        import click

        os.environ.setdefault("LESS", "FRX")  # git's choice: quit if it fits, keep colours and the screen
        click.echo_via_pager(text, color=True)
        return
    out.write(text)


def styled(lines: list[Line], width: int, *, terminal: bool = True) -> str:
    """The same as text: for a terminal, which need not be the standard output, or for a pipe."""
    if not is_coloured(terminal=terminal):
        return to_plain(lines, min(width, _MAX_WIDTH))
    from rich.console import Console

    out = io.StringIO()
    forced: Literal["standard"] | None = None if terminal else "standard"  # of a pipe, TERM tells nothing
    console = Console(
        file=out, highlight=False, soft_wrap=True, force_terminal=True, no_color=False, color_system=forced or "auto"
    )
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


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 record, 2,000 records."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def require_writable(path: str) -> None:
    """Before work whose result is to be kept there. Raises OSError; what is there stays as it is."""
    is_new = not os.path.lexists(path)
    with open(path, "ab"):
        pass
    if is_new:
        os.unlink(path)


def complain(message: str) -> None:
    """One sentence to stderr, with nothing of the input that a terminal would act on; none if --quiet was given."""
    if _quiet:
        return
    from kvmwhy.render.safe import safe

    sys.stderr.write(f"kvmwhy: {safe(message)}\n")
