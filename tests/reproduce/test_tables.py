"""Page tables made for a few pages, walked by a walker of the tests' own."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.reproduce.tables import (
    LEVELS,
    Leaf,
    Paging,
    build,
    canonical,
    entry_size,
    highest_gpa,
    level_at,
    paging_of,
    root_of,
    table_key,
)
from reproduce.walker import NX, Read, U, W, walk

MODES: tuple[Paging, ...] = ("legacy", "pae", "4-level", "5-level")
REGISTERS = {
    "legacy": {"cr0": 1 << 31, "cr4": 1 << 4, "efer": 0},
    "pae": {"cr0": 1 << 31, "cr4": 1 << 5, "efer": 1 << 11},
    "4-level": {"cr0": 1 << 31, "cr4": 1 << 5, "efer": 0xD00},
    "5-level": {"cr0": 1 << 31, "cr4": 1 << 5 | 1 << 12, "efer": 0xD00},
}


def linears(paging: Paging) -> st.SearchStrategy[int]:
    if paging in {"legacy", "pae"}:
        return st.integers(0, (1 << 20) - 1).map(lambda n: n << 12)
    bits = 57 if paging == "5-level" else 48
    half = st.integers(0, (1 << bits - 13) - 1)
    return st.tuples(half, st.booleans()).map(
        lambda drawn: (drawn[0] << 12) | ((1 << 64) - (1 << bits - 1) if drawn[1] else 0)
    )


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Paging, int, dict[int, Leaf]]:
    paging = draw(st.sampled_from(MODES))
    cr3 = draw(st.integers(1, 0xFFFF)) << 12 | (draw(st.integers(0, 127)) << 5 if paging == "pae" else 0x18)
    top = highest_gpa(paging) >> 12
    leaf = st.builds(
        lambda n, u, w, x: Leaf(n << 12, u, w, x),
        *(st.integers(0, top - 1), st.booleans(), st.booleans(), st.booleans()),
    )
    return paging, cr3, draw(st.dictionaries(linears(paging), leaf, min_size=1, max_size=8))


def reader(pages: dict[int, bytearray]) -> Read:
    def read(gpa: int, size: int) -> bytes | None:
        page = pages.get(gpa & -0x1000)
        return None if page is None else bytes(page[gpa & 0xFFF : (gpa & 0xFFF) + size])

    return read


@given(layouts())
def test_a_walk_finds_every_page(drawn: tuple[Paging, int, dict[int, Leaf]]) -> None:
    """Every page that was asked for is where it was put, with the rights that were asked for."""
    paging, cr3, leaves = drawn
    fresh = count(0x5000_0000, 0x1000)
    pages = build(paging, cr3, leaves, lambda: next(fresh), placed={}, nxe=paging != "legacy")
    registers = {**REGISTERS[paging], "cr3": cr3}
    for linear, leaf in leaves.items():
        found = walk(reader(pages), registers, linear | 0x123)
        assert found is not None
        gpa, rights = found
        assert gpa == leaf.gpa | 0x123
        assert bool(rights & U) == leaf.user
        assert bool(rights & W) == leaf.write
        assert bool(rights & NX) == (not leaf.execute and paging != "legacy")


@given(layouts(), st.data())
def test_nothing_else_is_mapped(drawn: tuple[Paging, int, dict[int, Leaf]], data: st.DataObject) -> None:
    """A page that was not asked for is not present."""
    paging, cr3, leaves = drawn
    fresh = count(0x5000_0000, 0x1000)
    pages = build(paging, cr3, leaves, lambda: next(fresh), placed={}, nxe=False)
    other = data.draw(linears(paging))
    if other not in leaves:
        assert walk(reader(pages), {**REGISTERS[paging], "cr3": cr3}, other) is None


@given(layouts(), st.data())
def test_a_table_in_a_hole(drawn: tuple[Paging, int, dict[int, Leaf]], data: st.DataObject) -> None:
    """The walk of the chosen page reads the table at the address that was given, and nothing lies there."""
    paging, cr3, leaves = drawn
    linear = data.draw(st.sampled_from(sorted(leaves)))
    level = data.draw(st.integers(1, len(LEVELS[paging]) - 1))
    size = entry_size(paging)
    at = 0x6000_0000 | LEVELS[paging][level].index_of(linear) * size
    assert LEVELS[paging][level_at(paging, linear, at)].index_of(linear) * size == at & 0xFFF
    fresh = count(0x5000_0000, 0x1000)
    placed = {table_key(paging, linear, level): 0x6000_0000}
    pages = build(paging, cr3, leaves, lambda: next(fresh), placed=placed, nxe=False)
    asked: list[int] = []

    def read(gpa: int, size_: int) -> bytes | None:
        asked.append(gpa)
        return reader(pages)(gpa, size_)

    assert walk(read, {**REGISTERS[paging], "cr3": cr3}, linear) is None
    assert asked[-1] == at


def test_modes_and_roots() -> None:
    """SDM vol. 3A, 4.1.1: which registers select which mode, and which bits of CR3 address the first table."""
    for paging, registers in REGISTERS.items():
        assert paging_of(**registers) == paging
    assert paging_of(0x11, 1 << 5, 0xD00) == "none"
    assert root_of("legacy", 0x1_2345_6FFF) == 0x2345_6000
    assert root_of("pae", 0x2345_6FFF) == 0x2345_6FE0
    assert root_of("4-level", 0x8000_0012_3456_7FFF) == 0x12_3456_7000
    assert not canonical("4-level", 0x0000_8000_0000_0000)
    assert canonical("5-level", 0x0000_8000_0000_0000)
    assert not canonical("pae", 1 << 32)
