"""A triage for a person at a terminal and for programs. Everything in it that came from a log is made harmless."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kvmwhy.diagnosis import catalogue
from kvmwhy.fleet.triage import Group, Triage
from kvmwhy.render.fleet_words import (
    advice,
    command,
    direction,
    headline,
    moment,
    outlier,
    plural,
    seen,
    span,
    summary,
    unsigned,
)
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
    if note := unsigned(found):
        lines.append(Line(note, "bad"))
    for n, group in enumerate(found.groups, 1):
        lines += [Line(), *_group(group, n, found)]
    if found.left_out:
        lines += [Line(), Line(f"{plural(found.left_out, 'more group')} not shown; see --top", "dim")]
    return lines


def _group(group: Group, number: int, found: Triage) -> list[Line]:
    lines = [
        Line(headline(group), "answer", f"{number}. ", 0, "head"),
        _row("Seen", seen(group, found)),
        *(_row("What to do", f"{who}: {text}") for who, text in advice(group)[:1]),
    ]
    if group.first:
        lines.append(_row("When", f"{moment(group.first)} to {moment(group.last)}"))
    if any(group.trend):
        words = "; ".join(filter(None, (direction(group.spread), f"{span(found.step)} each")))
        lines.append(_row("Trend", f"|{sparkline(group.trend)}| {words}"))
    lines += [_row("Stands out", outlier(o, group)) for o in group.outliers[:_MOST_OUTLIERS]]
    for name in dict.fromkeys(part[0] for part in group.by):
        values = "; ".join(f"{safe(value, 120)}: {n:,}" for column, value, n in group.by if column == name)
        lines.append(_row(name, values))
    explain = command(group)
    lines += [
        _row("Cause", f"{safe(group.cause)} ({safe(group.confidence)}){_more(group)}"),
        _row("Same in", safe(group.why) or "nothing that is known"),
        _row("One of them", safe(group.answer)),
        _row("", explain or safe(group.example))._replace(whole=explain is not None),
    ]
    return lines


def _more(group: Group) -> str:
    """Where the rest of what can be done is said."""
    return f"; all that can be done: kvmwhy cause {group.cause}" if group.cause in catalogue() else ""


def _row(label: str, text: str) -> Line:
    return Line(text, "plain", f"{label:<{_LABEL - 1}} ", 2)


def sparkline(trend: tuple[int, ...]) -> str:
    """One character for each step; blank where there was none."""
    most = max(trend)
    return "".join(" " if not n else _BARS[min(7, n * 8 // (most + 1))] for n in trend)
