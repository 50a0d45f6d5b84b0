"""A triage as one page that needs nothing else: no scripts, no fonts, nothing from outside.

Everything that came from a log is made harmless and then escaped; the page forbids itself to load anything. It reads
from top to bottom as an operator asks: what first, on how many hosts, what to do; then everything else.
"""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from html import escape
from typing import Final

from kvmwhy import __version__
from kvmwhy.diagnosis import catalogue
from kvmwhy.fleet.triage import Group, Triage
from kvmwhy.render.fleet_style import STYLE
from kvmwhy.render.fleet_words import (
    advice,
    command,
    details,
    direction,
    headline,
    moment,
    outlier,
    plural,
    reach,
    seen,
    share,
    span,
    summary,
    unsigned,
)
from kvmwhy.render.safe import safe

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_WIDTH, _HEIGHT = 1000, 100  # of a plot's own measure; the page stretches it


def page(triage: Triage, *, made: datetime | None = None, pages: Mapping[int, str] = {}) -> str:
    """The whole document. ``pages``: by the number of a group, the address of the page of one of its failures."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>KVM failures: {escape(summary(triage))}</title><style>{STYLE}</style></head><body>",
        f"<header><h1>KVM failures</h1><p>{escape(summary(triage))}</p></header><main>",
    ]
    if note := unsigned(triage):
        parts.append(f'<p class="note">{escape(note)}</p>')
    if triage.groups:
        parts += [_first(triage), _list(triage)]
    total = tuple(map(sum, zip(*(g.trend for g in triage.groups if g.trend), strict=True)))
    if any(total):
        parts.append(f"<section><h2>When</h2>{_plot(total, triage, 'failures of these groups', '')}</section>")
    parts += [_group(group, n, triage, pages.get(n)) for n, group in enumerate(triage.groups, 1)]
    if triage.left_out:
        parts.append(f'<p class="dim">{plural(triage.left_out, "more group")} not shown; see --top.</p>')
    when = f", {made:%Y-%m-%d %H:%M %Z}" if made else ""
    parts.append(
        f'</main><footer class="dim">kvmwhy {__version__} triage{when}, signature v{triage.signature_version}.'
        " Nothing on this page is loaded from elsewhere.</footer></body></html>\n"
    )
    return "\n".join(parts)


def _text(text: str) -> str:
    return escape(safe(text))


def _first(triage: Triage) -> str:
    """The group on most hosts, and what to do about it."""
    group = triage.groups[0]
    to_do = "".join(
        f"<p><strong>{escape(who[0].upper() + who[1:])}:</strong> {escape(text)}</p>" for who, text in advice(group)
    )
    return (
        f'<section class="first"><h2>Start here</h2><p class="big"><a href="#g1">{escape(headline(group))}</a></p>'
        f"<p>{escape(_reached(group, triage))}</p>{to_do}</section>"
    )


def _reached(group: Group, triage: Triage) -> str:
    """How far it reaches, whether it rises, and what its hosts have in common."""
    where = direction(group.spread)
    words = f"{reach(group, triage).capitalize()}{', ' + where if where else ''}."
    return f"{words} What stands out: {outlier(group.outliers[0], group)}." if group.outliers else words


def _list(triage: Triage) -> str:
    """All groups at a glance, by the hosts or files that have them."""
    sizes = [group.hosts + group.unnamed or group.files for group in triage.groups]
    rows = []
    for n, (group, size) in enumerate(zip(triage.groups, sizes, strict=True), 1):
        part = f" <small>{share(size / triage.population)}</small>" if triage.population else ""
        rows.append(
            f'<tr><td class="n">{n}</td><th scope="row"><a href="#g{n}">{escape(headline(group))}</a>'
            f"<small>{escape(details(group))}</small></th>"
            f'<td class="n">{size:,}{part}<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="pale" width="100" height="1"></rect><rect width="{size / max(sizes) * 100:.1f}" height="1"></rect></svg></td>'
            f'<td class="n">{group.count:,}</td><td class="last">{escape(direction(group.spread))}</td></tr>'
        )
    what = "hosts" if triage.hosts else "files"
    head = "".join(
        f'<th scope="col"{attributes}>{name}</th>'
        for name, attributes in (
            ("#", ' class="n"'),
            ("what", ""),
            (what, ' class="n"'),
            ("failures", ' class="n"'),
            ("of late", ' class="last"'),
        )
    )
    return (
        "<section><h2>What there is</h2><table><caption>Groups of equal failures, those on most "
        f"{what} first</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></section>"
    )


def _plot(trend: tuple[int, ...], triage: Triage, what: str, where: str) -> str:
    """Counts over time, with both axes in words; each bar says its own when it is pointed at."""
    most, width = max(trend), _WIDTH / len(trend)
    bars = []
    for n, count in enumerate(trend):
        if count:
            high = max(2.0, count / most * _HEIGHT)
            bars.append(
                f'<rect x="{n * width + width * 0.08:.1f}" y="{_HEIGHT - high:.1f}" width="{width * 0.84:.1f}" height="{high:.1f}">'
                f"<title>{escape(_from(triage, n))}: {count:,}</title></rect>"
            )
    each = f"{what}, {span(triage.step)} each bar"
    return (
        f'<figure><figcaption>{escape(each)}</figcaption><div class="plot"><div class="y"><span>{most:,}</span><span>0</span></div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(each)}; at most {most:,}{escape(f"; {where}" if where else "")}">{"".join(bars)}</svg>'
        f'<div class="x"><span>{escape(moment(triage.start))}</span><span>{escape(moment(triage.end))}</span></div></div></figure>'
    )


def _from(triage: Triage, point: int) -> str:
    if triage.start is None:
        return ""
    hour: datetime = triage.start.replace(minute=0, second=0, microsecond=0)
    return moment(hour + timedelta(seconds=point * triage.step))


def _group(group: Group, number: int, triage: Triage, address: str | None) -> str:
    first, *others = advice(group) or (("", ""),)
    explain = command(group)
    facts = [
        ("Seen", escape(seen(group, triage))),
        (f"To do, {escape(first[0])}", escape(first[1])),
        ("When", escape(f"{moment(group.first)} to {moment(group.last)}") if group.first else "no log tells"),
        *(("Stands out", escape(outlier(o, group))) for o in group.outliers),
        ("Same in", _text(group.why)),
        (
            "One of them",
            f"{_text(group.answer)}<br><code>{escape(explain) if explain else _text(group.example)}</code>"
            + (f'<br><a href="{escape(address)}">The page of this failure</a>' if address else ""),
        ),
    ]
    known = catalogue().get(group.cause)
    more = [
        *((f"To do, {escape(who)}", escape(text)) for who, text in others),
        ("Cause", f"{_text(group.cause)} ({_text(group.confidence)}){': ' + escape(known.what) if known else ''}"),
        ("Signature", f"<code>{_text(group.signature)}</code>"),
    ]
    plot = _plot(group.trend, triage, "failures of this group", direction(group.spread)) if any(group.trend) else ""
    tables = "".join(_table(group, name) for name in dict.fromkeys(part[0] for part in group.by))
    return (
        f'<section id="g{number}"><h2>{number}. {escape(headline(group))}</h2>{_listed(facts)}{plot}{tables}{_hosts(group)}'
        f"<details><summary>Others who can help, the cause, the signature</summary>{_listed(more)}</details></section>"
    )


def _hosts(group: Group) -> str:
    """The hosts by name, those with most failures first."""
    if not group.named:
        return ""
    rows = "".join(f'<tr><th scope="row">{_text(host)}</th><td class="n">{n:,}</td></tr>' for host, n in group.named)
    which = "" if len(group.named) == group.hosts else f", the {len(group.named)} with most failures"
    return (
        f"<details><summary>{plural(group.hosts, 'host')}{which}</summary>"
        '<table class="by"><caption>Hosts, those with most failures first</caption><thead><tr><th scope="col">host</th><th scope="col" class="n">failures</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _listed(facts: list[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts if text) + "</dl>"


def _table(group: Group, name: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_text(value)}</th><td class="n">{n:,}</td></tr>'
        for column, value, n in group.by
        if column == name
    )
    head = f'<thead><tr><th scope="col">{_text(name)}</th><th scope="col" class="n">failures</th></tr></thead>'
    return f'<table class="by"><caption>By {_text(name)}, at most ten</caption>{head}<tbody>{rows}</tbody></table>'
