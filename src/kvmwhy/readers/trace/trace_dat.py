"""``trace.dat`` of trace-cmd, and pages that were read from ``trace_pipe_raw``: bytes to failures.

``data`` may be a mapped file of any size: what is held is an index, and the pages around failures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Final, NamedTuple

from kvmwhy.readers import Evidence
from kvmwhy.readers.trace.cpu_buffers import Pages, Plain
from kvmwhy.readers.trace.events import STORY, TraceEvent
from kvmwhy.readers.trace.formats import Buffer, Formats
from kvmwhy.readers.trace.lines import LostEvents
from kvmwhy.readers.trace.merge_equal import Distinct
from kvmwhy.readers.trace.pages import Decoder
from kvmwhy.readers.trace.summary import Summary
from kvmwhy.readers.trace.trace_dat_sections import MAGIC, open_container
from kvmwhy.readers.trace.vcpu_tracker import Story
from kvmwhy.readers.trace.window_reader import SMALL, everything, sift
from kvmwhy.record import Failure

# Of nanoseconds; "counter" counts, and "x86-tsc" counts cycles of a length that is not said.
_NANOSECONDS: Final = {"local", "global", "uptime", "perf", "mono", "mono_raw", "boot", "tai", ""}
FORMAT: Final = "trace.dat"
_LAST_PAGES: Final = 4  # of each CPU


def detect(data: Buffer) -> bool:
    return bytes(data[: len(MAGIC)]) == MAGIC


def read(data: Buffer, *, path: str | None = None, whole: bool = False) -> Evidence:
    """``whole``: decode every page, not only those around failures."""
    file = open_container(data)
    distinct, damage = Distinct(), list(file.damage)
    healthy: list[Failure] = []
    for recording in file.recordings:
        scale = 1e-9 if recording.clock in _NANOSECONDS else None
        pages = [(cpu.number, cpu.pages) for cpu in recording.cpus]
        damage += _sift(pages, file.formats, scale, distinct, path, whole=whole)
        if not distinct and (summary := _summary(pages, Decoder(file.formats, scale=scale), path)):
            healthy.append(summary)
    failures = distinct.failures() or tuple(healthy)
    return Evidence(failures, (*dict.fromkeys(damage), *distinct.damage), FORMAT)


class Recorded(NamedTuple):
    """A ring buffer of a file, whole: the trace's own, or that of an instance, which has a name."""

    name: str
    span: tuple[int, int]  # of the trace's clock
    events: Iterator[TraceEvent | LostEvents]


def recordings(data: Buffer, remarks: list[str]) -> Iterator[Recorded]:
    """Every event that is part of a vCPU's story. Adds to ``remarks`` what is damaged."""
    file = open_container(data)
    remarks += file.damage
    remarks += [f"there is no format of {name}: nothing can be told of it" for name in file.formats.missing]
    for recording in file.recordings:
        scale = 1e-9 if recording.clock in _NANOSECONDS else None
        decoder = Decoder(file.formats, scale=scale, only=STORY)
        merged = everything([(cpu.number, cpu.pages) for cpu in recording.cpus], decoder)
        yield Recorded(recording.name, (merged.first, merged.last), _shown(merged.events))
        if decoder.torn:
            remarks.append(f"{decoder.torn} pages are torn: what they had behind that is missing")
        remarks += [remark for cpu in recording.cpus for remark in cpu.pages.damage]


def _shown(events: Iterable[tuple[int, TraceEvent | None]]) -> Iterator[TraceEvent | LostEvents]:
    for _, event in events:
        yield LostEvents(0) if event is None else event


def read_pages(
    pages: Buffer | Mapping[int, Buffer], formats: Formats, *, path: str | None = None, whole: bool = False
) -> Evidence:
    """What ``trace_pipe_raw`` gave of one CPU, or of each by its number."""
    cpus: Mapping[int, Buffer] = pages if isinstance(pages, Mapping) else {0: pages}
    distinct = Distinct()
    plain: list[tuple[int, Pages]] = [(number, Plain(data, formats.page_size)) for number, data in cpus.items()]
    damage = _sift(plain, formats, 1e-9, distinct, path, whole=whole)
    return Evidence(distinct.failures(), (*damage, *distinct.damage), "ring buffer pages")


def _summary(cpus: list[tuple[int, Pages]], decoder: Decoder, path: str | None) -> Failure | None:
    """What is said of a recording in which nothing fails: of a large one, how it begins and ends."""
    indexes = {number: _page_count(pages) for number, pages in cpus}
    is_small = sum(indexes.values()) <= SMALL
    timed: list[tuple[int, TraceEvent]] = []
    for number, pages in cpus:
        count = indexes[number]
        chosen = range(count) if is_small else {0, *range(max(0, count - _LAST_PAGES), count)}
        for index in sorted(chosen):
            timed += decoder.timed(pages.page(index), cpu=number)
    timed.sort(key=itemgetter(0))
    summary = Summary(path=path)
    summary.events = 0 if is_small else None
    summary.feed(event for _, event in timed)
    return summary.failure()


def _page_count(pages: Pages) -> int:
    """How many pages there are: those before the last piece, and those in it."""
    if not pages.pieces:
        return 0
    last = pages.pieces - 1
    size = max(1, len(pages.page(0)))
    return pages.first(last) + -(-len(pages.piece(last)) // size)


def _sift(
    cpus: list[tuple[int, Pages]],
    formats: Formats,
    scale: float | None,
    distinct: Distinct,
    path: str | None,
    *,
    whole: bool,
) -> list[str]:
    """Add to ``found``; return what is damaged."""
    damage = [f"there is no format of {name}: nothing can be told of it" for name in formats.missing]
    decoder = Decoder(formats, scale=scale)
    sifted = sift(cpus, decoder, Story(path=path), whole=whole)
    for failure in sifted.failures:
        distinct.add((failure,))
    if sifted.lost_places:
        some = f"{sifted.lost} events" if sifted.lost else "events"
        damage.append(f"the kernel lost {some} at {sifted.lost_places} places of this trace")
    if decoder.torn:
        damage.append(f"{decoder.torn} pages are torn: what they had behind that is missing")
    damage += [remark for _, pages in cpus for remark in pages.damage]
    return damage
