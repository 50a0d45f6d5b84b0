"""The parts of an input that can hold a failure, found while it streams.

Around each anchor stands what its reader may want to see. Where these parts touch they are one window, but never over
the border of a block: there the failures that begin before it are the first window's, the others the second's, and
both see what stands on either side. So a window depends on the bytes near it alone: neither on the sizes in which the
input comes nor on whether others read other parts of it. What is held is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvmwhy.ingest.anchor_search import NEAR, REACH, AnchorSearch, Hit
from kvmwhy.ingest.window import BLOCK, EVER, SMALL, WHOLE, Part, Window

MARGIN: Final = 32 << 10  # before and behind an anchor
_LINES: Final = 80  # at least; a dump has some 60, and a journal's record of one line may have kilobytes
_FAR: Final = 256 << 10  # but no further than this
_HISTORY: Final = 512 << 10  # the most that an anchor can ask for

_LIBVIRT: Final = b": starting up libvirt"
_HOLDS: Final = BLOCK  # how far libvirt's header holds
_STAMP: Final = 64  # bytes of a time before libvirt's mark
_HEADER: Final = 8 << 10


def windows(
    chunks: Iterable[bytes], search: AnchorSearch, *, part: Part = WHOLE, numbered: bool = True
) -> Iterator[Window]:
    """The windows of ``part``, in order; one around weak anchors last. ``chunks`` begin at the part's ``read_from``.

    Unless ``numbered``, lines are counted from the beginning of each window.
    """
    tape = _Tape(chunks, part.read_from // BLOCK, numbered=numbered)
    if tape.is_small and not part.first:
        if data := tape.slice(0, SMALL):
            yield Window(data, 0, 1)
        return
    cluster: _Cluster | None = None
    weak: list[Window] = []
    while tape.advance():
        strong, others = tape.hits(search if not (part.first or weak) else search.strong)
        if others and not weak:
            spare = _Cluster(tape.block, others[0])
            spare.add(others[-1])
            weak += (window._replace(weak=True) for window in spare.window(tape, part))
        for hit in strong:
            if cluster is None:
                cluster = _Cluster(tape.block, hit)
            elif hit.at - max(hit.anchor.history, MARGIN) > cluster.last + MARGIN:
                middle = (cluster.last + hit.at) // 2
                yield from cluster.window(tape, part, end=middle)
                cluster = _Cluster(tape.block, hit, begin=middle)
            elif cluster.block != tape.block:
                border = tape.block * BLOCK
                yield from cluster.window(tape, part, end=border)
                cluster = _Cluster(tape.block, hit, begin=border)
            else:
                cluster.add(hit)
        if cluster and cluster.block != tape.block:
            yield from cluster.window(tape, part)
            cluster = None
        if tape.block >= part.end:
            return
    if cluster:
        yield from cluster.window(tape, part)
    yield from weak


class _Cluster:
    """Anchors of one block that are near each other."""

    def __init__(self, block: int, hit: Hit, begin: int = 0) -> None:
        self.block = block
        self.begin = begin  # where its failures begin
        self.first = self.last = self.start = hit.at
        self.add(hit)

    def add(self, hit: Hit) -> None:
        self.last = max(self.last, hit.at)
        self.start = min(self.start, hit.at - min(max(hit.anchor.history, MARGIN), _HISTORY))

    def window(self, tape: _Tape, part: Part, end: int = EVER) -> Iterator[Window]:
        """The window, if it is of ``part``. ``end`` is where the next one's failures begin."""
        if not part.first <= self.block < part.end:
            return
        first, last, start = self.first, self.last, self.start
        if self.begin == self.block * BLOCK:  # the window before shares its failures' context
            first, start = self.begin, min(start, self.begin - MARGIN)
        if end == (self.block + 1) * BLOCK:
            last = end
        start = tape.line_start(min(start, tape.lines_before(first)))
        stop = tape.line_end(max(last + MARGIN, tape.lines_behind(last)))
        yield Window(tape.slice(start, stop), start, tape.line_at(start), self.begin, end, tape.header_before(start))


class _Tape:
    """An input by blocks: the one that is looked at, and some on either side."""

    def __init__(self, chunks: Iterable[bytes], first: int, *, numbered: bool) -> None:
        self._blocks: dict[int, bytes] = {}
        self._lines: dict[int, int] = {first: 1}  # the number of the line in which a block begins
        self._source = _in_blocks(chunks)
        self._next = first
        self._numbered = numbered
        self._fill(first)
        self.block = first - 1
        self.is_small = not first and len(self._blocks.get(0, b"")) <= SMALL

    def _fill(self, upto: int) -> None:
        while self._next <= upto and (data := next(self._source, b"")):
            self._blocks[self._next] = data
            if self._numbered:
                self._lines[self._next + 1] = self._lines[self._next] + data.count(b"\n")
            self._next += 1

    def advance(self) -> bool:
        """Go to the next block; whether there is one."""
        self.block += 1
        self._fill(self.block + 1)
        self._blocks.pop(self.block - 3, None)
        self._lines.pop(self.block - 3, None)
        return self.block in self._blocks

    def hits(self, search: AnchorSearch) -> tuple[list[Hit], list[Hit]]:
        """The anchors that begin in this block, and the weak ones."""
        found = self._hits(search)
        return [hit for hit in found if not hit.anchor.weak], [hit for hit in found if hit.anchor.weak]

    def _hits(self, search: AnchorSearch) -> list[Hit]:
        data, behind = self._blocks[self.block], self._blocks.get(self.block + 1, b"")
        if not search.any(data) and not (behind and search.any(data[-REACH:] + behind[:REACH])):
            return []
        start = self.block * BLOCK
        base = start - NEAR if self.block - 1 in self._blocks else start
        text = self.slice(base, start + BLOCK + NEAR)
        low, high = start - base, start - base + len(data)
        return [hit._replace(at=base + hit.at) for hit in search.hits(text, low, high)]

    def slice(self, start: int, end: int) -> bytes:
        """What there is of the bytes between two offsets."""
        pieces = []
        for number in range(max(0, start) // BLOCK, -(-end // BLOCK)):
            if data := self._blocks.get(number):
                base = number * BLOCK
                pieces.append(data[max(0, start - base) : end - base])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def _first(self) -> int:
        return min(self._blocks) * BLOCK

    def lines_before(self, at: int) -> int:
        """Where the line begins that is so many before the one at an offset."""
        low = max(at - _FAR, self._first)
        data = self.slice(low, at)
        place = len(data)
        for _ in range(_LINES):
            place = data.rfind(b"\n", 0, place)
            if place < 0:
                return low
        return low + place + 1

    def lines_behind(self, at: int) -> int:
        """Where the line ends that is so many behind the one at an offset."""
        data = self.slice(at, at + _FAR)
        place = -1
        for _ in range(_LINES):
            place = data.find(b"\n", place + 1)
            if place < 0:
                return at + len(data)
        return at + place + 1

    def line_start(self, at: int) -> int:
        """The beginning of a line, unless it is a very long one."""
        at = max(at, self._first)
        low = max(at - MARGIN, self._first)
        newline = self.slice(low, at).rfind(b"\n")
        return at if low == at else low + newline + 1 if newline >= 0 or low == self._first else at

    def line_end(self, at: int) -> int:
        """Behind the end of a line, unless it is a very long one."""
        data = self.slice(at, at + MARGIN)
        return at + (data.find(b"\n") + 1 or len(data) if len(data) < MARGIN else data.find(b"\n") + 1)

    def header_before(self, at: int) -> bytes:
        """The lines from libvirt's mark on that stands last before an offset, if it is near enough."""
        base = max(at - _HOLDS, self._first)
        data = self.slice(base, at)
        mark = data.rfind(_LIBVIRT)
        if mark < 0:
            return b""
        start = data.rfind(b"\n", max(0, mark - _STAMP), mark) + 1 or max(0, mark - _STAMP)
        return data[start : mark + _HEADER]

    def line_at(self, at: int) -> int:
        """The number of the line, from 1, in which an offset is."""
        if not self._numbered:
            return 1
        number = at // BLOCK
        return self._lines[number] + self._blocks[number].count(b"\n", 0, at - number * BLOCK)


def _in_blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        if not size and len(chunk) == BLOCK:
            yield chunk
            continue
        held.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            data = b"".join(held)
            at = 0
            while size - at >= BLOCK:
                yield data[at : at + BLOCK]
                at += BLOCK
            held, size = [data[at:]], size - at
    if size:
        yield b"".join(held)
