"""Redacted records behind links that cannot be guessed, in SQLite, each for some days."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from typing import Final, NamedTuple

_TOKEN: Final = 16  # bytes
_DAY: Final = 86_400
_SCHEMA: Final = """
create table if not exists records (token text primary key, made integer not null, remarks integer not null,
    record blob not null);
create index if not exists records_made on records (made);
"""


class Kept(NamedTuple):
    """``remarks`` is how many were made when the log was read: their text may name files, and is not kept."""

    record: bytes
    remarks: int


class Store:
    """Of the newest ``most`` records, those of the last ``days``, within ``size`` bytes. Raises sqlite3.Error."""

    def __init__(self, path: str, *, days: int, most: int, size: int) -> None:
        mask = os.umask(0o077)  # nobody else reads it
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.executescript("pragma journal_mode = wal; pragma secure_delete = on;" + _SCHEMA)
        finally:
            os.umask(mask)
        self._days, self._most, self._size = days, most, size
        self.forget()

    def keep(self, record: bytes, remarks: int = 0) -> str:
        """Its token."""
        token = secrets.token_urlsafe(_TOKEN)
        self._database.execute("insert into records values (?, ?, ?, ?)", (token, int(time.time()), remarks, record))
        self.forget()
        return token

    def find(self, token: str) -> Kept | None:
        """The record, unless its time is over."""
        oldest = int(time.time()) - self._days * _DAY
        row = self._database.execute(
            "select record, remarks from records where token = ? and made >= ?", (token, oldest)
        ).fetchone()
        return Kept(bytes(row[0]), int(row[1])) if row else None

    def forget(self) -> None:
        """What is too old, and the oldest beyond the number and the bytes that are kept."""
        self._database.execute("delete from records where made < ?", (int(time.time()) - self._days * _DAY,))
        self._database.execute(
            "delete from records where token in (select token from (select token, count(*) over newer as n, "
            "sum(length(record)) over newer as size from records window newer as (order by made desc, rowid desc)) "
            "where n > ? or size > ?)",
            (self._most, self._size),
        )

    def count(self) -> int:
        return int(self._database.execute("select count(*) from records").fetchone()[0])

    def close(self) -> None:
        self._database.close()
