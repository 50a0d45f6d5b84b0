"""Do the batches on a cluster of Dask's ``distributed``: the same function as here, and the same result.

A worker returns a part's bytes and its report, and writes nothing: the client keeps each part under the number of its
batch. A batch of a worker that died is done again by another; that it may have been done twice makes no difference,
since only one result of a future is ever taken, and both are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from kvmwhy.fleet.checkpoint import Report, Task, do, keep, lost
from kvmwhy.fleet.duckdb_load import roll_up
from kvmwhy.fleet.executor import Engine
from kvmwhy.fleet.signature import NEWEST
from kvmwhy.fleet.store import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

Client = Any  # of distributed, which has no types and need not be installed

_AHEAD: Final = 3  # tasks that wait for each worker
_MOST_DEATHS: Final = 3  # workers that a batch may outlive


def connect(address: str, *, timeout: float = 10.0) -> Client:
    """The client of a scheduler, as in ``tcp://scheduler:8786``. Raises StoreError if there is none."""
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise StoreError("a cluster needs Dask's distributed: install kvmwhy[cluster]") from None
    try:
        return distributed.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise StoreError(f"no scheduler answers at {address}: {str(error)[:200]}") from None


def cluster(client: Client) -> Engine:
    """On the workers of ``client``'s cluster, which must see the inputs under the same paths."""

    def run(tasks: Iterable[Task]) -> Iterator[Report]:
        distributed: Any = import_module("distributed")
        stream = iter(tasks)
        waiting: dict[str, Task] = {}

        def submit(task: Task) -> Any:
            # Not pure: a key of its own for each run, so that nothing of another run is taken for it.
            future = client.submit(do, task, pure=False)
            waiting[future.key] = task
            return future

        def ahead() -> int:
            workers: int = sum(client.nthreads().values())
            return max(4, _AHEAD * workers)

        queue = distributed.as_completed([submit(task) for task in islice(stream, ahead())], loop=client.loop)
        for future in queue:
            task = waiting.pop(future.key)
            try:
                part, report = future.result()
            except distributed.KilledWorker:
                yield lost(task, f"{_MOST_DEATHS} workers died while they read it")
            else:
                yield keep(task, part, report)
            future.release()
            for following in islice(stream, max(0, ahead() - len(waiting))):
                queue.add(submit(following))

    return run


def roll_up_on(
    client: Client, files: Sequence[str], by: Sequence[str], since: datetime | None, version: int = NEWEST
) -> Iterator[pa.Table]:
    """Each file of rows, rolled up by a worker; for ``triage``. Raises StoreError for what is no table of rows."""
    futures = [client.submit(roll_up, path, tuple(by), since, version=version, threads=1, pure=False) for path in files]
    for future in futures:
        yield future.result()
        future.release()
