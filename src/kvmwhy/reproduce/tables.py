"""Page tables for a handful of pages, in every paging mode.

SDM vol. 3A, 4.3 (32-bit), 4.4 (PAE), 4.5 (4 and 5 levels). All pages are 4 KiB. Accessed and dirty
are set, so that no walk has anything to write back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

Paging = Literal["none", "legacy", "pae", "4-level", "5-level"]

PAGE: Final = 0x1000
_PG, _PAE, _LA57, _LMA, _NXE = 1 << 31, 1 << 5, 1 << 12, 1 << 10, 1 << 11
_P, _W, _U, _A, _D, _NX = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 63
_TABLE: Final = _P | _W | _U | _A


class Leaf(NamedTuple):
    """Where a page lies and who may do what there. ``gpa`` is a multiple of 4096."""

    gpa: int
    user: bool = False
    write: bool = True
    execute: bool = True


class Level(NamedTuple):
    """One level of a walk: which bits of the linear address index its table."""

    shift: int
    bits: int

    def index_of(self, linear: int) -> int:
        return linear >> self.shift & (1 << self.bits) - 1

    def table(self, linear: int) -> int:
        """What the addresses that share this table have in common."""
        return linear >> self.shift + self.bits


_WIDE: Final = tuple(Level(shift, 9) for shift in (48, 39, 30, 21, 12))
LEVELS: Final[dict[Paging, tuple[Level, ...]]] = {
    "none": (),
    "legacy": (Level(22, 10), Level(12, 10)),
    "pae": (Level(30, 2), *_WIDE[3:]),
    "4-level": _WIDE[1:],
    "5-level": _WIDE,
}


def paging_of(cr0: int, cr4: int, efer: int) -> Paging:
    """The paging mode these registers select (SDM vol. 3A, 4.1.1)."""
    if not cr0 & _PG:
        return "none"
    if efer & _LMA:
        return "5-level" if cr4 & _LA57 else "4-level"
    return "pae" if cr4 & _PAE else "legacy"


def entry_size(paging: Paging) -> int:
    return 4 if paging == "legacy" else 8


def root_of(paging: Paging, cr3: int) -> int:
    """The guest physical address of the first table; PAE's lies on 32 bytes, the others on a page."""
    if paging == "legacy":
        return cr3 & 0xFFFF_F000
    return cr3 & 0xFFFF_FFE0 if paging == "pae" else cr3 & 0x000F_FFFF_FFFF_F000


def highest_gpa(paging: Paging) -> int:
    """One more than the highest address that an entry can name."""
    return 1 << 32 if paging == "legacy" else 1 << 52


def canonical(paging: Paging, linear: int) -> bool:
    """Whether this mode can translate the address at all."""
    if paging in {"none", "legacy", "pae"}:
        return 0 <= linear < 1 << 32
    bits = 57 if paging == "5-level" else 48
    return linear >> bits - 1 in (0, (1 << 65 - bits) - 1)


def level_at(paging: Paging, linear: int, gpa: int) -> int:
    """Which level's table the walk for ``linear`` reads at this offset; the last if none fits."""
    size = entry_size(paging)
    fitting = [n for n, level in enumerate(LEVELS[paging]) if level.index_of(linear) == (gpa & 0xFFF) // size]
    return fitting[-1] if fitting else len(LEVELS[paging]) - 1


def build(
    paging: Paging,
    cr3: int,
    leaves: Mapping[int, Leaf],
    take: Callable[[], int],
    *,
    placed: Mapping[tuple[int, int], int],
    nxe: bool,
) -> dict[int, bytearray]:
    """The tables that map ``leaves`` (by linear page address), as pages of guest physical memory.

    ``take`` gives the address of a free page. ``placed`` puts the table of (level, its part of the
    address) at an address where there is no memory: nothing is written there.
    """
    levels, size = LEVELS[paging], entry_size(paging)
    pages: dict[int, bytearray] = {}
    tables = {(0, 0): root_of(paging, cr3)} | dict(placed)
    dead = {table & -PAGE for table in placed.values()}

    def put(table: int, index: int, entry: int) -> None:
        if table & -PAGE in dead:
            return
        at = table + index * size
        page = pages.setdefault(at & -PAGE, bytearray(PAGE))
        page[at & 0xFFF : (at & 0xFFF) + size] = entry.to_bytes(size, "little")

    for linear, leaf in leaves.items():
        if not canonical(paging, linear):
            continue
        linear_ = linear & ((1 << levels[0].shift + levels[0].bits) - 1)
        for number, level in enumerate(levels):
            table = tables[number, level.table(linear_) if number else 0]
            if number == len(levels) - 1:
                put(table, level.index_of(linear_), _leaf(leaf, nxe=nxe))
                break
            key = number + 1, levels[number + 1].table(linear_)
            if key not in tables:
                tables[key] = take()
                pages.setdefault(tables[key], bytearray(PAGE))
            flags = _P if paging == "pae" and number == 0 else _TABLE
            put(table, level.index_of(linear_), tables[key] & -PAGE | flags)
    return pages


def table_key(paging: Paging, linear: int, level: int) -> tuple[int, int]:
    """The key of ``placed`` for the table that the walk of ``linear`` reads on this level."""
    levels = LEVELS[paging]
    inside = linear & ((1 << levels[0].shift + levels[0].bits) - 1)
    return (level, levels[level].table(inside) if level else 0)


def _leaf(leaf: Leaf, *, nxe: bool) -> int:
    flags = _P | _A | _D | (_U if leaf.user else 0) | (_W if leaf.write else 0)
    return leaf.gpa | flags | (_NX if nxe and not leaf.execute else 0)
