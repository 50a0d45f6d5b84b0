"""The failures of one recording: the few windows of time around them, with every CPU's events in them.

A vCPU thread moves between CPUs, so its story is in several CPUs' pages, to be merged by time. A window begins where
all CPUs' pages are read and ends when nothing is open any more; within it nothing is left out.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from kvmwhy.readers.trace.cpu_buffers import Pages
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.page_prefilter import NAMES, Anchors, is_anchor
from kvmwhy.readers.trace.pages import Decoder, Lost
from kvmwhy.readers.trace.vcpu_tracker import Story
from kvmwhy.record import Failure

SMALL: Final = 256  # pages of a recording that is read whole
_BEFORE: Final = 3  # pages of the busiest CPU before an anchor's
_AFTER: Final = 2
_BATCHES: Final = (4, 64)  # pages of each CPU that are merged at a time: few at first, for a window may be short
_PATIENCE: Final = 1 << 20  # events to wait for the end of what is open

_EVER: Final = 1 << 65  # behind every time that a page can have
_CLOCK: Final = (1 << 64) - 1

Timed = tuple[int, TraceEvent | None]  # None: events were lost here


class _Cpu:
    """A CPU's pages, when each begins, and where a look is worth while."""

    def __init__(self, number: int, pages: Pages, decoder: Decoder) -> None:
        self.number = number
        self.pages = pages
        self.decoder = decoder
        self.starts = array("Q")
        self.lost: dict[int, Lost] = {}
        self.anchors = array("Q")

    def index(self, anchors: Anchors | None) -> None:
        """Once over all pages: their heads, and the anchors' times."""
        formats = self.decoder.formats
        exact = Decoder(formats, only=NAMES)
        head = struct.Struct(f"<QI{formats.page_size - 12}x") if formats.commit[0] == 8 else None
        latest = 0
        for number in range(self.pages.pieces):
            piece = self.pages.piece(number)
            base = len(self.starts)
            whole = len(piece) // formats.page_size * formats.page_size
            heads: Iterator[tuple[int, int]] = iter(head.iter_unpack(piece[:whole]) if head else ())
            for ns, commit in heads:
                latest = max(latest, ns)  # backwards it never goes, but in a damaged file
                if commit >> 30 and (lost := self._lost(len(self.starts))):
                    self.lost[len(self.starts)] = lost
                self.starts.append(latest)
            if whole < len(piece):
                self._index_short(piece[whole:], latest)
            if anchors is not None:
                for at in anchors.pages(piece):
                    self._anchor(exact, base + at)

    def _index_short(self, page: memoryview, latest: int) -> None:
        head = self.decoder.head(page)
        if head is not None:
            self.starts.append(max(latest, head.ns))

    def _lost(self, index: int) -> Lost | None:
        head = self.decoder.head(self.pages.page(index))
        return head.lost if head else None

    def _anchor(self, exact: Decoder, index: int) -> None:
        """The first and the last in this page: what is between them is in the same window."""
        times = [min(ns, _CLOCK) for ns, event in exact.timed(self.pages.page(index)) if is_anchor(event)]
        self.anchors.extend(dict.fromkeys((times[0], times[-1])) if times else ())

    def containing(self, ns: int) -> int:
        """The page that is being written at that time."""
        return max(0, bisect_right(self.starts, ns) - 1)

    def page_before(self, ns: int) -> int:
        """The first page that can have an event of that time."""
        return max(0, bisect_left(self.starts, ns) - 1)

    def start(self, index: int, default: int) -> int:
        return self.starts[index] if 0 <= index < len(self.starts) else default

    def read(self, index: int) -> Iterator[Timed]:
        if (lost := self.lost.get(index)) is not None:
            yield lost.ns, None
        yield from self.decoder.timed(self.pages.page(index), cpu=self.number)


class Sifted(NamedTuple):
    """Failures come while this is iterated; the rest is complete after that."""

    pages: int
    lost: int
    lost_places: int
    failures: Iterator[Failure]


class Window(NamedTuple):
    begin: int
    end: int


def sift(cpus: Sequence[tuple[int, Pages]], decoder: Decoder, story: Story, *, whole: bool = False) -> Sifted:
    """``whole``: read everything, as is done for small recordings anyway."""
    anchors = Anchors(decoder.formats)
    everything = whole or not anchors.complete
    indexed = [_Cpu(number, pages, decoder) for number, pages in cpus]
    for cpu in indexed:
        cpu.index(None if everything else anchors)
    indexed = [cpu for cpu in indexed if cpu.starts]
    count = sum(len(cpu.starts) for cpu in indexed)
    windows = [Window(0, _EVER)] if everything or count <= SMALL else _windows(indexed)
    lost = [loss for cpu in indexed for loss in cpu.lost.values()]
    return Sifted(count, sum(loss.events or 0 for loss in lost), len(lost), _failures(indexed, windows, story))


class Merged(NamedTuple):
    """Every event of a recording in the order of the times, which lie between ``first`` and ``last``."""

    first: int
    last: int
    events: Iterator[Timed]


def everything(cpus: Sequence[tuple[int, Pages]], decoder: Decoder) -> Merged:
    """All events, without a look for failures. What is held at a time is some pages of each CPU."""
    indexed = [_Cpu(number, pages, decoder) for number, pages in cpus]
    for cpu in indexed:
        cpu.index(None)
    indexed = [cpu for cpu in indexed if cpu.starts]
    first = min((cpu.starts[0] for cpu in indexed), default=0)
    last = max((cpu.starts[-1] for cpu in indexed), default=0)
    return Merged(first, last, _merged(indexed, 0))


def _windows(cpus: Sequence[_Cpu]) -> list[Window]:
    """Around each anchor, as much as all CPUs' pages near it cover; those that touch are one."""
    windows: list[Window] = []
    for ns in sorted(ns for cpu in cpus for ns in cpu.anchors):
        if windows and ns < windows[-1].end - 1:
            continue
        begin, end = 0, _EVER
        for cpu in cpus:
            at = cpu.containing(ns)
            begin = max(begin, cpu.start(at - _BEFORE, 0))
            end = min(end, cpu.start(at + _AFTER, _EVER))
        end = max(end, ns + 1)
        if windows and begin <= windows[-1].end:
            windows[-1] = Window(windows[-1].begin, max(end, windows[-1].end))
        else:
            windows.append(Window(begin, end))
    return windows


def _failures(cpus: Sequence[_Cpu], windows: Sequence[Window], story: Story) -> Iterator[Failure]:
    at = 0
    while at < len(windows):
        begin, end = windows[at]
        at += 1
        patience = _PATIENCE
        for ns, event in _merged(cpus, begin):
            if ns >= end:
                while at < len(windows) and windows[at].begin <= ns:  # the next one has begun meanwhile
                    end = max(end, windows[at].end)
                    at += 1
                patience -= 1
                if ns >= end and (story.waiting <= 0 or patience <= 0):
                    break
            if event is None:
                story.lost()
            else:
                yield from story.take(event)
        yield from story.end()


def _merged(cpus: Sequence[_Cpu], begin: int) -> Iterator[Timed]:
    """All CPUs' events from ``begin`` on, in the order of their times."""
    next_page = [cpu.page_before(begin) for cpu in cpus]
    held: list[Timed] = []
    time = itemgetter(0)
    size, most = _BATCHES
    while True:
        left = [(cpu, n) for cpu, n in zip(cpus, next_page, strict=True) if n < len(cpu.starts)]
        if not left:
            yield from held
            return
        until = min(cpu.start(n + size, _EVER) for cpu, n in left)
        size = min(2 * size, most)
        batch, advanced = held, False
        for number, cpu in enumerate(cpus):
            n = next_page[number]
            while n < len(cpu.starts) and cpu.starts[n] < until:
                batch.extend(cpu.read(n))
                n += 1
            advanced = advanced or n != next_page[number]
            next_page[number] = n
        if not advanced:  # many pages that claim one time
            for number, cpu in enumerate(cpus):
                if next_page[number] < len(cpu.starts):
                    batch.extend(cpu.read(next_page[number]))
                    next_page[number] += 1
        batch.sort(key=time)
        cut = bisect_left(batch, until, key=time) if advanced else len(batch)
        first = bisect_left(batch, begin, 0, cut, key=time)
        yield from batch[first:cut]
        held = batch[cut:]
