"""Guests that fail: those of the lab, and more in the paging modes that the lab does not have.

Page tables are made by hand here, of large pages where they can be, so that nothing is shared with the
tables that are under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kvmwhy.machine import Regs, Sregs, replace
from kvmwhy.machine.x86.boot_state import low_memory, sregs
from reproduce.circle import Guest

CODE = 0x10000
TABLES = 0x20000
RAM = 0x40000
LEAF, TABLE = 0xE7, 0x27  # present, writable, user, accessed; a leaf is dirty, and large where that is a bit
HIGH = 0x7_8123_4000
LOW = 0xD000_0000

# what it is, its bytes, and whether RIP is to be in the hole
INSTRUCTIONS = (
    ("flds", "d9 03"),
    ("fstps", "d9 1b"),
    ("fnstenv", "d9 33"),
    ("addps", "0f 58 03"),
    ("paddd", "66 0f fe 03"),
    ("ldmxcsr", "0f ae 13"),
    ("stmxcsr", "0f ae 1b"),
    ("fldenv", "d9 23"),
    ("pshufd", "66 0f 70 03 1b"),
    ("flds disp8", "d9 43 10"),
    ("flds index", "d9 04 0b"),
    ("flds fs", "64 d9 03"),
)


def lab_guests() -> Iterator[Guest]:
    from lab.catalogue import catalogue

    for case in catalogue():
        yield Guest(
            case.id,
            tuple((m.gpa, m.size, m.readonly) for m in case.memory),
            tuple((c.gpa, c.data) for c in case.chunks),
            case.regs,
            case.sregs,
            case.events,
            case.xcr0,
            case.cap204,
        )


def paged_guests() -> Iterator[Guest]:
    """Legacy, PAE and 4-level paging, CPL 0 and 3, an operand or the code at a low or a high address."""
    for paging in ("legacy", "pae", "4-level"):
        for cpl in (0, 3):
            for gpa in (LOW,) if paging == "legacy" else (LOW, HIGH):
                name = f"{paging}/{cpl}/{gpa:#x}"
                for what, code in INSTRUCTIONS:
                    yield _guest(f"{name}/{what}", paging, cpl, gpa, bytes.fromhex(code))
                yield _guest(f"{name}/fetch", paging, cpl, gpa, b"", jump=True)
                yield _guest(f"{name}/straddle", paging, cpl, gpa, b"\xd9", straddle=True)


def linear_of(paging: str) -> int:
    return 0xFFFF_8880_1234_5000 if paging == "4-level" else 0xC034_5000


def _guest(
    name: str, paging: str, cpl: int, gpa: int, code: bytes, *, jump: bool = False, straddle: bool = False
) -> Guest:
    long = paging == "4-level"
    linear = linear_of(paging)
    state = sregs("long64" if long else "prot32", cpl=cpl, origin=CODE, idt=None, xsave=False, bsp=True)
    rip = linear + 0x40 if jump else linear - len(code) if straddle else CODE + 0x100
    tables = _tables(paging, linear, gpa, straddle=straddle)
    image = low_memory("long64" if long else "prot32")
    contents = [(0, image), *tables]
    if straddle:
        contents.append((CODE + 0x1000 - len(code), code))
    elif not jump:
        contents.append((rip, code + b"\xf4" * 20))
    regs = Regs(rip=rip, rbx=linear + 0x20, rcx=8, rsp=0x9F00, rflags=2)
    slots = ((0, RAM, False),)
    return Guest(name, slots, tuple(contents), regs, _paged(state, paging), cap204=cpl == 3)


def _paged(state: Sregs, paging: str) -> Sregs:
    cr4 = state.cr4 | (1 << 4 if paging == "legacy" else 1 << 5)
    return replace(state, cr0=state.cr0 | 1 << 31, cr3=TABLES, cr4=cr4)


def _tables(paging: str, linear: int, gpa: int, *, straddle: bool) -> list[tuple[int, bytes]]:
    """The first MiBs one to one, ``linear`` at ``gpa``; with ``straddle`` the page before it is the code's."""
    width = 4 if paging == "legacy" else 8
    shifts = {"legacy": (22, 12), "pae": (30, 21, 12), "4-level": (39, 30, 21, 12)}[paging]
    bits = 10 if width == 4 else 9
    pages: dict[int, bytearray] = {TABLES: bytearray(0x1000)}
    names: dict[tuple[int, int], int] = {(0, 0): TABLES}

    def enter(address: int, leaf: int, size_shift: int) -> None:
        table = TABLES
        for level, shift in enumerate(shifts):
            index = address >> shift & (1 << bits) - 1
            if paging == "pae" and level == 0:
                index &= 3
            if shift == size_shift:
                value = leaf
            else:
                key = (level + 1, address >> shift)
                if key not in names:
                    names[key] = TABLES + 0x1000 * len(names)
                    pages[names[key]] = bytearray(0x1000)
                value = names[key] | (1 if paging == "pae" and level == 0 else TABLE)
            at = index * width
            pages[table][at : at + width] = struct.pack("<I" if width == 4 else "<Q", value)
            if shift == size_shift:
                return
            table = names[level + 1, address >> shift]

    enter(0, LEAF, 22 if width == 4 else 21)
    enter(linear, gpa | (LEAF & ~0x80), 12)
    if straddle:
        enter(linear - 0x1000, CODE | (LEAF & ~0x80), 12)
    return [(at, bytes(data)) for at, data in pages.items()]
