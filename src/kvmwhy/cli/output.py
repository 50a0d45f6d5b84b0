"""Where output goes: plain into a pipe, styled onto a terminal."""

from __future__ import annotations

import os
import sys

from kvmwhy.render.page import Line, to_plain, to_rich

_PIPE_WIDTH = 100
_MAX_WIDTH = 120


def show(lines: list[Line]) -> None:
    """Print a page. Colour needs a terminal, and NO_COLOR to be unset or empty."""
    out = sys.stdout
    columns = width()
    if not out.isatty():
        out.write(to_plain(lines, columns))
        return
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        out.write(to_plain(lines, columns))
        return
    from rich.console import Console

    Console(file=out, highlight=False, soft_wrap=True).print(to_rich(lines, columns), end="")


def styled(lines: list[Line], width: int) -> str:
    """The same for a terminal that is not the standard output."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return to_plain(lines, min(width, _MAX_WIDTH))
    import io

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
