"""An input by blocks: the one that is looked at, and some on either side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from kvmwhy.ingest.anchor_search import NEAR, REACH, AnchorSearch, Hit, Span
from kvmwhy.ingest.first_look import is_possible, look_for
from kvmwhy.ingest.repeats import LONGEST, Repeats, Run
from kvmwhy.ingest.window import BLOCK, SMALL

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MARGIN: Final = 32 << 10  # before and behind an anchor
_LINES: Final = 80  # at least; a dump has some 60, and a journal's record of one line may have kilobytes
_FAR: Final = 256 << 10  # but no further than this

_AHEAD: Final = 5  # blocks
_LARGE: Final = 8  # blocks after which threads pay, and to learn which words are rare

_LIBVIRT: Final = b": starting up libvirt"
_HOLDS: Final = BLOCK  # how far libvirt's header holds
_STAMP: Final = 64  # bytes of a time before libvirt's mark
_HEADER: Final = 8 << 10


class Tape:
    """An input by blocks: the one that is looked at, and some on either side."""

    def __init__(self, chunks: Iterable[bytes], first: int, *, numbered: bool, ahead: bool) -> None:
        self._blocks: dict[int, bytes] = {}
        self._lines: dict[int, int] = {first: 1}  # the number of the line in which a block begins
        self._source = _in_blocks(chunks)
        self._next = first
        self._first_number = first
        self._numbered = numbered
        self._runs: dict[int, Run | None] = {}
        self._is_hot = False
        self._ahead = ahead
        self._asked: dict[int, Future[list[Span]]] = {}
        self._fill(first)
        self.block = first - 1
        self.is_small = not first and len(self._blocks.get(0, b"")) <= SMALL

    def _fill(self, upto: int) -> None:
        while self._next <= upto and (data := next(self._source, b"")):
            self._blocks[self._next] = data
            if self._numbered:
                self._lines[self._next + 1] = self._lines[self._next] + _line_ends(data)
            self._next += 1

    def advance(self) -> bool:
        """Go to the next block; whether there is one."""
        self.block += 1
        self._fill(self.block + (_AHEAD if self._ahead else 2))
        for held in (self._blocks, self._lines, self._runs, self._asked):
            held.pop(self.block - 3, None)
        return self.block in self._blocks

    def hits(self, search: AnchorSearch) -> tuple[list[Hit], list[Hit]]:
        """The anchors that begin in this block, and the weak ones."""
        self._ask(search)
        asked = self._asked.pop(self.block, None)
        spans = None if self._is_hot else asked.result() if asked else self._spans(self.block, search)
        hits = [] if spans == [] else self._hits(search, spans)
        self._is_hot = bool(hits)
        return [hit for hit in hits if not hit.anchor.weak], [hit for hit in hits if hit.anchor.weak]

    def _ask(self, search: AnchorSearch) -> None:
        """Have the next blocks looked through by other threads, where it pays: a search does not hold Python's lock."""
        if self._ahead and self.block >= _LARGE and not self._is_hot:
            for block in range(self.block, self._next - 1):
                if block not in self._asked:
                    self._asked[block] = _threads().submit(self._spans, block, search)

    def _spans(self, block: int, search: AnchorSearch) -> list[Span]:
        """The parts of a block that may have some, at the least expense; behind one that has, this is not asked."""
        data, behind = self._blocks[block], self._blocks.get(block + 1, b"")
        border = data[-REACH:] + behind[:REACH]
        at = len(data) - min(REACH, len(data))
        if block < self._first_number + _LARGE or not is_possible():
            return [(0, at + len(border))] if search.any(data) or (behind and search.any(border)) else []
        look = look_for(search)
        if block == self._first_number + _LARGE:
            look.begin()
        spans = look.spans(data)
        return [*spans, (at, at + len(border))] if behind and search.any(border) else spans

    def _hits(self, search: AnchorSearch, spans: list[Span] | None) -> list[Hit]:
        start = self.block * BLOCK
        base = start - NEAR if self.block - 1 in self._blocks else start
        text = self.slice(base, start + BLOCK + NEAR)
        low, high = start - base, start - base + len(self._blocks[self.block])
        spans = spans and [(low + begin, low + end) for begin, end in spans]
        return [Hit(base + hit.at, hit.anchor) for hit in search.hits(text, low, high, spans)]

    def run(self, repeats: Repeats) -> Run | None:
        """The reports that begin in this block, if it and its neighbours hold nothing else."""
        near = [n for n in (self.block, self.block - 1, self.block + 1) if n in self._blocks]
        return self._runs[self.block] if all(self._run(n, repeats) for n in near) else None

    def _run(self, block: int, repeats: Repeats) -> Run | None:
        if block not in self._runs:
            before = self._blocks.get(block - 1, b"" if block else b"\n")[-1:] or b" "
            self._runs[block] = repeats.run(before, self._blocks[block], self._blocks.get(block + 1, b"")[:LONGEST])
        return self._runs[block]

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


def _line_ends(data: bytes) -> int:
    """How many there are. ``bytes.count`` looks at each byte by itself and takes twice as long in logs of any kind."""
    return len(data) - len(data.replace(b"\n", b""))


@cache
def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(2)


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
