"""Do the batches: in this process, or in several. What is done is the same, and so is the result."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvmwhy.fleet.checkpoint import Report, Task, do_here, lost

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing.context import ForkContext, SpawnContext

Engine = Callable[[Iterable[Task]], Iterator[Report]]
"""Does each task, somewhere; the reports come in any order, one for each."""
Tell = Callable[[int], None]
"""Is called with the number of bytes of files that were read since the last call."""

_AHEAD: Final = 3  # tasks that wait for each worker
_MOST_DEATHS: Final = 2  # of pools that did nothing, before each task has a process to itself
_EVERY: Final = 0.2  # seconds between two looks at how far the processes are


def here(tasks: Iterable[Task], *, tell: Tell | None = None) -> Iterator[Report]:
    """One after another, in this process."""
    return (do_here(task, tell) for task in tasks)


def processes(count: int, *, tell: Tell | None = None) -> Engine:
    """In ``count`` processes of this machine. What a process that died had to do is done again."""

    def run(tasks: Iterable[Task]) -> Iterator[Report]:
        from concurrent.futures.process import BrokenProcessPool

        stream = iter(tasks)
        waiting: list[Task] = []
        deaths = 0
        while True:
            try:
                for report in _pool(count, waiting, stream, tell):
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


def _pool(count: int, waiting: list[Task], stream: Iterator[Task], tell: Tell | None) -> Iterator[Report]:
    """Do ``waiting`` and then ``stream``; what is begun and not done is in ``waiting``."""
    from concurrent.futures import FIRST_COMPLETED, wait

    context = _context()
    # No lock, which a worker that is killed would take with it: if two add at once and one is lost, no harm is done.
    read = context.RawValue("Q", 0) if tell else None
    seen = 0
    with _executor(count, context, read) as pool:
        futures: dict[Future[Report], Task] = {pool.submit(_do, task): task for task in waiting}
        try:
            while True:
                for task in islice(stream, count * _AHEAD - len(futures)):
                    waiting.append(task)
                    futures[pool.submit(_do, task)] = task
                if not futures:
                    return
                done = wait(futures, timeout=_EVERY if tell else None, return_when=FIRST_COMPLETED).done
                if tell and read and read.value > seen:
                    tell(read.value - seen)
                    seen = read.value
                for future in done:
                    report = future.result()
                    waiting.remove(futures.pop(future))
                    yield report
        finally:
            for future in futures:
                future.cancel()


def _context() -> ForkContext | SpawnContext:
    """``fork`` takes a hundredth of the time, but only a process without threads may be copied so."""
    from multiprocessing import get_context

    alone = sys.platform == "linux" and threading.active_count() == 1 and "pyarrow" not in sys.modules
    return get_context("fork") if alone else get_context("spawn")


def _executor(count: int, context: ForkContext | SpawnContext, read: Any = None) -> ProcessPoolExecutor:
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(read,))


_read: Any = None  # in a worker: the bytes that all workers have read, if somebody wants to know


def _begin(read: Any) -> None:
    global _read  # noqa: PLW0603 -- what a pool gives its workers has no other place
    _read = read
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker that was forked has both ends of the pool's pipes, and would wait for ever for one who was killed."""
    from multiprocessing import parent_process

    if parent := parent_process():
        parent.join()
        os._exit(1)


def _do(task: Task) -> Report:
    return do_here(task) if _read is None else do_here(task, _count)


def _count(more: int) -> None:
    _read.value += more


def _alone(task: Task) -> Report:
    """In a process of its own: one that dies of it takes nothing else with it."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        with _executor(1, _context()) as pool:
            return pool.submit(_do, task).result()
    except BrokenProcessPool:
        return lost(task, "the process that read it died")
