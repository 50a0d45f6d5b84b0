"""Reports that follow each other with nothing between them: equal ones are counted, and read once.

A guest that fails in a loop fills a log with one dump, hundreds of times in a megabyte. What is read of such a dump
does not depend on its neighbours, as long as these are dumps, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, repeat
from typing import Final, NamedTuple

from kvmwhy.ingest.anchors import Report
from kvmwhy.ingest.window import Window

LONGEST: Final = 16 << 10  # bytes of a report
_MOST: Final = 20_000  # distinct reports
_HELD: Final = 32 << 20  # and their bytes


class Run(NamedTuple):
    """Reports that follow each other, each without its first words."""

    offset: int  # of the first
    bodies: list[bytes]


class Repeats:
    """The reports of one kind that runs consist of, with their numbers."""

    def __init__(self, kind: Report) -> None:
        self._head, self._last_line = kind.begin.encode(), b"\n" + kind.end.encode()
        self._whole: set[bytes] = set()
        self._counts: Counter[bytes] = Counter()
        self._first: dict[bytes, tuple[int, int]] = {}  # offset and line
        self._last: dict[bytes, int] = {}
        self._size = 0

    def run(self, before: bytes, data: bytes, behind: bytes) -> Run | None:
        """The reports that begin in ``data``, if it holds nothing else.

        The end of one may stand before them. ``before`` is the byte before, and ``behind`` what shows where the last
        one ends; if there is nothing, that is the end.
        """
        cut = b"\n" + self._head
        if data.find(cut, 0, LONGEST) < 0:
            return None
        text = b"".join((before, data, behind))
        first, *bodies = (text if behind else text.removesuffix(b"\n")).split(cut)
        at, ends = len(first) + sum(map(len, bodies)) + len(cut) * len(bodies), not behind
        while bodies:
            at -= len(bodies[-1]) + len(cut)
            if ends and at < len(data):
                break
            bodies.pop()
            ends = True
        new = {*bodies} - self._whole
        if not bodies or not all(map(self._is_whole, new)):
            return None
        self._whole |= new
        return Run(len(first), bodies)

    def _is_whole(self, body: bytes) -> bool:
        """Whether it ends with the last line of a report, and has no other such line."""
        end = body.find(self._last_line)
        return len(body) <= LONGEST and 0 <= end == body.rfind(b"\n")

    def add(self, run: Run, offset: int, line: int | None) -> Iterator[Window]:
        """Count the reports of a run, the first of which stands there; give what was counted if that is much.

        Without a ``line`` none are counted.
        """
        known = len(self._counts)
        self._counts.update(run.bodies)
        if line is None and len(self._counts) == known:
            return
        offsets = accumulate((1 + len(self._head) + len(body) for body in run.bodies), initial=offset)
        lines = accumulate((1 + body.count(b"\n") for body in run.bodies), initial=line) if line else repeat(1)
        for body, at, number in zip(run.bodies, offsets, lines, strict=False):
            if body not in self._first:
                self._first[body] = at, number
                self._size += len(body)
            self._last[body] = number
        if len(self._first) > _MOST or self._size > _HELD:
            yield from self.take()

    def take(self) -> Iterator[Window]:
        """What was counted, a window for each; then it is forgotten."""
        for body, times in self._counts.items():
            offset, line = self._first[body]
            yield Window(self._head + body + b"\n", offset, line, times=times, last_line=self._last[body])
        self._counts.clear()
        self._first.clear()
        self._last.clear()
        self._whole.clear()
        self._size = 0
