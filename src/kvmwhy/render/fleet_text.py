"""A triage for a person and for programs. Everything in it that came from a log is made harmless."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from kvmwhy.fleet.triage import Group, Outlier, Triage
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

SCHEMA: Final = 1
_BARS: Final = "▁▂▃▄▅▆▇█"
_LABEL: Final = 12
_MOST_OUTLIERS: Final = 6


def to_json(found: Triage) -> bytes:
    """One JSON object, without a newline at its end."""
    return msgspec.json.encode({"schema": SCHEMA, **_safe(msgspec.to_builtins(found))})


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return safe(value, 4000)
    if isinstance(value, dict):
        return {key: _safe(item) for key, item in value.items()}
    return [_safe(item) for item in value] if isinstance(value, list | tuple) else value


def overview(found: Triage) -> list[Line]:
    """The whole text: what there is, and then group by group, those on most hosts first."""
    lines = [Line(summary(found), "answer")]
    for n, group in enumerate(found.groups, 1):
        lines += [Line(), *_group(group, n)]
    if found.left_out:
        lines += [Line(), Line(f"{plural(found.left_out, 'more group')} not shown; see --top", "dim")]
    return lines


def summary(found: Triage) -> str:
    """How many, where, since when, in one sentence."""
    groups = len(found.groups) + found.left_out
    where = plural(found.hosts, "host") if found.hosts else plural(found.files, "file")
    when = f", from {moment(found.start)} to {moment(found.end)}" if found.start else ", at times that no log tells"
    return f"{plural(found.count, 'failure')} in {plural(groups, 'group')}, on {where}{when}."


def _group(group: Group, number: int) -> list[Line]:
    def row(label: str, text: str) -> Line:
        return Line(text, "plain", f"{label:<{_LABEL}}", 2)

    lines = [
        Line(safe(group.answer), "answer", f"{number}. ", 0, "head"),
        row("Seen", seen(group)),
        row("Cause", f"{safe(group.cause)} ({safe(group.confidence)})"),
        row("Same in", safe(group.why)),
    ]
    if group.first:
        lines.append(row("When", f"{moment(group.first)} to {moment(group.last)}"))
    if any(group.trend):
        lines.append(row("Trend", f"{sparkline(group.trend)}  {direction(group.trend)}"))
    lines += [row("Stands out", outlier(o)) for o in group.outliers[:_MOST_OUTLIERS]]
    for name in dict.fromkeys(part[0] for part in group.by):
        values = ", ".join(f"{safe(value)} {n:,}" for column, value, n in group.by if column == name)
        lines.append(row(name[: _LABEL - 1], values))
    lines.append(row("Example", safe(group.example)))
    return lines


def seen(group: Group) -> str:
    """How often and where."""
    where = plural(group.hosts, "host") if group.hosts else plural(group.files, "file")
    return f"{plural(group.count, 'time')}, on {where}"


def outlier(found: Outlier) -> str:
    """What sets the hosts of a group apart."""
    return (
        f"{found.share:.0%} of its hosts have {safe(found.dimension, 60)} {safe(found.value, 120)},"
        f" {found.overall:.0%} of all; {found.hit:.0%} of the hosts with it are here"
    )


def direction(trend: tuple[int, ...]) -> str:
    """Where the last quarter goes, against the quarter before."""
    quarter = len(trend) // 4
    if not quarter or not any(trend):
        return ""
    last, before = sum(trend[-quarter:]), sum(trend[-2 * quarter : -quarter])
    if not before:
        return "new" if last and not any(trend[:-quarter]) else "back again" if last else "none of late"
    ratio = last / before
    return (
        "none of late"
        if not last
        else f"rising, ×{ratio:.1f}"
        if ratio > 1.5
        else "falling"
        if ratio < 0.67
        else "steady"
    )


def sparkline(trend: tuple[int, ...]) -> str:
    most = max(trend)
    return "".join(" " if not n else _BARS[min(7, n * 8 // (most + 1))] for n in trend)


def moment(when: datetime | None) -> str:
    return "?" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
