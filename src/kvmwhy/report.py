"""One answer to one person: the distinct failures of what was given, explained, as a page and as JSON.

``kvmwhy explain``, ``kvmwhy.explain``, the page in a browser and the server share what stands here: they tell the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from kvmwhy.ingest.normalize import line_ends
from kvmwhy.ingest.window import Window
from kvmwhy.pipeline import Complain, Input, Record, identity, inputs, order, records_of
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_files import Beside
from kvmwhy.readers.moments import moments
from kvmwhy.record import Failure, Source

if TYPE_CHECKING:
    from kvmwhy.render.html.failure import Excerpt

PAGE_MOST: Final = 100  # failures on one page
_MOST_COMBINED: Final = 256  # distinct failures of several inputs that are compared with each other
_MOST_REMARKS: Final = 20

_BEFORE: Final = 10  # lines in front of the first that was read
_BEHIND: Final = 30
_MOST_LINES: Final = 400
_MOST_NOTE: Final = 1 << 20  # bytes of a file that tells of the host: cpuinfo of a large one
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

    def read(self, member: Input, complain: Complain, *, is_given: bool = False) -> None:
        """Add what failed in a file. One that was given by itself, and shows no failure, may tell of the host."""
        chunks, held = self.beside.watch(member.path, member.chunks), bytearray()

        def kept() -> Iterator[bytes]:
            for chunk in chunks:
                held.extend(chunk[: _MOST_NOTE + 1 - len(held)])
                yield chunk

        any_failed = False
        for record in records_of(kept() if is_given else chunks, member.path, complain):
            any_failed = True
            self.add(record)
        if held and not any_failed and len(held) <= _MOST_NOTE:
            self.beside.note(bytes(held))

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
        """The records; what ``several`` inputs, or parts of one, tell of one failure in one of them."""
        counted = [self.beside.with_host(self._counted(key, failure)) for key, failure in self.first.items()]
        if len(set(self.format.values())) < 2 or len(counted) > _MOST_COMBINED:
            return counted
        from kvmwhy.readers.correlate import combine

        pieces: dict[str | None, list[Failure]] = {}
        for failure, format_ in zip(counted, self.format.values(), strict=True):
            pieces.setdefault(format_, []).append(failure)
        return combine(
            [Evidence(tuple(held), format=format_) for format_, held in pieces.items()], far_apart=not several
        )

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
    # As the readers number them: Unicode's and a printer's ends of lines and pages are none.
    lines = line_ends(window.data.decode("utf-8", "replace")).removesuffix("\n").split("\n")
    last = max(failure.source.line, *failure.seen_at.values(), 0)
    first = max(window.first_line, failure.source.line - _BEFORE)
    stop = min(window.first_line + len(lines), last + _BEHIND, first + _MOST_LINES)
    shown = lines[first - window.first_line : max(0, stop - window.first_line)]
    return Excerpt(first, tuple(line[:_LONGEST] for line in shown))


class InputLimits(NamedTuple):
    """What one input of a stranger may cost."""

    failures: int = 1000
    unpacked: int = 1 << 30  # bytes
    members: int = 10_000  # of archives


_USUAL: Final = InputLimits()


class Report(NamedTuple):
    """What ``kvmwhy explain`` says of one input. ``page`` is None where no failure was found."""

    failures: tuple[Failure, ...]
    page: str | None
    json: tuple[bytes, ...]  # one object for each failure, as --json prints it
    remarks: tuple[str, ...]


def report(
    chunks: Iterable[bytes],
    path: str | None,
    *,
    made: datetime,
    limits: InputLimits = _USUAL,
    excerpts: bool = True,
    remarked: Sequence[str] = (),
) -> Report:
    """Explain one input, of which no file is opened. Raises nothing but what ``chunks`` does, and MemoryError.

    With ``excerpts`` the page has the lines that were read; ``remarked`` comes before the remarks of this reading.
    """
    from kvmwhy.ingest.archives import UnpackBudget

    distinct, remarks = Distinct(limits.failures, excerpts=excerpts), Remarks()
    for sentence in remarked:
        remarks(sentence)
    bounds = UnpackBudget(total=limits.unpacked, members=limits.members)
    for member in inputs(_up_to(chunks, limits.unpacked, remarks), path, remarks, bounds):
        distinct.read(member, remarks)
    if distinct.left_out:
        remarks(f"{distinct.left_out} more failures differ from these and are not shown")
    return rendered(distinct, remarks, made=made)


def rendered(distinct: Distinct, remarks: Remarks, *, made: datetime) -> Report:
    """The page and the JSON of what was found."""
    from kvmwhy.diagnosis import diagnose
    from kvmwhy.render.html.document import Told, page
    from kvmwhy.render.json import to_json

    stories = stories_of(distinct.failures(several=False))
    json, shown = [], []
    for n, story in enumerate(stories):
        diagnoses = [diagnose(failure) for failure in story]
        json += [to_json(diagnosis) for diagnosis in diagnoses]
        if n < PAGE_MOST:
            shown.append(Told(diagnoses[0], story[1:], distinct.excerpt(story[0])))
    if len(stories) > PAGE_MOST:
        remarks(f"{len(stories) - PAGE_MOST} more failures are not on the page")
    return Report(
        failures=tuple(failure for story in stories for failure in story),
        page=page(shown, made=made, remarks=remarks.shown()) if shown else None,
        json=tuple(json),
        remarks=remarks.shown(),
    )


class Remarks:
    """Sentences about what could not be read: the first few, and how many more there are."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.more = 0

    def __call__(self, sentence: str) -> None:
        if len(self.first) < _MOST_REMARKS:
            self.first.append(sentence)
        else:
            self.more += 1

    def shown(self) -> tuple[str, ...]:
        from kvmwhy.render.safe import safe

        more = (f"{self.more} more remarks of this kind are not shown",) if self.more else ()
        return (*map(safe, self.first), *more)


def _up_to(chunks: Iterable[bytes], most: int, remarks: Remarks) -> Iterator[bytes]:
    left = most
    for chunk in chunks:
        if len(chunk) > left:
            remarks(f"only the first {most >> 20} MiB are read")
            yield chunk[:left]
            return
        left -= len(chunk)
        yield chunk
