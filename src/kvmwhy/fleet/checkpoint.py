"""A run that can be stopped and goes on: the plan, and one part for each batch that is done.

A part is written beside its name and renamed, its report after it: a run that was killed finds each batch done or not
done, does only what is missing, and counts nothing twice. The report has the part's digest, so that a part which a
crash of the machine left empty is done again. A run goes by the plan that it was begun with: logs that have grown in
between change nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final

import msgspec

from kvmwhy.fleet.input_splits import SIZE, Piece, Unread, batches, plan
from kvmwhy.fleet.row import KNOWN, SCHEMA, Row, rows
from kvmwhy.fleet.store import join, pack, suffix_of
from kvmwhy.fleet.worker import Meter, look
from kvmwhy.whole_file import replacing, write_whole

_PLAN: Final = "plan.json"
_MOST_COMPLAINTS: Final = 10_000  # of one batch


class Report(msgspec.Struct, frozen=True):
    """What a batch that is done says of itself; its rows are in its part. ``read`` counts bytes of files."""

    number: int
    rows: int
    failures: int
    read: int
    digest: str  # of the part
    unread: tuple[Unread, ...] = ()


class Task(msgspec.Struct, frozen=True):
    """A batch to do, and the path of its part."""

    number: int
    batch: tuple[Piece, ...]
    part: str
    suffix: str

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.batch)


class _Plan(msgspec.Struct):
    schema: int
    size: int
    paths: list[str]
    batches: list[list[Piece]]
    unread: list[Unread]


def do(task: Task, tell: Callable[[int], None] | None = None) -> tuple[bytes, Report]:
    """A batch's part, and its report. The same batch makes the same part, wherever and however often it is done.

    ``tell`` is called with the number of bytes of files, as they are read.
    """
    unread: list[Unread] = []
    meter, failures = Meter(tell), 0

    def made() -> Iterator[Row]:
        nonlocal failures
        for piece in task.batch:
            try:
                for path, sightings in look(piece, KNOWN, unread.append, meter):
                    for row in rows(sightings, path):
                        failures += row.count
                        yield row
            except Exception as error:  # noqa: BLE001 -- one input, whatever is wrong with it or with kvmwhy, ends no run
                why = (
                    f"kvmwhy itself failed on it ({type(error).__name__}: {str(error)[:200]}); what came before is read"
                )
                unread.append(Unread(piece.path, why))

    part, number = pack(made(), task.suffix)
    return part, Report(task.number, number, failures, meter.read, _digest(part), tuple(unread[:_MOST_COMPLAINTS]))


def lost(task: Task, why: str) -> Report:
    """The report of a task that nobody can do, and its part, which is empty."""
    part, _ = pack(iter(()), task.suffix)
    unread = tuple(Unread(piece.path, why) for piece in task.batch)
    return keep(task, part, Report(task.number, 0, 0, 0, _digest(part), unread))


def _digest(part: bytes) -> str:
    return blake2b(part, digest_size=16).hexdigest()


def keep(task: Task, part: bytes, report: Report) -> Report:
    """Write a part and then its report. Done twice, it writes the same again."""
    write_whole(task.part, (part,))
    write_whole(_report(task.part), (msgspec.json.encode(report),))
    return report


def do_here(task: Task, tell: Callable[[int], None] | None = None) -> Report:
    """Both, for a process that sees the directory of parts."""
    return keep(task, *do(task, tell))


def _report(part: str) -> str:
    return f"{part}.done"


class Parts:
    """The parts of one output while it is being made: a directory beside it."""

    def __init__(self, out: str, paths: Sequence[str], *, size: int = SIZE, fresh: bool = False) -> None:
        """Go on with what a run over the same inputs left, unless ``fresh``. Raises StoreError and OSError."""
        self.out, self.suffix = out, suffix_of(out)
        self.directory = f"{out}.parts"
        self.plan = None if fresh else self._begun(list(paths), size)
        self.resumed = self.plan is not None
        if self.plan is None:
            self.plan = _made(list(paths), size)
            shutil.rmtree(self.directory, ignore_errors=True)
            os.mkdir(self.directory)
            write_whole(os.path.join(self.directory, _PLAN), (msgspec.json.encode(self.plan),), durable=True)
        self.tasks = [
            Task(n, tuple(batch), os.path.join(self.directory, f"{n:08d}{self.suffix}"), self.suffix)
            for n, batch in enumerate(self.plan.batches)
        ]

    def _begun(self, paths: list[str], size: int) -> _Plan | None:
        try:
            with open(os.path.join(self.directory, _PLAN), "rb") as file:
                plan = msgspec.json.decode(file.read(), type=_Plan)
        except (OSError, UnicodeError, msgspec.DecodeError):
            return None
        return plan if (plan.schema, plan.size, plan.paths) == (SCHEMA, size, paths) else None

    @property
    def unread(self) -> list[Unread]:
        """What the plan could not see."""
        return self.plan.unread if self.plan else []

    def done(self) -> list[Report]:
        """The reports of the batches that are done."""
        names = set(os.listdir(self.directory))
        there = [task for task in self.tasks if os.path.basename(_report(task.part)) in names]
        return [report for task in there if (report := _done(task)) is not None]

    def missing(self, done: Iterable[Report]) -> list[Task]:
        there = {report.number for report in done}
        return [task for task in self.tasks if task.number not in there]

    def finish(self) -> int:
        """Put the parts together, in order, and remove them; the number of rows."""
        with replacing(self.out, durable=True) as file:
            number = join((task.part for task in self.tasks), file, self.suffix)
        shutil.rmtree(self.directory, ignore_errors=True)
        return number


def _done(task: Task) -> Report | None:
    """The report of a task, if its part is the one that was reported."""
    with suppress(OSError, msgspec.DecodeError, UnicodeError):
        with open(_report(task.part), "rb") as file:
            report = msgspec.json.decode(file.read(), type=Report)
        with open(task.part, "rb") as file:
            return report if _digest(file.read()) == report.digest else None
    return None


def _made(paths: list[str], size: int) -> _Plan:
    unread: list[Unread] = []

    def pieces() -> Iterator[Piece]:
        for item in plan(paths, size=size):
            if isinstance(item, Unread):
                unread.append(item)
            else:
                yield item

    work = list(batches(pieces(), size=size))
    return _Plan(SCHEMA, size, paths, work, unread)
