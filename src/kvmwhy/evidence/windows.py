"""The parts of a big input that can hold a failure, found at the speed of ``bytes.find``.

Memory stays bounded whatever the input: at most one chunk and one window are held.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final, NamedTuple

ANCHORS: Final = (
    b"KVM internal error",
    b"KVM: ",
    b"kvm run failed",
    b"unhandled exit",
    b"EFER=",
    b"data[",
)
WHOLE: Final = 4 << 20  # inputs up to this size are one window
BEFORE: Final = 4 << 10  # context: command line, host kernel, the dump's own beginning
AFTER: Final = 16 << 10  # several dumps
MAX_WINDOW: Final = 4 << 20


class Window(NamedTuple):
    data: bytes
    first_line: int
    cut: bool = False  # the input went on, and so may have a failure


def windows(chunks: Iterable[bytes]) -> Iterator[Window]:
    """Yield the windows in order. ``chunks`` may have any sizes; a failure never lies between two."""
    held, line, whole = b"", 1, True
    for chunk in chunks:
        held += chunk
        if whole and len(held) <= WHOLE:
            continue
        whole = False
        held, line = yield from _take(held, line, last=False)
    if whole:
        if held:
            yield Window(held, 1)
    else:
        yield from _take(held, line, last=True)


def _take(held: bytes, line: int, *, last: bool) -> Generator[Window, None, tuple[bytes, int]]:
    """Yield every window that is complete in ``held``; return what must wait for more."""
    at = 0
    while True:
        anchor = _first(held, at)
        if anchor < 0:
            # Keep what may be the beginning of a dump, or of an anchor.
            keep = len(held) if last else max(at, len(held) - BEFORE)
            break
        start = max(at, held.rfind(b"\n", 0, max(0, anchor - BEFORE)) + 1)
        end = _end(held, anchor, start + MAX_WINDOW)
        if end > len(held) and not last:
            keep = start
            break
        end = min(end, len(held))
        newline = held.find(b"\n", end)
        if 0 <= newline < end + BEFORE:
            end = newline + 1
        yield Window(held[start:end], line + held.count(b"\n", 0, start), end - start >= MAX_WINDOW)
        line += held.count(b"\n", 0, end)
        held, at = held[end:], 0
    return held[keep:], line + held.count(b"\n", 0, keep)


def _first(held: bytes, start: int, end: int | None = None) -> int:
    found = [at for anchor in ANCHORS if (at := held.find(anchor, start, end)) >= 0]
    return min(found, default=-1)


def _end(held: bytes, anchor: int, limit: int) -> int:
    """Where the run of anchors that begins here ends, each at most AFTER bytes from the last."""
    end = anchor + AFTER
    at = anchor
    while end < limit:
        last = max((held.rfind(a, at + 1, end) for a in ANCHORS), default=-1)
        if last < 0:
            return end
        at, end = last, last + AFTER
    return limit
