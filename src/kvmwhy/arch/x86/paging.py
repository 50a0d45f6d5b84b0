"""The guest's page tables, walked by hand: 32-bit, PAE, 4 levels and 5 levels.

SDM vol. 3A, 4.3 to 4.5; APM vol. 2, 5.2 and 5.3. Rights are reported, not judged: the question here is
where an address leads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

Paging = Literal["none", "32-bit", "pae", "4-level", "5-level"]
Read = Callable[[int, int], bytes | None]  # (GPA, size) → bytes, or None where there is no RAM to read

_PG, _PSE, _PAE, _LA57, _LMA = 1 << 31, 1 << 4, 1 << 5, 1 << 12, 1 << 10
_PRESENT, _WRITE, _USER, _LARGE, _NX = 1, 2, 4, 1 << 7, 1 << 63
_FRAME: Final = 0x000F_FFFF_FFFF_F000
_LEVELS: Final = {"pae": (30, 21, 12), "4-level": (39, 30, 21, 12), "5-level": (48, 39, 30, 21, 12)}
_NAMES: Final = {48: "PML5E", 39: "PML4E", 30: "PDPTE", 21: "PDE", 22: "PDE", 12: "PTE"}


class Step(NamedTuple):
    """One entry: its name, where it lies, and what it holds (None: there is no RAM at ``gpa``)."""

    name: str
    gpa: int
    entry: int | None


class Walk(NamedTuple):
    """``gpa`` is None if the address is not mapped; ``why`` says where the walk ended."""

    gva: int
    paging: Paging
    gpa: int | None
    steps: tuple[Step, ...]
    why: str


def paging_mode(cr0: int, cr4: int, efer: int) -> Paging:
    if not cr0 & _PG:
        return "none"
    if efer & _LMA:
        return "5-level" if cr4 & _LA57 else "4-level"
    return "pae" if cr4 & _PAE else "32-bit"


def walk(gva: int, *, cr0: int, cr3: int, cr4: int, efer: int, read: Read) -> Walk:
    """Where the linear address ``gva`` leads. Never raises."""
    paging = paging_mode(cr0, cr4, efer)
    if paging == "none":
        return Walk(gva, paging, gva & 0xFFFF_FFFF, (), "paging is off: the linear address is the physical one")
    if paging in {"32-bit", "pae"}:
        gva &= 0xFFFF_FFFF
    elif not _canonical(gva, 57 if paging == "5-level" else 48):
        return Walk(gva, paging, None, (), "the address is not canonical")
    shifts, wide = (_LEVELS[paging], 8) if paging != "32-bit" else ((22, 12), 4)
    bits = 9 if wide == 8 else 10
    table = cr3 & (0xFFFF_FFE0 if paging == "pae" else 0xFFFF_F000 if wide == 4 else _FRAME)
    steps: list[Step] = []
    for shift in shifts:
        index = gva >> shift & (3 if paging == "pae" and shift == 30 else (1 << bits) - 1)
        at, name = table + index * wide, _NAMES[shift]
        raw = read(at, wide)
        entry = int.from_bytes(raw, "little") if raw is not None and len(raw) == wide else None
        steps.append(Step(name, at, entry))
        if entry is None:
            return Walk(gva, paging, None, tuple(steps), f"the {name} would be at {at:#x}, where there is no RAM")
        if not entry & _PRESENT:
            return Walk(gva, paging, None, tuple(steps), f"the {name} at {at:#x} is not present ({entry:#x})")
        if shift != 12 and entry & _LARGE and _may_be_large(shift, paging, cr4):
            gpa = _large(entry, shift, gva, wide)
            return Walk(gva, paging, gpa, tuple(steps), f"mapped by a page of {_size(shift)}, {_rights(steps, paging)}")
        table = entry & (_FRAME if wide == 8 else 0xFFFF_F000)
    return Walk(gva, paging, table | gva & 0xFFF, tuple(steps), f"mapped by a page of 4 KiB, {_rights(steps, paging)}")


def _may_be_large(shift: int, paging: Paging, cr4: int) -> bool:
    """Bit 7 is PS in a PDE, and in a PDPTE of long mode; in 32-bit paging only with CR4.PSE."""
    if paging == "32-bit":
        return bool(cr4 & _PSE)
    return shift == 21 or (shift == 30 and paging != "pae")


def _large(entry: int, shift: int, gva: int, wide: int) -> int:
    low = gva & ((1 << shift) - 1)
    if wide == 4:  # PSE-36: bits 20:13 are bits 39:32 of the address
        return entry & 0xFFC0_0000 | (entry >> 13 & 0xFF) << 32 | low
    return entry & _FRAME & ~((1 << shift) - 1) | low


def _rights(steps: list[Step], paging: Paging) -> str:
    """All levels have a say, but for the PDPTE of PAE, which has no such bits."""
    entries = [step.entry or 0 for step in (steps[1:] if paging == "pae" else steps)]
    rights = ["writable" if all(e & _WRITE for e in entries) else "read-only"]
    rights.append("user" if all(e & _USER for e in entries) else "supervisor")
    if paging != "32-bit" and any(e & _NX for e in entries):
        rights.append("no-execute")
    return ", ".join(rights)


def _size(shift: int) -> str:
    return {30: "1 GiB", 22: "4 MiB", 21: "2 MiB"}[shift]


def _canonical(gva: int, bits: int) -> bool:
    return gva >> (bits - 1) in {0, (1 << (65 - bits)) - 1}
