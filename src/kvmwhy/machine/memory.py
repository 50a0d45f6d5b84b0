"""Guest memory: which GPA is in which slot, and the host memory behind it."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from kvmwhy.abi.kvm_run import PAGE_SIZE
from kvmwhy.machine.errors import (
    ImageTooLargeError,
    NoMemoryAtError,
    SlotAlignmentError,
    SlotError,
    SlotOverlapError,
)

_GPA_LIMIT: Final = 1 << 64


class Slot(msgspec.Struct, frozen=True, gc=False):
    """A memory slot: ``size`` bytes of guest memory from the guest physical address ``gpa`` on."""

    number: int
    gpa: int
    size: int
    readonly: bool = False

    @property
    def end(self) -> int:
        return self.gpa + self.size


class Backing(NamedTuple):
    """A slot and its host memory: private, zeroed, and taken from the host as it is touched."""

    slot: Slot
    host: mmap.mmap

    @property
    def address(self) -> int:
        """Of the host memory, in this process (the HVA)."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.host))


def pieces(start: int, size: int, holes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(address, size) of what the holes leave of ``size`` bytes from ``start`` on."""
    left, end = [], start + size
    for gpa, length in sorted(holes):
        if start < min(gpa, end):
            left.append((start, min(gpa, end) - start))
        start = max(start, gpa + length)
    if start < end:
        left.append((start, end - start))
    return tuple(left)


class Memory:
    """The slots of one VM, kept free of overlap."""

    def __init__(self) -> None:
        self._backings: list[Backing] = []

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(backing.slot for backing in self._backings)

    def add(self, gpa: int, size: int, *, readonly: bool, data: bytes) -> Backing:
        """Raises SlotAlignmentError, SlotOverlapError, ImageTooLargeError; nothing is changed then."""
        if size <= 0 or gpa % PAGE_SIZE or size % PAGE_SIZE:
            what = "is empty" if size <= 0 else "is not made of whole pages"
            raise SlotAlignmentError(f"a slot of {size:#x} bytes at {gpa:#x} {what}", gpa, size, "pages are 4096 bytes")
        if gpa < 0 or gpa + size > _GPA_LIMIT:
            raise SlotError(f"a slot of {size:#x} bytes at {gpa:#x} leaves the 64-bit address space", gpa, size)
        for other in self.slots:
            if gpa < other.end and other.gpa < gpa + size:
                fact = f"{gpa:#x}-{gpa + size - 1:#x} overlaps slot {other.number}, {other.gpa:#x}-{other.end - 1:#x}"
                raise SlotOverlapError(fact, gpa, size, "remove that slot, or leave a hole in it")
        if len(data) > size:
            raise ImageTooLargeError(len(data), size, gpa)
        taken = {slot.number for slot in self.slots}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        backing = Backing(Slot(number, gpa, size, readonly), _zeros(size))
        backing.host[: len(data)] = data
        self._backings.append(backing)
        return backing

    def backing(self, slot: Slot) -> Backing:
        """Raises SlotError if this machine has no such slot."""
        for backing in self._backings:
            if backing.slot == slot:
                return backing
        raise SlotError(f"this machine has no slot {slot.number} at {slot.gpa:#x}", slot.gpa, slot.size)

    def remove(self, slot: Slot) -> None:
        """Forget the slot and free its memory. Raises SlotError if this machine has no such slot."""
        backing = self.backing(slot)
        self._backings.remove(backing)
        backing.host.close()

    def read(self, gpa: int, size: int) -> bytes:
        """Across slots. Raises NoMemoryAtError."""
        parts = []
        while size > 0:
            host, at, room = self._find(gpa, size)
            parts.append(host[at : at + min(size, room)])
            gpa, size = gpa + room, size - room
        return b"".join(parts)

    def write(self, gpa: int, data: bytes) -> None:
        """Across slots. Raises NoMemoryAtError; then nothing was written."""
        size = len(data)
        host, at, room = self._find(gpa, size)
        if size > room:
            self.write(gpa + room, data[room:])
            data, size = data[:room], room
        host[at : at + size] = data

    def _find(self, gpa: int, size: int) -> tuple[mmap.mmap, int, int]:
        """The host memory of ``gpa``, the offset in it, and the bytes from there to the slot's end."""
        for slot, host in self._backings:
            at = gpa - slot.gpa
            if 0 <= at < slot.size:
                return host, at, slot.size - at
        raise NoMemoryAtError(gpa, size)

    def close(self) -> None:
        while self._backings:
            self._backings.pop().host.close()


def _zeros(size: int) -> mmap.mmap:
    """Memory of this process alone; Windows has no flags for it, and shares none either that has no name."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
