"""The guest's memory in the making: which linear page lies where, what is in it, and where there is none.

Without paging a linear address is its own guest physical address. With paging the evidence names at
most the address that failed; everything else is put into free pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvmwhy.arch.x86.physical_map import what_lives_at
from kvmwhy.machine.x86.state import Sregs
from kvmwhy.reproduce.guest_plan import Content, Ram
from kvmwhy.reproduce.tables import (
    PAGE,
    Leaf,
    Paging,
    build,
    canonical,
    highest_gpa,
    level_at,
    paging_of,
    root_of,
    table_key,
)

_HOLE: Final = 0xD000_0000  # on no machine RAM of a small guest
_POOL: Final = 0x1_0000
_NXE: Final = 1 << 11


class Memory:
    """Holes first, then what lies in RAM, then ``finish()``: a page that is a hole stays one."""

    def __init__(self, sregs: Sregs, *, user: bool) -> None:
        self.paging: Paging = paging_of(sregs.cr0, sregs.cr4, sregs.efer)
        self._nxe = bool(sregs.efer & _NXE)
        self._cr3 = sregs.cr3
        self._user = user
        self._leaves: dict[int, Leaf] = {}
        self._tables: dict[tuple[int, int], int] = {}
        self._content: dict[int, bytearray] = {}  # by linear page
        self._holes: set[int] = set()  # linear pages
        self._readonly: set[int] = set()
        self._reserved: set[int] = set()  # linear pages that are the guest's own
        root = root_of(self.paging, sregs.cr3) & -PAGE
        self._taken: set[int] = {root} if self.paging != "none" else set()  # guest physical pages
        self._next_pool = self._pool()
        self._next_hole = iter(range(_HOLE, _HOLE + 0x0800_0000, PAGE))

    # -- what is not there -------------------------------------------------------------------------

    def hole(self, linear: int, size: int = 1, *, gpa: int | None = None, rights: Leaf | None = None) -> int | None:
        """No memory from ``linear`` on; ``gpa`` is where its first byte lies, if that is known. Where it lies now.

        None: this mode cannot translate the address.
        """
        first = None
        for number, page in enumerate(pages(linear, size)):
            if not canonical(self.paging, page):
                continue
            at = self._hole_page(page, None if gpa is None else (gpa & -PAGE) + number * PAGE)
            model = rights or Leaf(0, user=self._user)
            self._leaves[page] = model._replace(gpa=at)
            self._holes.add(page)
            self._content.pop(page, None)
            self._taken.add(at)
            first = at | linear & 0xFFF if first is None else first
        return first

    def _hole_page(self, linear: int, gpa: int | None) -> int:
        if self.paging == "none":
            return linear
        if gpa is not None and gpa < highest_gpa(self.paging) and gpa not in self._taken:
            return gpa
        place = what_lives_at(linear) if linear < 1 << 32 else None
        if place is not None and place.ram is False and linear not in self._taken:
            return linear  # boot code maps devices one to one
        return next(page for page in self._next_hole if page not in self._taken)

    def hole_in_walk(self, linear: int, gpa: int) -> bool:
        """The page table that the walk for ``linear`` reads at ``gpa`` is not in memory."""
        if self.paging == "none" or not canonical(self.paging, linear):
            return False
        if gpa & -PAGE == root_of(self.paging, self._cr3) & -PAGE:
            self._tables[0, 0] = root_of(self.paging, self._cr3)
        else:
            level = level_at(self.paging, linear, gpa)
            self._tables[table_key(self.paging, linear, max(level, 1))] = gpa & -PAGE
        self._taken.add(gpa & -PAGE)
        return True

    def alias(self, linear: int, gpa: int) -> int:
        """A second linear address of a hole's byte: its own, without paging."""
        if self.paging == "none":
            return linear
        page = self.free_linear()
        self._leaves[page] = Leaf(gpa & -PAGE, user=self._user)
        self._holes.add(page)
        return page | gpa & 0xFFF

    @property
    def rootless(self) -> bool:
        """The first page table is not in memory: nothing is mapped."""
        return (0, 0) in self._tables

    def is_hole(self, linear: int) -> bool:
        return linear & -PAGE in self._holes

    # -- what is there -----------------------------------------------------------------------------

    def ram(self, linear: int, size: int = 1, *, user: bool | None = None) -> None:
        """Memory, zeroed, where nothing else was said; also for ``rights`` that were said before."""
        for page in pages(linear, size):
            if page in self._holes or page in self._content or not canonical(self.paging, page):
                continue
            self._content[page] = bytearray(PAGE)
            allowed = self._user if user is None else user
            gpa = page if self.paging == "none" else self.take()
            self._leaves[page] = Leaf(gpa, user=allowed)
            self._taken.add(gpa)

    def readonly(self, linear: int, size: int = 1, *, gpa: int | None = None, rights: Leaf | None = None) -> None:
        """A read-only memory slot: ROM."""
        model = rights or Leaf(0, user=self._user)
        for number, page in enumerate(pages(linear, size)):
            if page in self._holes or not canonical(self.paging, page):
                continue
            wanted = None if gpa is None else (gpa & -PAGE) + number * PAGE
            self.ram(page)
            if self.paging != "none":
                at = wanted if wanted is not None and wanted not in self._taken else self._leaves[page].gpa
                self._leaves[page] = model._replace(gpa=at)
                self._taken.add(at)
            self._readonly.add(page)

    def write(self, linear: int, data: bytes, *, user: bool | None = None) -> None:
        """Put bytes into RAM; those that fall into a hole are lost, as they should be."""
        self.ram(linear, len(data), user=user)
        at = 0
        while at < len(data):
            start = linear + at & 0xFFF
            part = data[at : at + PAGE - start]
            page = self._content.get(linear + at & -PAGE)
            if page is not None:
                page[start : start + len(part)] = part
            at += len(part)

    def reserve(self, linear: int, size: int = 1) -> None:
        """Pages that will be used: ``free_linear`` passes over them."""
        self._reserved.update(pages(linear, size))

    def free_linear(self, start: int = _POOL) -> int:
        """A page that nothing else uses yet; below 1 MiB unless that is full."""
        page = start
        while page in self._leaves or page in self._reserved or (self.paging == "none" and page in self._taken):
            page += PAGE
        return page

    def take(self) -> int:
        """A free page of guest physical memory."""
        page = next(self._next_pool)
        self._taken.add(page)
        return page

    def _pool(self) -> Iterator[int]:
        for page in range(_POOL, 1 << 32, PAGE):
            if page not in self._taken:
                yield page

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> tuple[tuple[Ram, ...], tuple[Content, ...]]:
        """Slots and contents, with the page tables that all of it needs."""
        physical: dict[int, bytearray] = {}
        readonly: set[int] = set()
        for linear, data in self._content.items():
            gpa = self._leaves[linear].gpa
            physical[gpa] = data
            if linear in self._readonly:
                readonly.add(gpa)
        if self.paging != "none":
            arguments = (self.paging, self._cr3, self._leaves, self.take)
            physical |= build(*arguments, placed=self._tables, nxe=self._nxe)
            root = root_of(self.paging, self._cr3) & -PAGE
            if self._tables.get((0, 0)) is None:
                physical.setdefault(root, bytearray(PAGE))
        return tuple(_slots(sorted(physical), readonly)), tuple(_contents(physical))

    @property
    def leaves(self) -> dict[int, Leaf]:
        """Every mapped linear page."""
        return dict(self._leaves)


def pages(linear: int, size: int) -> range:
    """The pages that ``size`` bytes from ``linear`` on touch."""
    return range(linear & -PAGE, linear + max(size, 1), PAGE)


def _slots(gpas: list[int], readonly: set[int]) -> Iterator[Ram]:
    """Neighbouring pages of one kind make one slot."""
    start = previous = None
    for gpa in gpas:
        if start is None or previous is None:
            start = gpa
        elif gpa != previous + PAGE or (gpa in readonly) != (previous in readonly):
            yield Ram(start, previous + PAGE - start, previous in readonly)
            start = gpa
        previous = gpa
    if start is not None and previous is not None:
        yield Ram(start, previous + PAGE - start, previous in readonly)


def _contents(physical: dict[int, bytearray]) -> Iterator[Content]:
    """What is not zero, without the zeros around it."""
    for gpa in sorted(physical):
        data = bytes(physical[gpa])
        stripped = data.lstrip(b"\0")
        if stripped:
            yield Content(gpa + len(data) - len(stripped), stripped.rstrip(b"\0"))
