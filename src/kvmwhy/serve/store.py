"""Redacted records behind links that cannot be guessed, in SQLite, each for some days."""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from typing import Final

_TOKEN: Final = 16  # bytes
_DAY: Final = 86_400
_SCHEMA: Final = """
create table if not exists records (token text primary key, made integer not null, record blob not null);
create index if not exists records_made on records (made);
"""


class Store:
    """Of the newest ``most`` records, those of the last ``days``. Raises sqlite3.Error."""

    def __init__(self, path: str, *, days: int, most: int) -> None:
        mask = os.umask(0o077)  # nobody else reads it
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.executescript("pragma journal_mode = wal; pragma secure_delete = on;" + _SCHEMA)
        finally:
            os.umask(mask)
        self._days, self._most = days, most
        self.forget()

    def keep(self, record: bytes) -> str:
        """Its token."""
        token = secrets.token_urlsafe(_TOKEN)
        self._database.execute("insert into records values (?, ?, ?)", (token, int(time.time()), record))
        self.forget()
        return token

    def find(self, token: str) -> bytes | None:
        """The record, unless its time is over."""
        oldest = int(time.time()) - self._days * _DAY
        row = self._database.execute(
            "select record from records where token = ? and made >= ?", (token, oldest)
        ).fetchone()
        return bytes(row[0]) if row else None

    def forget(self) -> None:
        """What is too old, and the oldest beyond the most that are kept."""
        self._database.execute("delete from records where made < ?", (int(time.time()) - self._days * _DAY,))
        self._database.execute(
            "delete from records where token in "
            "(select token from records order by made desc, rowid desc limit -1 offset ?)",
            (self._most,),
        )

    def count(self) -> int:
        return int(self._database.execute("select count(*) from records").fetchone()[0])

    def close(self) -> None:
        self._database.close()
