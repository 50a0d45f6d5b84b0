"""``kvmwhy scan``: logs of any size and number to a table of failures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final, NamedTuple

from kvmwhy.cli.output import complain, counted
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, INTERRUPTED, NOTHING
from kvmwhy.fleet.checkpoint import Parts, Report, Task
from kvmwhy.fleet.executor import Engine, Tell, here, processes
from kvmwhy.fleet.input_splits import SIZE, Unread
from kvmwhy.fleet.store import StoreError
from kvmwhy.whole_file import write_whole

_MOST_SHOWN: Final = 20
_WORTH_PROCESSES: Final = 256 << 20  # bytes; a process is copied in a few milliseconds, and then has all to itself
_OPENING: Final = 64 << 10  # bytes that could be read while a file is opened
_EVERY: Final = 0.2  # seconds between two lines of progress


class ScanOptions(NamedTuple):
    """What the command line asks for."""

    paths: tuple[str, ...]
    out: str | None
    jobs: int | None
    cluster: str | None
    fresh: bool
    piece: int = SIZE


def run(wish: ScanOptions) -> int:
    """Scan, and return the exit status."""
    if wish.out is None:
        return _to_stdout(wish)
    try:
        with ExitStack() as stack:
            return _to_file(wish, wish.out, stack)
    except StoreError as error:
        complain(str(error))
    except OSError as error:
        complain(f"{error.filename or wish.out}: {(error.strerror or str(error)).lower()}")
    except KeyboardInterrupt:
        complain("stopped; the same command goes on where this one was")
        return INTERRUPTED
    return BAD_INPUT


def _to_stdout(wish: ScanOptions) -> int:
    from kvmwhy.fleet import records
    from kvmwhy.fleet.row import to_json

    unread: list[Unread] = []
    count = 0
    for row in records(wish.paths, unread=unread):
        sys.stdout.buffer.write(to_json(row) + b"\n")
        count += row.count
    sys.stdout.flush()
    _say_unread(unread, None)
    return _status(count, unread)


def _to_file(wish: ScanOptions, out: str, stack: ExitStack) -> int:
    parts = Parts(out, wish.paths, size=wish.piece, fresh=wish.fresh)
    done = parts.done()
    missing = parts.missing(done)
    if parts.resumed:
        complain(f"going on: {len(done)} of {len(parts.tasks)} batches were done before (--fresh begins anew)")
    total = sum(task.size for task in parts.tasks)
    progress = _Progress(total, sum(report.read for report in done))
    for report in _engine(wish, missing, stack, progress.tick if progress.on else None)(missing):
        done.append(report)
        progress.add(report)
    progress.close()
    unread = [*parts.unread, *(item for report in sorted(done, key=lambda r: r.number) for item in report.unread)]
    rows = parts.finish()
    count = sum(report.failures for report in done)
    read = sum(report.read for report in done)
    failures = f"{counted(count, 'failure')} in {counted(rows, 'row')} of {out}"
    complain(f"{failures}; {_size(read)} read in {progress.seconds:.1f} s")
    _say_unread(unread, out)
    return _status(count, unread)


def _engine(wish: ScanOptions, tasks: list[Task], stack: ExitStack, tell: Tell | None) -> Engine:
    if wish.cluster:
        from kvmwhy.fleet.cluster import cluster, connect

        return cluster(stack.enter_context(connect(wish.cluster)))
    work = sum(task.size + len(task.batch) * _OPENING for task in tasks)
    jobs = wish.jobs or (_cpus() if work >= _WORTH_PROCESSES else 1)
    jobs = min(jobs, len(tasks))
    return processes(jobs, tell=tell) if jobs > 1 else partial(here, tell=tell)


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _status(count: int, unread: list[Unread]) -> int:
    return DAMAGED if unread and count else BAD_INPUT if unread else DONE if count else NOTHING


def _say_unread(unread: list[Unread], out: str | None) -> None:
    """The first few, and where all of them are listed."""
    for item in unread[:_MOST_SHOWN]:
        complain(f"{item.path}: {item.why}")
    more = len(unread) - _MOST_SHOWN
    if out and more > 0:
        import msgspec

        write_whole(f"{out}.unread", (msgspec.json.encode(item) + b"\n" for item in unread), durable=True)
        complain(f"{more:,} more could not be read; {out}.unread lists all")
    elif more > 0:
        complain(f"{more:,} more could not be read")


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


class _Progress:
    """One line on a terminal: how much, how fast, how long yet."""

    def __init__(self, total: int, before: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.before, self.clock = total, before, clock
        self.read = self.seen = self.failures = 0  # seen: more than is in batches that are done
        self.begun = self.shown = clock()
        self.on = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        return self.clock() - self.begun

    def add(self, report: Report) -> None:
        self.read += report.read
        self.failures += report.failures
        self._show()

    def tick(self, more: int) -> None:
        """Some bytes of a batch that is being done were read."""
        self.seen = min(self.seen + more, max(0, self.total - self.before))
        self._show()

    def _show(self) -> None:
        now = self.clock()
        if self.on and now - self.shown >= _EVERY:
            self.shown = now
            sys.stderr.write(f"\r\x1b[K{self.line()}")
            sys.stderr.flush()

    def line(self) -> str:
        read = max(self.read, self.seen)
        rate = read / max(self.seconds, 1e-3)
        left = max(0, self.total - self.before - read)
        there = f"{_size(self.before + read)} of {_size(self.total)}"
        time_left = f", {_duration(left / rate)} left" if rate and left else ""
        return f"{there}, {_size(rate)}/s{time_left}; {counted(self.failures, 'failure')}"

    def close(self) -> None:
        if self.on:
            sys.stderr.write("\r\x1b[K")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
