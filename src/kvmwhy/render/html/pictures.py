"""The drawings of a page: the guest's address space with the access, and bars of shares."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite, log2
from typing import Final

from kvmwhy.abi.tracepoints import ENTRIES
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Event
from kvmwhy.render.address_bar import Segment, address_bar, amount
from kvmwhy.render.html.markup import plain

_SCALE: Final = 11  # units of a column of the text's bar
_HEIGHT: Final = 26
_NAMES: Final = {"ram": "RAM", "device": "devices", "unknown": "not known"}
# What is there by the layout of a PC, where the kind alone says little.
_PLACES: Final = {
    (0xA_0000, "unknown"): "VGA, ROMs", (0xA_0000, "device"): "VGA, ROMs", (2 << 30, "unknown"): "RAM or PCI",
    (3 << 30, "unknown"): "RAM or PCI", (0xFEC0_0000, "device"): "APICs, flash",
}  # fmt: skip
_LANE: Final = 800
_LEAST_EVENTS: Final = 3
_LONGEST: Final = 1e6  # seconds


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
    name = f'<text x="{x + width // 2}" y="35" text-anchor="middle">{_PLACES.get((segment.start, segment.kind), _NAMES[segment.kind])}</text>'
    return f'<rect class="{segment.kind} edge" x="{x}" y="18" width="{width}" height="{_HEIGHT}"/>{text}{name}'


def time_line(events: Sequence[Event]) -> str:
    """From one event to the next: the guest's time behind an entry, else the host's; each event is a stroke.

    The scale is not even: a stretch is as wide as the logarithm of its length, so that the short ones are seen.
    """
    timed = [(event, event.time) for event in events if event.time is not None]
    gaps = [max(0.0, later - earlier) for (_, earlier), (_, later) in pairwise(timed)]
    weights = [1 + log2(1 + min(gap, _LONGEST) * 1e6) for gap in gaps if isfinite(gap)]
    if len(timed) < _LEAST_EVENTS or len(weights) != len(gaps):
        return ""
    scale, x, parts = _LANE / sum(weights), 0.0, []
    for (event, _), weight in zip(timed, weights, strict=False):
        width = weight * scale
        kind = "ram" if event.name in ENTRIES else "device"
        parts.append(f'<rect class="{kind} edge" x="{x:.0f}" y="2" width="{width:.0f}" height="22"/>')
        x += width
    guest = sum(gap for (event, _), gap in zip(timed, gaps, strict=False) if event.name in ENTRIES)
    described = f"{len(timed)} events over {sum(gaps) * 1e6:,.0f} µs, of these {guest * 1e6:,.0f} µs in the guest"
    return (
        f'<svg class="lane" viewBox="0 0 {_LANE} 34" role="img" aria-label="{described}">{"".join(parts)}'
        f'<path class="access" d="M{_LANE} 24l-6 10h6z"/></svg>'
        f'<p class="dim"><span class="key ram-key">guest</span> <span class="key device-key">host</span> {described}; the failure is at the right. The scale is not even.</p>'
    )


def share(part: float) -> str:
    """A bar of a share; the number stands beside it."""
    return (
        '<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="pale" width="100" height="6"/>'
        f'<rect class="full" width="{part * 100:.1f}" height="6"/></svg>'
    )
