"""The guest's physical address space as a bar, with the access marked.

The scale is not even: what matters on a PC lies below 1 MiB, at the end of RAM, and just below 4 GiB.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal, NamedTuple

from kvmwhy.arch.x86.physical_map import what_lives_at

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_TOP: Final = 1 << 52
_LEGACY: Final = 0xA_0000
_APICS: Final = 0xFEC0_0000

Kind = Literal["ram", "device", "unknown"]


class Segment(NamedTuple):
    """A stretch of addresses, what it is, and how many columns it gets."""

    start: int
    end: int
    kind: Kind
    width: int


class Bar(NamedTuple):
    """``marker`` is the column of the access."""

    segments: tuple[Segment, ...]
    marker: int


def address_bar(gpa: int, *, ram_bytes: int | None, width: int = 64) -> Bar | None:
    """The segments around an address; ``None`` beyond what x86 can address."""
    if not 0 <= gpa < _TOP:
        return None
    cuts = [0, _LEGACY, _MIB, *_ends_of_ram(ram_bytes), _APICS, 4 * _GIB]
    if gpa >= 4 * _GIB:
        cuts.append(max(1 << gpa.bit_length(), 8 * _GIB))
    pairs = list(pairwise(cuts))
    share = width // len(pairs)
    segments = tuple(
        Segment(start, end, _kind(start, end, ram_bytes), max(share, len(amount(start)) + 2)) for start, end in pairs
    )
    column = 0
    for segment in segments:
        if segment.start <= gpa < segment.end:
            offset = (gpa - segment.start) * segment.width // (segment.end - segment.start)
            return Bar(segments, column + min(offset, segment.width - 1))
        column += segment.width
    return None


def _ends_of_ram(ram_bytes: int | None) -> list[int]:
    """Where RAM may end below 4 GiB (hw/i386/pc.c: the split at 2 or 3 GiB); both, if its size is not known."""
    if ram_bytes is None:
        return [2 * _GIB, 3 * _GIB]
    low = min(max(ram_bytes, 2 * _MIB), 3 * _GIB)
    return [low] if low <= 2 * _GIB else [2 * _GIB, low]


def _kind(start: int, end: int, ram_bytes: int | None) -> Kind:
    """What the whole stretch is: RAM only if its first and last byte are."""
    first = what_lives_at(start, ram_bytes=ram_bytes)
    last = what_lives_at(end - 1, ram_bytes=ram_bytes)
    if start == _MIB and ram_bytes is None:
        return "ram"  # no VM has so little that it ends before 2 GiB is sure; it begins as RAM
    if first is not None and last is not None:
        if first.ram and last.ram:
            return "ram"
        if first.ram is False and last.ram is False:
            return "device"
    return "unknown"


_INK: Final[dict[Kind, str]] = {"ram": "█", "device": "░", "unknown": "▒"}


def drawn(bar: Bar) -> tuple[str, str, str]:
    """Three rows of text: addresses, the bar, and the mark below it."""
    total = sum(segment.width for segment in bar.segments)
    ruler, ink = [" "] * (total + 12), ""
    column = 0
    for segment in bar.segments:
        label = amount(segment.start)
        ruler[column : column + len(label)] = label
        ink += "│" + _INK[segment.kind] * (segment.width - 1)
        column += segment.width
    label = amount(bar.segments[-1].end)
    ruler[column : column + len(label)] = label
    return "".join(ruler).rstrip(), ink + "│", " " * bar.marker + "▲"


def amount(size: int) -> str:
    """Round sizes by name; what a manual gives in hexadecimal, so."""
    for unit, name in ((1 << 40, "TiB"), (_GIB, "GiB"), (_MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0 and size // unit < 1 << 10:
            return f"{size // unit} {name}"
    return f"{size:#x}" if size else "0"
