"""The parts of a big input that can hold a failure, found at the speed of ``bytes.find``.

Memory stays bounded whatever the input: at most one chunk and one window are held.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final, NamedTuple

BANNERS: Final = (b"KVM internal error", b"KVM: ", b"kvm run failed", b"unhandled exit")
ANCHORS: Final = (*BANNERS, b"EFER=", b"data[")
WHOLE: Final = 4 << 20  # inputs up to this size are one window
BEFORE: Final = 4 << 10  # context: command line, host kernel, the dump's own beginning
AFTER: Final = 16 << 10  # several dumps
MAX_WINDOW: Final = 4 << 20


class Window(NamedTuple):
    data: bytes
    first_line: int


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
        full = end >= start + MAX_WINDOW
        end = _between_failures(held, anchor, end) if full else _line_end(held, min(end, len(held)))
        yield Window(held[start:end], line + held.count(b"\n", 0, start))
        line += held.count(b"\n", 0, end)
        held, at = held[end:], 0
    return held[keep:], line + held.count(b"\n", 0, keep)


def _first(held: bytes, start: int, end: int | None = None) -> int:
    found = [at for anchor in ANCHORS if (at := held.find(anchor, start, end)) >= 0]
    return min(found, default=-1)


def _line_end(held: bytes, end: int) -> int:
    """The end of the line in which ``end`` lies, unless that line is not a line of text."""
    newline = held.find(b"\n", end, end + BEFORE)
    return end if newline < 0 else newline + 1


def _between_failures(held: bytes, anchor: int, end: int) -> int:
    """Where to cut a run of failures that is longer than a window: before the last banner, not within a dump."""
    last = max(held.rfind(banner, anchor + 1, end) for banner in BANNERS)
    if last <= anchor:
        return end
    return max(held.rfind(b"\n", anchor + 1, last) + 1, anchor + 1)


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
