"""The distinct failures of what was given, and which of them are one story.

``kvmwhy explain`` and ``kvmwhy.explain`` share what stands here, so that they tell the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from kvmwhy.ingest.window import Window
from kvmwhy.pipeline import Record, identity, order
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_files import Beside
from kvmwhy.readers.moments import moments
from kvmwhy.record import Failure, Source

if TYPE_CHECKING:
    from kvmwhy.render.html.failure import Excerpt

PAGE_MOST: Final = 100  # failures on one page
_MOST_COMBINED: Final = 256  # distinct failures of several inputs that are compared with each other

_BEFORE: Final = 10  # lines in front of the first that was read
_BEHIND: Final = 30
_MOST_LINES: Final = 400
_LONGEST: Final = 2000  # characters of a line

Story = tuple[Failure, ...]  # what happened in one moment, the first of it first


class Distinct:
    """Distinct failures in the order of their first appearance, each with its count and its last place."""

    def __init__(self, limit: int, *, excerpts: bool = False) -> None:
        self.limit = limit
        self.first: dict[bytes, Failure] = {}
        self.last: dict[bytes, Source] = {}
        self.count: dict[bytes, int] = {}
        self.format: dict[bytes, str | None] = {}
        self.left_out = 0
        self.bytes_seen = 0
        self.beside = Beside()  # files of bundles that tell of the host
        self.excerpts: dict[tuple[str | None, int | None], Excerpt] | None = {} if excerpts else None  # by place

    def add(self, record: Record) -> None:
        failure, format_ = record.failure, record.format
        key = identity(failure)
        if key in self.count:
            self.count[key] += failure.source.count
            self.last[key] = failure.source
        elif len(self.count) >= self.limit:
            self.left_out += 1
        else:
            self.first[key] = failure
            self.count[key] = failure.source.count
            self.format[key] = format_
            if self.excerpts is not None:
                self.excerpts[failure.source.path, failure.source.line] = excerpt_of(record.window, failure)

    def failures(self, *, several: bool) -> list[Failure]:
        """The records; what ``several`` inputs tell of one failure in one of them."""
        counted = [self.beside.with_host(self._counted(key, failure)) for key, failure in self.first.items()]
        if not several or len(set(self.format.values())) < 2 or len(counted) > _MOST_COMBINED:
            return counted
        from kvmwhy.readers.correlate import combine

        pieces: dict[str | None, list[Failure]] = {}
        for failure, format_ in zip(counted, self.format.values(), strict=True):
            pieces.setdefault(format_, []).append(failure)
        return combine([Evidence(tuple(held), format=format_) for format_, held in pieces.items()])

    def excerpt(self, failure: Failure) -> Excerpt:
        """The lines that a failure was read from, as far as they are kept."""
        from kvmwhy.render.html.failure import Excerpt

        return (self.excerpts or {}).get((failure.source.path, failure.source.line), Excerpt())

    def _counted(self, key: bytes, failure: Failure) -> Failure:
        source, count = failure.source, self.count[key]
        last = self.last.get(key)
        if last is None:
            return failure
        there = last.path == source.path
        source = msgspec.structs.replace(
            source,
            count=count,
            last_line=(last.last_line or last.line) if there else None,
            last_time=last.last_time or last.time,
        )
        return msgspec.structs.replace(failure, source=source)


def stories_of(failures: Iterable[Failure]) -> list[Story]:
    """What happened in one moment together, and in front what KVM gave up on."""
    return sorted(moments(failures), key=lambda moment: order(moment[0]))


def excerpt_of(window: Window | None, failure: Failure) -> Excerpt:
    """The lines of a window around those that a failure was read from."""
    from kvmwhy.render.html.failure import Excerpt

    if window is None or failure.source.line is None:
        return Excerpt()
    lines = window.data.decode("utf-8", "replace").splitlines()
    last = max(failure.source.line, *failure.seen_at.values(), 0)
    first = max(window.first_line, failure.source.line - _BEFORE)
    stop = min(window.first_line + len(lines), last + _BEHIND, first + _MOST_LINES)
    shown = lines[first - window.first_line : max(0, stop - window.first_line)]
    return Excerpt(first, tuple(line[:_LONGEST] for line in shown))
