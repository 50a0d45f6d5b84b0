"""The guest's page tables, walked by hand."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kvmwhy.arch.x86.paging import Walk, paging_mode, walk

PG, PE, PSE, PAE, LA57, LMA, LME = 1 << 31, 1, 1 << 4, 1 << 5, 1 << 12, 1 << 10, 1 << 8


class Ram:
    """Guest memory of a few pages; the rest of the address space has none."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}

    def put(self, gpa: int, value: int, size: int = 8) -> None:
        page = self.pages.setdefault(gpa >> 12, bytearray(4096))
        page[gpa & 0xFFF : (gpa & 0xFFF) + size] = value.to_bytes(size, "little")

    def read(self, gpa: int, size: int) -> bytes | None:
        page = self.pages.get(gpa >> 12)
        return bytes(page[gpa & 0xFFF : (gpa & 0xFFF) + size]) if page else None


def long(ram: Ram, gva: int, *, cr4: int = PAE) -> Walk:
    return walk(gva, cr0=PG | PE, cr3=0x1000, cr4=cr4, efer=LMA | LME, read=ram.read)


def test_modes() -> None:
    """CR0.PG, CR4.PAE, EFER.LMA and CR4.LA57 choose the tables (SDM 3A, 4.1.1)."""
    assert paging_mode(PE, PAE, 0) == "none"
    assert paging_mode(PG | PE, 0, 0) == "32-bit"
    assert paging_mode(PG | PE, PAE, 0) == "pae"
    assert paging_mode(PG | PE, PAE, LMA) == "4-level"
    assert paging_mode(PG | PE, PAE | LA57, LMA) == "5-level"


def test_four_levels_to_a_page_of_4_kib() -> None:
    """The index of each level is nine bits of the address; rights are those that all levels give."""
    gva = 0xFFFF_8123_4567_89AB
    ram = Ram()
    ram.put(0x1000 + 8 * 0x102, 0x2007)  # bits 47:39 of the address
    ram.put(0x2000 + 8 * 0x08D, 0x3007)  # 38:30
    ram.put(0x3000 + 8 * 0x02B, 0x4005)  # 29:21, read-only
    ram.put(0x4000 + 8 * 0x078, 1 << 63 | 0x7654_3007)  # 20:12, no-execute
    found = long(ram, gva)
    assert found.gpa == 0x7654_39AB
    assert [step.name for step in found.steps] == ["PML4E", "PDPTE", "PDE", "PTE"]
    assert "read-only, user, no-execute" in found.why


def test_five_levels() -> None:
    """A level more, for the bits 56:48."""
    ram = Ram()
    ram.put(0x1000 + 8 * 0x0AB, 0x2003)
    ram.put(0x2000, 0x3003)
    ram.put(0x3000, 0x4083)  # a page of 1 GiB: bits 29:0 are the address's own
    found = long(ram, 0x00AB_0000_1234_5678, cr4=PAE | LA57)
    assert found.gpa == 0x1234_5678
    assert "1 GiB" in found.why
    assert "supervisor" in found.why


def test_large_page_of_2_mib() -> None:
    """Bit 12 of such an entry is PAT, no part of the address."""
    ram = Ram()
    ram.put(0x1000, 0x2003)
    ram.put(0x2000, 0x3003)
    ram.put(0x3000 + 8, 0xD000_1083)
    assert long(ram, 0x0020_1234).gpa == 0xD000_1234


def test_32_bit_with_and_without_large_pages() -> None:
    """Two levels of 1024 entries; a page of 4 MiB takes CR4.PSE, and its bits 20:13 are address bits 39:32."""
    ram = Ram()
    ram.put(0x1000 + 4 * 0x301, 0x0040_2083 | 0x05 << 13, 4)
    at = {"cr0": PG | PE, "cr3": 0x1FFF, "efer": 0, "read": ram.read}
    assert walk(0xC040_ABCD, cr4=PSE, **at).gpa == 0x05_0040_ABCD  # type: ignore[arg-type]
    ram.put(0x1000 + 4 * 0x301, 0x0040_2083, 4)
    ram.put(0x0040_2000 + 4 * 0x00A, 0x9999_9067, 4)
    assert walk(0xC040_ABCD, cr4=0, **at).gpa == 0x9999_9BCD  # type: ignore[arg-type]


def test_pae() -> None:
    """Four PDPTEs at CR3, which is aligned to 32 bytes; they have no rights of their own."""
    ram = Ram()
    ram.put(0x1020 + 8 * 3, 0x2001)
    ram.put(0x2000 + 8 * 0x001, 0x3007)
    ram.put(0x3000 + 8 * 0x002, 0xF_1234_5007)
    found = walk(0xC020_2678, cr0=PG | PE, cr3=0x103F, cr4=PAE, efer=0, read=ram.read)
    assert found.gpa == 0xF_1234_5678
    assert "writable, user" in found.why


def test_where_a_walk_ends() -> None:
    """Not present, no RAM under a table, not canonical: each is said, with the entry and its place."""
    ram = Ram()
    ram.put(0x1000, 0x2003)
    found = long(ram, 0)
    assert found.gpa is None
    assert "PDPTE would be at 0x2000, where there is no RAM" in found.why
    ram.put(0x2000, 0x3002)
    assert "PDPTE at 0x2000 is not present (0x3002)" in long(ram, 0).why
    assert "not canonical" in long(ram, 1 << 47).why
    assert long(ram, 1 << 47, cr4=PAE | LA57).why != long(ram, 1 << 47).why


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.binary(min_size=8, max_size=8),
)
@example(0, PG, PAE, LMA, b"\xff" * 8)
def test_any_tables_end_the_walk(gva: int, cr0: int, cr4: int, cr3: int, entry: bytes) -> None:
    """Whatever the guest wrote, a walk takes five steps at most and never raises."""
    found = walk(gva, cr0=cr0, cr3=cr3, cr4=cr4, efer=cr4, read=lambda _gpa, size: entry[:size])
    assert len(found.steps) <= 5
    assert found.gpa is None or 0 <= found.gpa < 1 << 64
