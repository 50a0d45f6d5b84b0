"""What lives at a guest-physical address of a PC.

Sources: the PC/AT layout; QEMU's hw/i386 for the split of RAM (i440fx: RAM of 3.5 GiB or more is cut at
3 GiB, q35: RAM of 2.75 GiB or more at 2 GiB; the rest continues at 4 GiB); Intel and AMD manuals for
the APICs. "RAM" means the RAM the VM was given: a display's or shared-memory device's own memory is not.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from msgspec import Struct

_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_LOW_SPLIT_MIN = 2 * _GIB  # no machine ends its low RAM earlier
_PCI_HOLE = 0xE000_0000  # no machine's low RAM reaches further
_FIXED = 0xFEC0_0000


class Place(Struct, frozen=True):
    """``ram`` is ``None`` where it cannot be told. ``name`` is for programs, ``text`` for people."""

    name: str
    text: str
    ram: bool | None


_BIOS = Place("bios", "the BIOS area (0xe0000–0xfffff)", None)
_MSI = Place("msi", "the interrupt-message window (0xfee00000–0xfeefffff)", False)
_FLASH = Place("flash", "the firmware flash just below 4 GiB", False)
_PCI = Place("pci-hole", "the PCI device window below 4 GiB", False)
_LOW_RAM = Place("low-ram", "conventional memory (below 640 KiB)", True)

# (start, place): each reaches to the next start
_LOW: tuple[tuple[int, Place], ...] = (
    (0x0, Place("ivt", "the real-mode interrupt vector table (0x0–0x3ff)", True)),
    (0x400, Place("bda", "the BIOS data area (0x400–0x4ff)", True)),
    (0x500, _LOW_RAM),
    (0x9_FC00, Place("ebda", "the extended BIOS data area (0x9fc00–0x9ffff)", True)),
    (
        0xA_0000,
        Place("vga-graphics", "the legacy VGA window (0xa0000–0xbffff), graphics or SMRAM part", False),
    ),
    (0xB_0000, Place("vga-mono", "the legacy VGA window (0xa0000–0xbffff), monochrome text part", False)),
    (0xB_8000, Place("vga-text", "the legacy VGA window (0xa0000–0xbffff), colour text buffer", False)),
    (0xC_0000, Place("option-rom", "the option-ROM area (0xc0000–0xdffff)", None)),
    (0xE_0000, _BIOS),
    (0xF_FFF0, Place("bios", "the BIOS entry point in the BIOS area (0xffff0)", None)),
)
_HIGH: tuple[tuple[int, Place], ...] = (
    (_FIXED, Place("ioapic", "the I/O APIC's registers (0xfec00000)", False)),
    (_FIXED + 0x1000, Place("chipset", "the chipset's register window (from 0xfec01000)", False)),
    (0xFED0_0000, Place("hpet", "the HPET's registers (0xfed00000)", False)),
    (0xFED0_1000, Place("chipset", "the chipset's register window (from 0xfed01000)", False)),
    (0xFED4_0000, Place("tpm", "the TPM's registers (0xfed40000)", False)),
    (0xFED4_5000, Place("chipset", "the chipset's register window (from 0xfed45000)", False)),
    (0xFEE0_0000, Place("lapic", "the local APIC's register page (0xfee00000)", False)),
    (0xFEE0_1000, _MSI),
    (0xFEF0_0000, _PCI),
    (0xFF00_0000, _FLASH),
    (0xFFFC_0000, Place("flash", "the BIOS flash just below 4 GiB (0xfffc0000–0xffffffff)", False)),
    (0xFFFF_FFF0, Place("reset-vector", "the CPU's reset vector in the firmware flash (0xfffffff0)", False)),
)
_LOW_STARTS = tuple(start for start, _ in _LOW)
_HIGH_STARTS = tuple(start for start, _ in _HIGH)

_BEYOND = Place("beyond", "beyond every physical address (x86 stops at 52 bits)", False)
_ECAM = Place("ecam", "RAM or, on a q35 machine, PCI configuration space (ECAM, 0xb0000000–0xbfffffff)", None)
_SPLIT = Place("low-split", "RAM or the PCI device window, depending on where the machine cuts its low RAM", None)
_PCI64 = Place("high", "above 4 GiB: RAM there, hot-plugged memory or a 64-bit PCI window", None)

# By name, in few words: where many places stand side by side.
IN_SHORT: Final = {
    "ivt": "the interrupt vector table",
    "bda": "the BIOS data area",
    "ebda": "the extended BIOS data area",
    "low-ram": "conventional memory",
    "vga-graphics": "the VGA window (graphics or SMRAM)",
    "vga-mono": "the VGA window (monochrome text)",
    "vga-text": "the VGA window (colour text)",
    "option-rom": "the option-ROM area",
    "bios": "the BIOS area",
    "ioapic": "the I/O APIC",
    "chipset": "the chipset's registers",
    "hpet": "the HPET",
    "tpm": "the TPM",
    "lapic": "the local APIC",
    "msi": "the interrupt-message window",
    "flash": "the firmware flash",
    "reset-vector": "the reset vector",
    "pci-hole": "the PCI window",
    "low-split": "where low RAM ends, below 3.5 GiB",
    "ecam": "where low RAM or PCI configuration space is",
    "high": "above 4 GiB",
    "ram": "RAM",
    "above-ram": "past the end of RAM, above 4 GiB",
    "past-ram": "past the end of RAM",
    "beyond": "beyond every physical address",
}


def what_lives_at(gpa: int, *, ram_bytes: int | None = None, size: int = 1) -> Place | None:
    """The place at ``gpa``, or ``None`` if nothing can be said.

    ``ram_bytes`` is the RAM the VM was started with. An access of ``size`` bytes that starts in RAM
    and runs out of it gets the place it runs into. A linear address may be passed only while paging
    is off; that is the caller's business.
    """
    first = _place(gpa, ram_bytes)
    if size > 1 and first is not None and first.ram:
        last = _place(gpa + size - 1, ram_bytes)
        if last is not None and last.ram is not True:
            return Place(last.name, f"{last.text}, reached by an access that starts at {gpa:#x}", last.ram)
    return first


def _place(gpa: int, ram_bytes: int | None) -> Place | None:
    if gpa < 0 or gpa >> 52:
        return _BEYOND
    if gpa < _MIB:
        place = _LOW[bisect_right(_LOW_STARTS, gpa) - 1][1]
        if place.ram and ram_bytes is not None and gpa >= ram_bytes:
            return _past(ram_bytes)
        return place
    if _FIXED <= gpa < 4 * _GIB:
        return _HIGH[bisect_right(_HIGH_STARTS, gpa) - 1][1]
    if gpa >= 4 * _GIB:
        return _above_4g(gpa, ram_bytes)
    if gpa >= _PCI_HOLE:
        return _PCI
    if ram_bytes is None:
        return _unsized(gpa)
    if gpa < min(ram_bytes, _LOW_SPLIT_MIN):
        return Place("ram", f"RAM ({_amount(ram_bytes)} in all)", True)
    if gpa >= ram_bytes:
        return _past(ram_bytes)
    return _SPLIT


def _unsized(gpa: int) -> Place | None:
    if 0xB000_0000 <= gpa < 0xC000_0000:
        return _ECAM
    return _SPLIT if gpa >= 0xC000_0000 else None


def _above_4g(gpa: int, ram_bytes: int | None) -> Place:
    if ram_bytes is None:
        return _PCI64
    offset = gpa - 4 * _GIB
    if offset < ram_bytes - _PCI_HOLE:
        return Place("ram", f"RAM above 4 GiB ({_amount(ram_bytes)} in all)", True)
    if ram_bytes < 0xB000_0000 or offset >= ram_bytes - _LOW_SPLIT_MIN:
        return Place(
            "above-ram",
            f"above 4 GiB and past the VM's {_amount(ram_bytes)} of RAM: only hot-plugged memory or a "
            "64-bit PCI window can be there",
            None,
        )
    return _PCI64


def _past(ram_bytes: int) -> Place:
    return Place("past-ram", f"past the end of the VM's RAM ({_amount(ram_bytes)})", False)


def _amount(size: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
