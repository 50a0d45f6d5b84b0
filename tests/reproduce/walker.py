"""A page walk, written a second time for the tests: SDM vol. 3A, 4.3 to 4.5, with large pages."""

from __future__ import annotations

from collections.abc import Callable

Read = Callable[[int, int], bytes | None]  # gpa, size -> bytes, or None where there is no memory

P, W, U, PS, NX = 1, 2, 4, 0x80, 1 << 63


def walk(read: Read, registers: dict[str, int], linear: int) -> tuple[int, int] | None:
    """(gpa, the rights that all levels grant), or None: not mapped, or a table is not in memory."""
    cr0, cr3, cr4, efer = (registers[name] for name in ("cr0", "cr3", "cr4", "efer"))
    if not cr0 >> 31 & 1:
        return linear & 0xFFFF_FFFF, P | W | U
    if efer & 0x400:
        shifts = [48, 39, 30, 21, 12] if cr4 & 0x1000 else [39, 30, 21, 12]
        table, width, mask = cr3 & 0x000F_FFFF_FFFF_F000, 8, 0x1FF
    elif cr4 & 0x20:
        shifts, table, width, mask = [30, 21, 12], cr3 & 0xFFFF_FFE0, 8, 0x1FF
        linear &= 0xFFFF_FFFF
    else:
        shifts, table, width, mask = [22, 12], cr3 & 0xFFFF_F000, 4, 0x3FF
        linear &= 0xFFFF_FFFF
    rights = P | W | U
    for shift in shifts:
        raw = read(table + (linear >> shift & mask) * width, width)
        if raw is None:
            return None
        entry = int.from_bytes(raw, "little")
        if not entry & P:
            return None
        if not (len(shifts) == 3 and shift == 30):  # PAE's first level grants nothing and refuses nothing
            rights &= entry | ~(W | U)
            rights |= entry & NX
        if shift == 12 or entry & PS:
            low = (1 << shift) - 1
            address = entry & 0x000F_FFFF_FFFF_F000 if width == 8 else entry & 0xFFFF_F000
            return address & ~low | linear & low, rights
        table = entry & (0x000F_FFFF_FFFF_F000 if width == 8 else 0xFFFF_F000)
    raise AssertionError
