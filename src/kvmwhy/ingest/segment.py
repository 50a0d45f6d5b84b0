"""The parts of an input that can hold a failure, found while it streams.

Around each anchor stands what its reader may want to see. Where these parts touch they are one window, but never over
the border of a block: there the failures that begin before it are the first window's, the others the second's, and
both see what stands on either side. So a window depends on the bytes near it alone: neither on the sizes in which the
input comes nor on whether others read other parts of it. What is held is bounded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from kvmwhy.ingest.anchor_search import AnchorSearch, Hit
from kvmwhy.ingest.anchors import Report
from kvmwhy.ingest.repeats import Repeats
from kvmwhy.ingest.tape import MARGIN, Tape
from kvmwhy.ingest.window import BLOCK, EVER, SMALL, WHOLE, Part, Window

_HAS_THREADS: Final = sys.platform != "emscripten"  # a browser's WebAssembly
_HISTORY: Final = 512 << 10  # the most that an anchor can ask for


def windows(
    chunks: Iterable[bytes], search: AnchorSearch, report: Report, *, part: Part = WHOLE, numbered: bool = True
) -> Iterator[Window]:
    """The windows of ``part``, in order; one around weak anchors last. ``chunks`` begin at the part's ``read_from``.

    Of equal ``report``s that follow each other the first is a window. Unless ``numbered``, lines are counted from the
    beginning of each window.
    """
    tape = Tape(chunks, part.read_from // BLOCK, numbered=numbered, ahead=numbered and _HAS_THREADS)
    if tape.is_small and not part.first:
        if data := tape.slice(0, SMALL):
            yield Window(data, 0, 1)
        return
    cluster: _Cluster | None = None
    weak: list[Window] = []
    repeats = Repeats(report)
    begin = 0
    while tape.advance():
        border = tape.block * BLOCK
        if run := tape.run(repeats):
            if cluster:
                yield from cluster.window(tape, part, end=border)
                cluster = None
            if part.first <= tape.block < part.end:
                at = border + run.offset
                yield from repeats.add(run, at, tape.line_at(at) if numbered else None)
            begin = border + BLOCK
            if tape.block >= part.end:
                break
            continue
        yield from repeats.take()
        strong, others = tape.hits(search if not (part.first or weak) else search.strong)
        if others and not weak:
            spare = _Cluster(tape.block, others[0])
            spare.add(others[-1])
            weak += (window._replace(weak=True) for window in spare.window(tape, part))
        for hit in strong:
            if cluster is None:
                cluster = _Cluster(tape.block, hit, begin=begin)
            elif hit.at - max(hit.anchor.history, MARGIN) > cluster.last + MARGIN:
                middle = (cluster.last + hit.at) // 2
                yield from cluster.window(tape, part, end=middle)
                cluster = _Cluster(tape.block, hit, begin=middle)
            elif cluster.block != tape.block:
                yield from cluster.window(tape, part, end=border)
                cluster = _Cluster(tape.block, hit, begin=border)
            else:
                cluster.add(hit)
        if cluster and cluster.block != tape.block:
            yield from cluster.window(tape, part)
            cluster = None
        begin = 0
        if tape.block >= part.end:
            break
    else:
        if cluster:
            yield from cluster.window(tape, part)
        yield from weak
    yield from repeats.take()


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

    def window(self, tape: Tape, part: Part, end: int = EVER) -> Iterator[Window]:
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
