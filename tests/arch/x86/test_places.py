"""The PC's address map: PC/AT memory map, QEMU's hw/i386/pc.c and pc_q35.c, the manuals' APIC addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.x86.physical_map import IN_SHORT, what_lives_at

MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("gpa", "name", "ram"),
    [
        (0x0, "ivt", True),
        (0x3FF, "ivt", True),
        (0x400, "bda", True),
        (0x500, "low-ram", True),
        (0x9_FBFF, "low-ram", True),
        (0x9_FC00, "ebda", True),
        (0xA_0000, "vga-graphics", False),
        (0xB_0000, "vga-mono", False),
        (0xB_8000, "vga-text", False),
        (0xB_FFFF, "vga-text", False),
        (0xC_0000, "option-rom", None),
        (0xE_0000, "bios", None),
        (0xF_FFFF, "bios", None),
        (0xFEC0_0000, "ioapic", False),
        (0xFED0_00F0, "hpet", False),
        (0xFED4_0000, "tpm", False),
        (0xFEE0_00B0, "lapic", False),
        (0xFEE0_1000, "msi", False),
        (0xFFC0_0000, "flash", False),
        (0xFFFF_FFF0, "reset-vector", False),
        (0xB000_0000, "ecam", None),
        (0xF000_0000, "pci-hole", False),
        (1 << 52, "beyond", False),
    ],
)
def test_fixed_places(gpa: int, name: str, ram: bool | None) -> None:
    """Every fixed part of a PC's map is named without knowing the RAM size."""
    place = what_lives_at(gpa)
    assert place is not None
    assert (place.name, place.ram) == (name, ram)


@pytest.mark.parametrize(
    ("gpa", "ram_bytes", "name", "ram"),
    [
        (0x10_0000, 512 * MIB, "ram", True),
        (512 * MIB - 1, 512 * MIB, "ram", True),
        (512 * MIB, 512 * MIB, "past-ram", False),
        (0x5000, 0x4000, "past-ram", False),
        (0x9000_0000, 4 * GIB, "low-split", None),  # i440fx: RAM (below 3 GiB); q35: not (above 2 GiB)
        (4 * GIB, 1 * GIB, "above-ram", None),
        (4 * GIB, 8 * GIB, "ram", True),
        (4 * GIB + 6 * GIB, 8 * GIB, "above-ram", None),  # q35 has 6 GiB above, i440fx 5 GiB
        (4 * GIB + 5 * GIB, 8 * GIB, "high", None),
        (0xB_8000, 512 * MIB, "vga-text", False),
    ],
)
def test_ram_size_decides(gpa: int, ram_bytes: int, name: str, ram: bool | None) -> None:
    """RAM ends where its size says; nothing is claimed where machines differ."""
    place = what_lives_at(gpa, ram_bytes=ram_bytes)
    assert place is not None
    assert (place.name, place.ram) == (name, ram)


def test_unknown_size_unknown_answer() -> None:
    """An address that is RAM on one VM and nothing on the next gets no answer."""
    assert what_lives_at(0x1234_5678) is None


def test_an_access_that_runs_out_of_ram() -> None:
    """Four bytes at 0x9fffe end in the VGA window; that is the place that matters."""
    place = what_lives_at(0x9_FFFE, size=4)
    assert place is not None
    assert place.name == "vga-graphics"
    assert "0x9fffe" in place.text


@given(
    st.integers(-1, (1 << 64) - 1),
    st.one_of(st.none(), st.integers(0, 1 << 44)),
    st.integers(0, 64),
)
def test_never_ram_beyond_its_size(gpa: int, ram_bytes: int | None, size: int) -> None:
    """No address raises; below 4 GiB, nothing past the RAM size is ever called RAM."""
    place = what_lives_at(gpa, ram_bytes=ram_bytes, size=size)
    if place is not None and ram_bytes is not None and ram_bytes <= gpa < 4 * GIB:
        assert place.ram is not True


def test_every_place_has_a_short_name() -> None:
    """Whatever lives anywhere, with any amount of RAM, can be named in a few words; and no word is left over."""
    sizes = (None, 1 << 16, 1 << 20, 2 << 30, 3 << 30, 6 << 30)
    below = [n << 12 for n in range(0x110)] + [0x400, 0x9FC00, 0xFFFF0]
    above = [*range(1 << 20, 4 << 30, 1 << 24), *range(0xFEC0_0000, 1 << 32, 1 << 12), 0xFFFF_FFF0]
    far = [4 << 30, 5 << 30, 8 << 30, 1 << 40, 1 << 52]
    found = {(gpa, size): what_lives_at(gpa, ram_bytes=size) for gpa in (*below, *above, *far) for size in sizes}
    assert {place.name for place in found.values() if place} == set(IN_SHORT)
