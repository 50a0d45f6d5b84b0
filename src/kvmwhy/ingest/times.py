"""A log's times as instants."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_SYSLOG_TIME: Final = re.compile(r"[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d")


@lru_cache(maxsize=4096)
def instant(time: str, *, near: float) -> datetime | None:
    """A log's time as an instant in UTC; ``near``, in seconds since 1970, tells the year where the log has none.

    A time without zone is taken as UTC. A time since boot is none.
    """
    moment: datetime | None
    try:
        moment = datetime.fromisoformat(time.removesuffix(" UTC").replace(",", "."))
    except ValueError:
        moment = _without_year(time, near) if _SYSLOG_TIME.match(time) else _since_1970(time)
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _without_year(time: str, near: float) -> datetime | None:
    """The year that puts it before ``near``, give or take a day for clocks and zones."""
    around = datetime.fromtimestamp(near, UTC)
    form = "%b %d %Y %H:%M:%S" if re.match(r"\w+ +\d+ \d{4} ", time) else "%Y %b %d %H:%M:%S"
    try:
        if form.startswith("%b"):
            return datetime.strptime(time[:20], form).replace(tzinfo=UTC)
        moment = datetime.strptime(f"{around.year} {time[:15]}", form).replace(tzinfo=UTC)
        late = (moment - around).total_seconds() > 86400
        return moment.replace(year=around.year - 1) if late else moment
    except ValueError:
        return None


def _since_1970(time: str) -> datetime | None:
    digits, _, rest = time.partition(".")
    if not digits.isdigit() or not (rest.isdigit() or not rest):
        return None
    try:
        if 9 <= len(digits) <= 10:
            return datetime.fromtimestamp(float(time), UTC)
        if len(digits) == 16:  # journald: microseconds
            return datetime.fromtimestamp(int(digits) / 1e6, UTC)
    except (OverflowError, OSError, ValueError):
        pass
    return None
