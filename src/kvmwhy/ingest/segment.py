"""The parts of a big input that can hold a failure, found at the speed of ``bytes.find``.

Memory stays bounded whatever the input: at most one chunk and one window are held.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import cache
from typing import Final, NamedTuple

from kvmwhy.ingest.marks import LOOSE
from kvmwhy.ingest.multi_search import Finder, finder

# What announces a failure …
HEADS: Final = (
    b"KVM internal error",
    b"KVM: ",
    b"kvm run failed",
    b"unhandled exit",
)
# … and what else shows that there is one; EFER stands near the end of a dump.
ANCHORS: Final = tuple(
    dict.fromkeys(
        (
            *HEADS,
            b"data[",
            b"guest rIP: 0x",  # the kernel's lines
            b") failed",  # kvm_emulate_insn
            b'{"schema":1,"kind":',
            *LOOSE,
        )
    )
)
WHOLE: Final = 4 << 20  # inputs up to this size are one window
BEFORE: Final = 4 << 10  # context: command line, host kernel, the dump's own beginning
AFTER: Final = 16 << 10  # several dumps
MAX_WINDOW: Final = 4 << 20
_MOST_TRIES: Final = 64  # places looked at for one between two failures


class Window(NamedTuple):
    data: bytes
    first_line: int
    cut: bool = False  # the input went on, and so may have a failure


def windows(chunks: Iterable[bytes]) -> Iterator[Window]:
    """Yield the windows in order. ``chunks`` may have any sizes; a failure never lies between two."""
    held, line, whole = bytearray(), 1, True
    for chunk in chunks:
        held += chunk
        if whole and len(held) <= WHOLE:
            continue
        whole = False
        line = yield from _take(held, line, last=False)
    if whole:
        if held:
            yield Window(bytes(held), 1)
    else:
        yield from _take(held, line, last=True)


def _take(held: bytearray, line: int, *, last: bool) -> Generator[Window, None, int]:
    """Yield every window that is complete in ``held`` and remove it; return the line of what is left."""
    while True:
        anchor = _first(held)
        if anchor < 0:
            # Keep what may be context, or the beginning of an anchor.
            start = len(held) if last else max(0, len(held) - BEFORE)
            break
        start = held.rfind(b"\n", 0, max(0, anchor - BEFORE)) + 1
        end = _end(held, anchor, start + MAX_WINDOW)
        if len(held) < end + BEFORE and not last:
            break
        end = min(end, len(held))
        cut = end - start >= MAX_WINDOW
        # The window ends with a line, unless that is a very long one.
        newline = held.find(b"\n", end, end + BEFORE)
        if newline >= 0:
            end = newline + 1
        if cut:
            end = _between(held, start, end)
        yield Window(bytes(held[start:end]), line + held.count(b"\n", 0, start), cut)
        line += held.count(b"\n", 0, end)
        del held[:end]
    line += held.count(b"\n", 0, start)
    del held[:start]
    return line


@cache
def _find() -> Finder:
    """Made when the first big input comes: small ones need no search."""
    return finder(ANCHORS)


def _first(held: bytearray) -> int:
    found = _find()(held)
    return found[0][1] if found else -1


def _end(held: bytearray, anchor: int, limit: int) -> int:
    """Where the run of anchors that begins here ends, each at most AFTER and a dump's length from the last."""
    end = anchor + AFTER
    at = anchor
    while end < limit:
        found = _find()(held[at + 1 : end + BEFORE])
        if not found:
            return min(end, limit)
        at += 1 + found[-1][1]
        end = at + AFTER
    return limit


def _between(held: bytearray, start: int, end: int) -> int:
    """The last place before ``end`` where a dump has ended and a failure is announced; else ``end``."""
    head = end
    for _ in range(_MOST_TRIES):
        head = max(held.rfind(h, start, head) for h in HEADS)
        dump = held.rfind(b"EFER=", start, head) if head > start else -1
        if dump < 0:
            break
        if max(held.rfind(h, dump, head) for h in HEADS) < 0:
            return held.rfind(b"\n", start, head) + 1 or end
    return end
