"""From a lake of logs to a short list of causes: find, count, sign, store, triage.

Here is what programs use; `kvmwhy scan`, `kvmwhy triage` and `kvmwhy redact` are made of the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from kvmwhy.fleet.input_splits import Unread
    from kvmwhy.fleet.row import Row
    from kvmwhy.record import Failure


def scan(paths: Iterable[str], *, unread: list[Unread] | None = None) -> Iterator[Failure]:
    """Every failure in ``paths``: files, directories, globs, archives.

    Each has its input under ``source.path``, and under ``source.count`` how many it stands for: where equal ones
    follow each other closely they come once. What cannot be read is appended to ``unread``; nothing is raised.
    """
    from msgspec.structs import replace

    from kvmwhy.fleet.extract import Known
    from kvmwhy.fleet.input_splits import Unread, plan
    from kvmwhy.fleet.worker import Meter, look

    known = Known(_itself)
    complain = (unread if unread is not None else []).append
    for piece in plan(paths):
        if isinstance(piece, Unread):
            complain(piece)
            continue
        for path, sightings in look(piece, known, complain, Meter()):
            for seen in sightings:
                source = replace(seen.made.source, path=path, line=None, count=seen.times)
                if seen.host or seen.writer:
                    source = replace(source, writer=" on ".join(filter(None, (seen.writer, seen.host))))
                if seen.time:
                    source = replace(source, time=seen.time.isoformat())
                yield replace(seen.made, source=source)


def _itself(failure: Failure) -> Failure:
    return failure


def records(paths: Iterable[str], *, unread: list[Unread] | None = None) -> Iterator[Row]:
    """The rows that `kvmwhy scan` writes: failures explained, equal ones of one host, writer and hour together."""
    from kvmwhy.fleet.input_splits import Unread, plan
    from kvmwhy.fleet.row import KNOWN, rows
    from kvmwhy.fleet.worker import Meter, look

    complain = (unread if unread is not None else []).append
    for piece in plan(paths):
        if isinstance(piece, Unread):
            complain(piece)
            continue
        for path, sightings in look(piece, KNOWN, complain, Meter()):
            yield from rows(sightings, path)


def table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table. Raises StoreError if pyarrow is missing."""
    from kvmwhy.fleet.store import to_table

    return to_table(list(rows))


def view(paths: Iterable[str]) -> duckdb.DuckDBPyConnection:
    """A DuckDB session with the view ``rows`` over files that `kvmwhy scan` wrote. Raises StoreError."""
    from kvmwhy.fleet.duckdb_load import ask, files_of, open_session, source

    session = open_session()
    files = files_of(paths)
    parts = (source(session, file) for file in files)
    ask(session, ", ".join(files[:3]), "CREATE VIEW rows AS " + " UNION ALL ".join(parts), None)
    return session
