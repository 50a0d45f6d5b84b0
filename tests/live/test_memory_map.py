"""QEMU's map of guest memory. data/ was captured here: each folder's provenance.json says how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.live.memory_map import MemoryMap, read_map
from kvmwhy.live.qemu import read_registers

DATA = Path(__file__).parent / "data"


def captured(name: str) -> MemoryMap:
    folder = DATA / name
    texts = [(folder / file).read_text() for file in ("mtree.txt", "qtree.txt")]
    return read_map(texts[0], json.loads((folder / "pci.json").read_text()), texts[1])


def test_a_bar_is_named_by_its_device() -> None:
    """What `info pci` of that machine shows at 0xfe000000 is BAR 0 of the display."""
    found = captured("qemu-7.2-pc").describe(0xFE00_0010)
    assert found == "BAR 0 of virtio-vga “screen” (00:02.0), offset 0x10: vga.vram (ram)"


def test_behind_a_bridge() -> None:
    """A device on another bus has its own bus number, and no other device's name."""
    memory = captured("qemu-7.2-q35")
    (bar,) = [bar for bar in memory.bars if bar.where == "01:00.0"]
    assert bar.device == "PCI device 1af4:1045"  # the balloon; slot 0 of bus 0 is another device
    assert "virtio-pci-common-virtio-balloon" in memory.describe(bar.start)


@pytest.mark.parametrize(
    ("gpa", "said"),
    [
        (0x1000, "pc.ram (ram), offset 0x1000"),
        (0xB8000, "vga-lowmem (i/o), offset 0x18000"),
        (0xFEE0_0020, "apic-msi (i/o), offset 0x20"),
        (0xFFFF_FFF0, "pc.bios (rom)"),
        (0x0400_0000, "nothing: no RAM and no device"),
        (1 << 52, "nothing"),
    ],
)
def test_places_of_a_pc(gpa: int, said: str) -> None:
    """RAM, the VGA window, the APIC and the firmware of a machine with 64 MiB are where a PC has them."""
    assert captured("qemu-7.2-pc").describe(gpa).startswith(said)


def test_only_ram_and_rom_are_memory() -> None:
    """A read from anything else would reach a device."""
    memory = captured("qemu-7.2-pc")
    for gpa, is_memory in ((0x1000, True), (0xFFFF_FFF0, True), (0xB8000, False), (0xFEC0_0000, False)):
        found = memory.at(gpa)
        assert found is not None
        assert found.memory is is_memory


def test_registers_of_every_cpu() -> None:
    """`info registers -a` shows two CPUs; the second waits where SeaBIOS left it."""
    cpus = read_registers((DATA / "qemu-7.2-pc" / "registers.txt").read_text())
    assert sorted(cpus) == [0, 1]
    assert cpus[1].halted is True
    assert all({"rax", "rip", "cr0", "cr3", "efer"} <= cpu.registers.keys() for cpu in cpus.values())


_JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["devices", "slot", "bus", "regions", "pci_bridge", "id", "bar", "address", "size"]), inner
        )
    ),
    max_leaves=20,
)


@given(st.text(max_size=200), _JSON, st.text(max_size=200))
def test_any_answer_makes_a_map(mtree: str, pci: object, qtree: str) -> None:
    """A monitor may say anything: nothing raises, and every address has an answer."""
    memory = read_map(mtree + '\nFlatView #0\n AS "memory", root: x\n' + mtree, pci, qtree)
    assert memory.describe(0x1000)
    read_registers("CPU#0\n" + mtree)
