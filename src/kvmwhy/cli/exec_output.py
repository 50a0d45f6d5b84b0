"""Writing beside a command: to its standard error, whatever that is, and however slowly it is read."""

from __future__ import annotations

import os
import select
import termios
import time
from contextlib import suppress
from typing import Final

from kvmwhy.render.page import Line

_STALLED: Final = 5.0  # seconds that a reader may take before the rest goes
_STDERR: Final = 2
_WIDTH: Final = 100


def page(lines: list[Line]) -> bytes:
    """Styled if the standard error is a terminal; with carriage returns where it does not add them."""
    from kvmwhy.cli.output import styled

    if not os.isatty(_STDERR):
        return styled(lines, _WIDTH, terminal=False).encode()
    width, is_raw = _WIDTH, False
    with suppress(OSError, termios.error):
        width = termios.tcgetwinsize(_STDERR)[1] or width
        is_raw = not termios.tcgetattr(_STDERR)[1] & termios.OPOST
    text = styled(lines, width)
    return (text.replace("\n", "\r\n") if is_raw else text).encode()


def write(data: bytes) -> None:
    """All of it, unless nobody reads it."""
    waiting = memoryview(data)
    deadline = time.monotonic() + _STALLED
    poller = select.poll()
    poller.register(_STDERR, select.POLLOUT)
    with suppress(OSError):
        while waiting and time.monotonic() < deadline:
            if poller.poll(100):
                with suppress(BlockingIOError):
                    waiting = waiting[os.write(_STDERR, waiting[: select.PIPE_BUF]) :]


class File:
    """What we write into a regular file that the command writes to as well: not to be taken for its words."""

    def __init__(self) -> None:
        self._ours: list[tuple[int, int]] = []

    def write(self, data: bytes) -> None:
        begin = os.lseek(_STDERR, 0, os.SEEK_CUR)
        write(data)
        end = os.lseek(_STDERR, 0, os.SEEK_CUR)
        self._ours.append((max(begin, end - len(data)), end))

    def without_ours(self, data: bytes, begin: int) -> bytes:
        """A part of that file, which begins at ``begin``."""
        for first, end in reversed(self._ours):
            if end > begin:
                data = data[: max(0, first - begin)] + data[end - begin :]
        return data
