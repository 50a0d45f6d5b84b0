"""``kvmwhy triage``: tables of failures to groups, each with its cause, its hosts and its trend."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOTHING
from kvmwhy.fleet.store import StoreError

if TYPE_CHECKING:
    from kvmwhy.fleet.triage import Triage


_AGO: Final = re.compile(r"(\d{1,6})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class TriageOptions(NamedTuple):
    """What the command line asks for."""

    records: tuple[str, ...]
    since: datetime | None
    by: tuple[str, ...]
    top: int
    inventory: str | None
    as_json: bool
    html: str | None
    cluster: str | None
    memory: str | None
    signature: str | None
    pages: bool = False


def version_of(text: str | None) -> int:
    """The number of "v1" or "2"; the newest where none is asked for. Raises StoreError for what is no version."""
    from kvmwhy.fleet.duckdb_load import check_version
    from kvmwhy.fleet.signature import NEWEST

    if text is None:
        return NEWEST
    number = text.removeprefix("v")
    version = int(number) if number.isascii() and number.isdecimal() and len(number) < 4 else 0
    check_version(version, text)
    return version


def since_when(text: str | None) -> datetime | None:
    """The moment of "7d", "36h" or a date in ISO 8601, UTC where it has no zone. Raises ValueError."""
    if text is None:
        return None
    wrong = ValueError(f"--since {text}: neither a date such as 2026-01-31 nor a time ago such as 7d, 36h, 30m")
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # before the year 1, or after 9999
        raise wrong from None


def run(wish: TriageOptions) -> int:
    """Triage, and return the exit status."""
    try:
        result = _triage(wish)
        if wish.html:
            from kvmwhy.cli.html_page import write_page
            from kvmwhy.render.fleet_html import page
            from kvmwhy.render.fleet_words import summary

            pages: dict[int, str] = {}
            if wish.pages:
                from kvmwhy.cli.triage_pages import write_pages

                pages, remarks = write_pages(result, wish.html)
                for remark in remarks:
                    complain(remark)
            write_page(wish.html, page(result, made=datetime.now(UTC), pages=pages))
            if result.groups:
                complain(f"{summary(result)} The page is in {wish.html}.")
    except StoreError as error:
        complain(str(error))
        return BAD_INPUT
    except OSError as error:
        complain(f"{error.filename or 'the records'}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT
    if wish.as_json:
        from kvmwhy.render.fleet_text import to_json

        sys.stdout.buffer.write(to_json(result) + b"\n")
        sys.stdout.flush()
    elif not wish.html and result.groups:
        from kvmwhy.render.fleet_text import overview

        show(overview(result))
    if not result.groups:
        complain("there is no failure in these records" + (" since then" if wish.since else ""))
        return NOTHING
    return DONE


def _triage(wish: TriageOptions) -> Triage:
    from kvmwhy.fleet.triage import triage

    version = version_of(wish.signature)
    how = {
        "since": wish.since,
        "by": wish.by,
        "top": wish.top,
        "version": version,
        "inventory": wish.inventory,
        "memory": wish.memory,
    }
    if not wish.cluster:
        return triage(wish.records, **how)  # type: ignore[arg-type]  # each has its own type
    from kvmwhy.fleet.cluster import connect, roll_up_on
    from kvmwhy.fleet.duckdb_load import files_of

    with connect(wish.cluster) as client:
        tables = list(roll_up_on(client, files_of(wish.records), wish.by, wish.since, version))
    return triage(wish.records, tables=tables, **how)  # type: ignore[arg-type]
