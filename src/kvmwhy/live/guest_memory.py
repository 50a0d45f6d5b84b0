"""A guest's RAM in its VMM's memory: where it is, found by what is known to be in it, and never guessed.

A VMM maps its guest's RAM as one piece or a few. A piece is taken for the one that begins at guest address 0 only if
the bytes of code that KVM or the VMM reported are found in it at RIP, by way of the guest's own page tables. Above
2 GiB the two may be apart by a hole, and from 640 KiB to 1 MiB there may be ROM in the place of RAM: there nothing is
read.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from kvmwhy.arch.x86.mode import cpu_mode, linear_rip
from kvmwhy.arch.x86.paging import Walk, walk
from kvmwhy.live.errors import of_process
from kvmwhy.record import Cpu, Failure

_MAPPING: Final = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) rw\S{2} [0-9a-f]{1,16} \S{1,16} \d{1,20} {0,80}([^\n]{0,4096})"
)
_LEAST: Final = 64 << 10
_HOLE: Final = 2 << 30  # RAM below is in one piece on every machine type of QEMU, and with the other VMMs
_NOT_RAM: Final = range(0xA0000, 0x100000)
_NOT_GUEST: Final = (b"[heap]", b"[stack", b"[vvar", b"[vdso", b"anon_inode:")
_ENOUGH: Final = 6  # bytes of code that are the same: fewer may be chance
_MOST: Final = 256  # mappings


class Piece(NamedTuple):
    address: int
    size: int


class GuestMemory:
    """The RAM of one guest. read() gives None where there is none, or where it is not known where it lies."""

    def __init__(self, thread: int, piece: Piece) -> None:
        self._piece = piece
        self._fd = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, gpa: int, size: int) -> bytes | None:
        end = gpa + size
        if gpa < 0 or end > min(self._piece.size, _HOLE) or not (end <= _NOT_RAM.start or gpa >= _NOT_RAM.stop):
            return None
        try:
            data = os.pread(self._fd, size, self._piece.address + gpa)
        except (OSError, OverflowError):
            return None
        return data if len(data) == size else None

    def translate(self, cpu: Cpu, gva: int) -> Walk:
        """The guest's own page tables, walked as its CPU would."""
        cr0, cr3, cr4, efer = (cpu.get(name) or 0 for name in ("cr0", "cr3", "cr4", "efer"))
        return walk(gva, cr0=cr0, cr3=cr3, cr4=cr4, efer=efer, read=self.read)

    def linear(self, cpu: Cpu, gva: int, size: int) -> bytes:
        """As much as can be read from a linear address on."""
        out = b""
        while len(out) < size:
            at = gva + len(out)
            part = min(size - len(out), 4096 - at % 4096)
            gpa = self.translate(cpu, at).gpa
            data = None if gpa is None else self.read(gpa, part)
            if data is None:
                break
            out += data
        return out

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def find(thread: int, failure: Failure, code: bytes) -> GuestMemory | None:
    """The guest's RAM, if exactly one piece of the VMM's memory has ``code`` where the guest's RIP leads.

    Raises NotPermittedError, GoneError, CaptureError.
    """
    cpu = failure.cpu
    mode = cpu_mode(cpu) if cpu else None
    if cpu is None or mode is None or cpu.get("cr0") is None or len(code) < _ENOUGH or not any(code[1:]):
        return None
    rip = linear_rip(cpu, mode)
    if rip is None:
        return None
    fitting: list[GuestMemory] = []
    for piece in _pieces(thread):
        try:
            memory = GuestMemory(thread, piece)
        except OSError as error:
            raise of_process(error, thread, "mem") from None
        if memory.linear(cpu, rip, len(code)) == code:
            fitting.append(memory)
        else:
            memory.close()
    if len(fitting) == 1:
        return fitting[0]
    for memory in fitting:
        memory.close()
    return None


def _pieces(thread: int) -> list[Piece]:
    """Mappings that may be a guest's RAM, the largest first."""
    pieces: list[Piece] = []
    try:
        with open(f"/proc/{thread}/maps", "rb") as lines:
            for line in lines:
                match = _MAPPING.match(line)
                if match is None or match[3].startswith(_NOT_GUEST):
                    continue
                begin, end = int(match[1], 16), int(match[2], 16)
                if end - begin >= _LEAST:
                    pieces.append(Piece(begin, end - begin))
    except OSError as error:
        raise of_process(error, thread, "maps") from None
    return sorted(pieces, key=lambda piece: -piece.size)[:_MOST]
