"""Do the batches: in this process, or in several. What is done is the same, and so is the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Final

from kvmwhy.fleet.parts import Report, Task, do_here, keep
from kvmwhy.fleet.pieces import Unread
from kvmwhy.fleet.store import write_rows

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

Engine = Callable[[Iterable[Task]], Iterator[Report]]
"""Does each task, somewhere; the reports come in any order, one for each."""

_AHEAD: Final = 3  # tasks that wait for each worker
_MOST_DEATHS: Final = 2  # of pools that did nothing, before each task has a process to itself


def here(tasks: Iterable[Task]) -> Iterator[Report]:
    """One after another, in this process."""
    return map(do_here, tasks)


def processes(count: int) -> Engine:
    """In ``count`` processes of this machine. What a process that died had to do is done again."""

    def run(tasks: Iterable[Task]) -> Iterator[Report]:
        from concurrent.futures.process import BrokenProcessPool

        stream = iter(tasks)
        waiting: list[Task] = []
        deaths = 0
        while True:
            try:
                for report in _pool(count, waiting, stream):
                    deaths = 0
                    yield report
            except BrokenProcessPool:
                deaths += 1
                if deaths > _MOST_DEATHS:
                    for task in [*waiting]:
                        waiting.remove(task)
                        yield _alone(task)
                    deaths = 0
            else:
                return

    return run


def _pool(count: int, waiting: list[Task], stream: Iterator[Task]) -> Iterator[Report]:
    """Do ``waiting`` and then ``stream``; what is begun and not done is in ``waiting``."""
    from concurrent.futures import FIRST_COMPLETED, wait

    with _executor(count) as pool:
        futures: dict[Future[Report], Task] = {pool.submit(do_here, task): task for task in waiting}
        try:
            while True:
                for task in islice(stream, count * _AHEAD - len(futures)):
                    waiting.append(task)
                    futures[pool.submit(do_here, task)] = task
                if not futures:
                    return
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    report = future.result()
                    waiting.remove(futures.pop(future))
                    yield report
        finally:
            for future in futures:
                future.cancel()


def _executor(count: int) -> ProcessPoolExecutor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def _alone(task: Task) -> Report:
    """In a process of its own: one that dies of it takes nothing else with it."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        with _executor(1) as pool:
            return pool.submit(do_here, task).result()
    except BrokenProcessPool:
        return lost(task, "the process that read it died")


def lost(task: Task, why: str) -> Report:
    """The report of a task that nobody can do, and its part, which is empty."""
    sink = BytesIO()
    write_rows(sink, (), task.suffix)
    unread = tuple(Unread(piece.path, why) for piece in task.batch)
    return keep(task, sink.getvalue(), Report(task.number, 0, 0, 0, unread))
