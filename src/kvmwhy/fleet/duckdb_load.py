"""Rows of any number of files as one table of a DuckDB session, rolled up to what triage asks for.

Rolling up adds up failures that differ in nothing that is asked. It can be done file by file, on a cluster, and once
more over what came of that: the result is the same.
"""

# ruff: noqa: S608 -- columns are named here, and paths are quoted here
from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from kvmwhy.fleet.row import BY_2, COLUMNS, SCHEMA, SCHEMAS, WIDE
from kvmwhy.fleet.signature import NEWEST, VERSIONS
from kvmwhy.fleet.store import StoreError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# What sets hosts apart, and is no part of a signature: by these a group may differ from all others.
DIMENSIONS: Final = ("kernel", "microcode", "vmm", "qemu", "vendor")
_SAID: Final = ("why", "cause", "family", "confidence", "answer", "advice")
_ALWAYS: Final = ("signature", "path", "host", *DIMENSIONS)
_KINDS: Final = {
    "offset": "UBIGINT",
    "count": "UBIGINT",
    "suberror": "UINTEGER",
    "cpl": "UTINYINT",
    "damaged": "BOOLEAN",
    "share": "DOUBLE",
}
_TIMES: Final = {"time": "TIMESTAMPTZ", "last_time": "TIMESTAMPTZ"}
_SINCE_3: Final = frozenset((*BY_2, "mechanism", "origin", "share"))
_NEWER: Final = "its rows were written by a newer kvmwhy than this one: update this one"
_DEFAULTS: Final = {"count": "1", "kind": "'other'", "damaged": "false", "answer": "''", "signature": "''", "why": "''"}
_DEFAULTS.update(cause="'undecided'", family="'undecided'", confidence="'possible'")


def open_session(*, threads: int | None = None, memory: str | None = None) -> duckdb.DuckDBPyConnection:
    """A session in memory that spills into the temporary directory. Raises StoreError if DuckDB is missing."""
    try:
        import duckdb
    except ImportError:
        raise StoreError("triage needs DuckDB and pyarrow: install kvmwhy[fleet]") from None
    session = duckdb.connect()
    session.execute("SET TimeZone = 'UTC'")
    session.execute("SET enable_progress_bar = false")  # else it goes to stdout where Python runs no file
    if threads:
        session.execute(f"SET threads = {int(threads)}")
    if memory:
        session.execute("SET memory_limit = $1", [memory])
    return session


def files_of(paths: Iterable[str]) -> list[str]:
    """The files that are named, globs expanded. Raises StoreError for what is not there."""
    out: list[str] = []
    for path in paths:
        found = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
        if not found:
            raise StoreError(f"{path}: there is no such file")
        out += found
    return out


def source(session: duckdb.DuckDBPyConnection, path: str) -> str:
    """SQL that gives the rows of one file, with the types that they have. Raises StoreError.

    Rows of schema 2 have their newest signature, which is of version 2, under both of its names.
    """
    if path.endswith(".jsonl"):
        kinds = {name: _kind(name, "VARCHAR") for name in COLUMNS} | dict.fromkeys(WIDE, "VARCHAR")
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in {"row": "UINTEGER", **kinds}.items())
        wanted = ", ".join(_said(name, _of_line(name)) for name in COLUMNS)
        known = " or ".join(map(str, SCHEMAS))
        return (
            f"SELECT {wanted} FROM read_json({_quoted(path)}, format = 'newline_delimited', columns = {{{columns}}},"
            f' maximum_object_size = 4194304) WHERE CASE WHEN "row" IN {SCHEMAS} THEN true WHEN "row" > {SCHEMA}'
            f" THEN error('{_NEWER}') ELSE error('it is no row of schema {known}') END"
        )
    there = _columns(session, path)
    wanted = ", ".join(_said(name, f"CAST({_of_column(name, there)} AS {_kind(name, 'VARCHAR')})") for name in COLUMNS)
    return f"SELECT {wanted} FROM read_parquet({_quoted(path)})"


def _of_line(name: str) -> str:
    if name in WIDE:
        return f'TRY_CAST("{name}" AS UBIGINT)'
    if name in BY_2:
        return f'CASE "row" WHEN 2 THEN "{BY_2[name]}" ELSE "{name}" END'
    return f'"{name}"'


def _of_column(name: str, there: set[str]) -> str:
    if name in there or name not in _SINCE_3:
        return f'"{name}"'
    return f'"{BY_2[name]}"' if name in BY_2 else "NULL"


def _columns(session: duckdb.DuckDBPyConnection, path: str) -> set[str]:
    """The names of a Parquet file's columns, if its rows are not of a schema that is yet to come."""
    quoted = _quoted(path)
    marks = ask(session, path, f"SELECT value FROM parquet_kv_metadata({quoted}) WHERE key = 'kvmwhy.row'", None)
    if any(mark.isdigit() and int(mark) > SCHEMA for (mark,) in marks.fetchall()):
        raise StoreError(f"{path}: {_NEWER}")
    return {name for (name,) in ask(session, path, f"SELECT name FROM parquet_schema({quoted})", None).fetchall()}


def _kind(name: str, other: str) -> str:
    return _KINDS.get(name) or _TIMES.get(name) or ("UBIGINT" if name in WIDE else other)


def _said(name: str, value: str) -> str:
    if name in _TIMES:  # UTC is the session's zone; a time without one needs no other package in Python
        return f'CAST({value} AS TIMESTAMP) AS "{name}"'
    return f'coalesce({value}, {_DEFAULTS[name]}) AS "{name}"' if name in _DEFAULTS else f'{value} AS "{name}"'


def _quoted(path: str) -> str:
    """As DuckDB takes it: what is a file's name is no pattern."""
    plain = "".join(f"[{c}]" if c in "*?[" else c for c in path)
    return "'" + plain.replace("'", "''") + "'"


def columns_of(by: Sequence[str]) -> list[str]:
    """What is rolled up by. Raises StoreError for a column that rows do not have."""
    for name in by:
        if name not in COLUMNS:
            raise StoreError(f"rows have no column {name!r}; they have {', '.join(COLUMNS)}")
    return [*_ALWAYS, *(name for name in dict.fromkeys(by) if name not in {*_ALWAYS, *_SAID, "count"})]


def check_version(version: int, text: str | None = None) -> None:
    """Raises StoreError for a version of the signature that never was; ``text`` is how it was asked for."""
    if version not in VERSIONS:
        known = " and ".join(f"v{number}" for number in sorted(VERSIONS))
        raise StoreError(f"there is no signature {text or f'v{version}'}; there are {known}")


def signed(rows: str, version: int) -> str:
    """SQL of the same rows, with the signature of that version under ``signature``, or the one that they have."""
    check_version(version)
    if version == NEWEST:
        return rows
    older = (f'coalesce("{name}_v{version}", "{name}") AS "{name}"' for name in ("signature", "why"))
    return f"SELECT * REPLACE ({', '.join(older)}) FROM ({rows})"


def rolled(rows: str, by: Sequence[str]) -> str:
    """SQL that rolls up ``rows``, which is SQL, too."""
    names = [f'"{name}"' for name in columns_of(by) if name not in _TIMES]
    words = ", ".join(f'min("{name}") AS "{name}"' for name in _SAID)
    return (
        f"SELECT {', '.join(names)}, {words}, CAST(sum(count) AS UBIGINT) AS count, min(time) AS time,"
        f" max(greatest(last_time, time)) AS last_time FROM ({rows})"
        f" GROUP BY {', '.join(names)}, date_trunc('hour', time)"
    )


def roll_up(
    path: str, by: Sequence[str], since: datetime | None, *, version: int = NEWEST, threads: int | None = None
) -> pa.Table:
    """One file, rolled up: what a cluster's worker does. Raises StoreError for what is no table of rows."""
    session = open_session(threads=threads)
    rows = rolled(_since(signed(source(session, path), version), since), by)
    ask(session, path, f"CREATE TABLE rolled AS {rows}", since)
    return session.table("rolled").to_arrow_table()


def load(
    session: duckdb.DuckDBPyConnection,
    paths: Sequence[str],
    *,
    by: Sequence[str] = (),
    since: datetime | None = None,
    version: int = NEWEST,
    tables: Iterable[pa.Table] | None = None,
) -> None:
    """Make ``rows`` in the session: of files as they are, or of ``tables`` that were rolled up already, by a signature
    of the same version.
    """
    if tables is not None:
        names = []
        for n, table in enumerate(tables):
            session.register(f"part{n}", table)
            names.append(f"SELECT * FROM part{n}")
        ask(session, "the cluster's tables", f"CREATE TABLE rows AS {rolled(' UNION ALL '.join(names), by)}", None)
        return
    parts = []
    for n, path in enumerate(paths):
        query = signed(source(session, path), version)
        ask(session, path, f"SELECT * FROM ({query}) LIMIT 0", None)
        if path.endswith(".jsonl"):  # read once
            ask(session, path, f"CREATE TABLE lines{n} AS {rolled(_since(query, since), by)}", since)
            parts.append(f"SELECT * FROM lines{n}")
        else:
            names = [*columns_of(by), *_SAID, "count"]
            wanted = ", ".join(f'"{name}"' for name in names if name not in _TIMES)
            where = "" if since is None else f" WHERE coalesce(last_time, time) >= TIMESTAMP '{_naive(since)}'"
            plain = f"SELECT {wanted}, time, greatest(last_time, time) AS last_time FROM ({query}){where}"
            parts.append(plain)
    ask(session, ", ".join(paths[:3]), "CREATE VIEW rows AS " + " UNION ALL BY NAME ".join(parts), None)


def _naive(when: datetime) -> datetime:
    return when.astimezone(UTC).replace(tzinfo=None)


def _since(rows: str, since: datetime | None) -> str:
    return rows if since is None else f"SELECT * FROM ({rows}) WHERE coalesce(last_time, time) >= $since"


def ask(session: duckdb.DuckDBPyConnection, about: str, query: str, since: datetime | None) -> Any:
    """Run a query; what DuckDB complains of is said in one sentence."""
    import duckdb

    try:
        return session.execute(query, {} if since is None else {"since": _naive(since)})
    except duckdb.Error as error:
        first = str(error).splitlines()[0][:300]
        raise StoreError(f"{about}: it is no table of rows, as `kvmwhy scan` makes one of logs ({first})") from None


def load_inventory(session: duckdb.DuckDBPyConnection, path: str | None) -> list[str]:
    """Make the table ``inventory``: what is known of every host, failed or not; its columns besides ``host``."""
    if path is None:
        session.execute("CREATE OR REPLACE TABLE inventory (host VARCHAR)")
        return []
    if not os.path.isfile(path):
        raise StoreError(f"{path}: there is no such file")
    reader = (
        "read_parquet" if path.endswith(".parquet") else "read_json_auto" if path.endswith(".jsonl") else "read_csv"
    )
    extra = ", all_varchar = true" if reader == "read_csv" else ""
    ask(session, path, f"CREATE OR REPLACE TABLE inventory AS SELECT * FROM {reader}({_quoted(path)}{extra})", None)
    names = [name for name, *_ in session.execute("DESCRIBE inventory").fetchall()]
    if "host" not in names:
        raise StoreError(f"{path}: an inventory needs a column host; it has {', '.join(names)[:200]}")
    return [name for name in names if name != "host"]
