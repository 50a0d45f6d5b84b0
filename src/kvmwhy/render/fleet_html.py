"""A triage as one page that needs nothing else: no scripts, no fonts, nothing from outside.

Everything that came from a log is made harmless and then escaped; the page forbids itself to load anything.
"""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from html import escape
from typing import Final

from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.cause import Fix
from kvmwhy.fleet.triage import Group, Triage
from kvmwhy.render.fleet_text import direction, moment, outlier, plural, seen, summary
from kvmwhy.render.safe import safe

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #60646c; --line: #d9dce1; --card: #fff; --page: #f6f7f9;
  --bar: #2a6fdb; --pale: #c6d8f5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #a0a6ae; --line: #33383f; --card: #1b1f24;
  --page: #121518; --bar: #6ea4f4; --pale: #2c4468; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dt { color: var(--dim); } dd { margin: 0; } table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--dim); font-weight: 500; } td, th { padding: .15rem .6rem .15rem 0; vertical-align: top; }
.n { text-align: right; font-variant-numeric: tabular-nums; } .dim { color: var(--dim); }
svg { display: block; width: 100%; } svg rect { fill: var(--bar); } svg rect.pale { fill: var(--pale); }
svg text { fill: var(--dim); font-size: 11px; }
"""
_WHO: Final = {"guest": "Guest's author", "vmm": "VMM's author", "host": "Host's operator"}
_WIDTH, _HEIGHT, _FOOT = 800, 90, 16


def page(found: Triage) -> str:
    """The whole document."""
    causes = catalogue()
    total = tuple(map(sum, zip(*(g.trend for g in found.groups if g.trend), strict=True)))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>KVM failures</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(summary(found))}</h1>",
    ]
    if any(total):
        label = f"All groups; one bar is {_span(found.step)}"
        parts.append(f"<section><h2>When</h2>{_plot(total, found, label)}</section>")
    if found.groups:
        parts.append(_list(found))
    for n, group in enumerate(found.groups, 1):
        known = causes.get(group.cause)
        parts.append(_group(group, n, found, known.title if known else "", known.fix if known else Fix()))
    if found.left_out:
        parts.append(f'<p class="dim">{plural(found.left_out, "more group")} not shown.</p>')
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _text(text: str) -> str:
    return escape(safe(text))


def _span(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 172800 else f"{seconds / 3600:.1f} hours"


def _plot(trend: tuple[int, ...], found: Triage, label: str) -> str:
    """Counts over time; each bar says its own when it is pointed at."""
    most, width = max(trend), _WIDTH / len(trend)
    bars = []
    for n, count in enumerate(trend):
        if count:
            high = max(1.5, count / most * (_HEIGHT - 4))
            bars.append(
                f'<rect x="{n * width + 1:.1f}" y="{_HEIGHT - high:.1f}" width="{width - 2:.1f}" height="{high:.1f}" rx="1">'
                f"<title>{count:,}</title></rect>"
            )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="{escape(label)}, at most {most:,}">'
        f'{"".join(bars)}<text x="0" y="{_HEIGHT + 12}">{escape(moment(found.start))}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 12}" text-anchor="end">{escape(moment(found.end))}</text></svg>'
        f'<p class="dim">{escape(label)}; the highest is {most:,}.</p>'
    )


def _list(found: Triage) -> str:
    """All groups at a glance, by the hosts or files that have them."""
    most = max(group.hosts or group.files for group in found.groups) or 1
    rows = []
    for n, group in enumerate(found.groups, 1):
        size = group.hosts or group.files
        rows.append(
            f'<tr><td><a href="#g{n}">{n}</a></td><td>{_text(group.cause)}</td><td class="n">{group.count:,}</td>'
            f'<td class="n">{size:,}</td><td style="width:35%"><svg viewBox="0 0 100 8" preserveAspectRatio="none" height="10">'
            f'<rect class="pale" width="100" height="8"></rect><rect width="{size / most * 100:.1f}" height="8"></rect></svg></td>'
            f"<td>{escape(direction(group.trend))}</td></tr>"
        )
    what = "hosts" if found.hosts else "files"
    head = (
        f'<tr><th></th><th>cause</th><th class="n">failures</th><th class="n">{what}</th><th></th><th>trend</th></tr>'
    )
    return f"<section><h2>What there is</h2><table>{head}{''.join(rows)}</table></section>"


def _group(group: Group, number: int, found: Triage, title: str, fix: Fix) -> str:
    facts = [
        ("Seen", escape(seen(group))),
        ("Cause", f"{_text(group.cause)} ({_text(group.confidence)}){': ' + escape(title) if title else ''}"),
        ("Same in", _text(group.why)),
        ("When", escape(f"{moment(group.first)} to {moment(group.last)}") if group.first else "no log tells"),
        *(("Stands out", escape(outlier(o))) for o in group.outliers),
        *((_WHO[who], escape(text)) for who, text in fix._asdict().items() if text),
        ("Example", _text(group.example)),
        ("Signature", f"<code>{_text(group.signature)}</code>"),
    ]
    told = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)
    plot = _plot(group.trend, found, f"This group; one bar is {_span(found.step)}") if any(group.trend) else ""
    tables = "".join(_table(group, name) for name in dict.fromkeys(part[0] for part in group.by))
    return f'<section id="g{number}"><h2>{number}. {_text(group.answer)}</h2><dl>{told}</dl>{plot}{tables}</section>'


def _table(group: Group, name: str) -> str:
    rows = "".join(
        f'<tr><td>{_text(value)}</td><td class="n">{n:,}</td></tr>' for column, value, n in group.by if column == name
    )
    return f'<table><tr><th>{_text(name)}</th><th class="n">failures</th></tr>{rows}</table>'
