"""The part of an input that is read at once."""

from __future__ import annotations

from typing import Final, NamedTuple

BLOCK: Final = 1 << 20
SMALL: Final = 32 << 10  # an input up to this size is one window, whatever is in it
EVER: Final = 1 << 62  # behind the end of any input


class Window(NamedTuple):
    """A part of an input, whole lines. Failures that begin at offsets from ``begin`` to ``end`` are this window's."""

    data: bytes
    offset: int  # of ``data`` in the input
    first_line: int
    begin: int = 0
    end: int = EVER
    header: bytes = b""  # what libvirt wrote when it started this guest, if that stands before the window
    weak: bool = False  # wanted only if no other window of the input has anything
    times: int = 1  # equal ones, of which this is the first …
    last_line: int = 0  # … and where the last begins


class Part(NamedTuple):
    """The blocks of an input whose windows are wanted. Their neighbours are read as well, so that each window is what
    it would be if all were read.
    """

    first: int = 0
    end: int = EVER // BLOCK - 2

    @property
    def is_last(self) -> bool:
        """Whether it goes to the end of the input."""
        return self.end == WHOLE.end

    @property
    def read_from(self) -> int:
        """The offset at which to begin to read."""
        return max(0, self.first - 1) * BLOCK

    @property
    def read_to(self) -> int:
        return (self.end + 2) * BLOCK


WHOLE: Final = Part()
