"""The drawings of a page: the guest's address space with the access, and bars of shares."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.facts import Facts
from kvmwhy.render.address_bar import Segment, address_bar, amount
from kvmwhy.render.html.markup import plain

_SCALE: Final = 11  # units of a column of the text's bar
_HEIGHT: Final = 26
_NAMES: Final = {"ram": "RAM", "device": "no RAM", "unknown": "not known"}


def memory_map(facts: Facts) -> str:
    """The segments of the physical address space and where the access lies; empty if that is not known."""
    access = facts.access
    if access is None or access.gpa is None:
        return ""
    bar = address_bar(access.gpa, ram_bytes=facts.failure.host.ram_bytes, width=72)
    if bar is None:
        return ""
    width = sum(segment.width for segment in bar.segments) * _SCALE
    column, parts = 0, []
    for segment in bar.segments:
        parts.append(_segment(segment, column * _SCALE))
        column += segment.width
    end = amount(bar.segments[-1].end)
    parts.append(f'<text x="{width}" y="12" text-anchor="end">{end}</text>')
    at = bar.marker * _SCALE + _SCALE // 2
    label = f"{access.kind} at {access.gpa:#x}"
    anchor = "start" if at < width // 2 else "end"
    parts.append(f'<path class="access" d="M{at} 48l-6 11h12z"/>')
    parts.append(
        f'<text class="said" x="{at + (10 if anchor == "start" else -10)}" y="59" text-anchor="{anchor}">{label}</text>'
    )
    described = f"{label}: {access.what or 'what lives there is not known'}"
    return (
        f'<svg viewBox="0 0 {width} 66" role="img" aria-label="{plain(described)}">{"".join(parts)}</svg>'
        f'<p class="dim">{plain(described)}. The scale is not even.</p>'
    )


def _segment(segment: Segment, x: int) -> str:
    width = segment.width * _SCALE
    text = f'<text x="{x}" y="12">{amount(segment.start)}</text>'
    name = f'<text x="{x + width // 2}" y="35" text-anchor="middle">{_NAMES[segment.kind]}</text>'
    return f'<rect class="{segment.kind} edge" x="{x}" y="18" width="{width}" height="{_HEIGHT}"/>{text}{name}'


def share(part: float) -> str:
    """A bar of a share; the number stands beside it."""
    return (
        '<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="pale" width="100" height="6"/>'
        f'<rect class="full" width="{part * 100:.1f}" height="6"/></svg>'
    )
