"""What the CPU reads by itself: descriptors, gates, the TSS, and a handler for every vector.

The report shows where these tables lie, not what is in them, so they are filled with what works: each
vector leads to a HLT of its own, so that a guest that halts there tells which exception it took.
Formats: SDM vol. 3A, 3.4.5 (descriptors), 6.11 and 6.14.1 (gates), 7.2 and 7.7 (TSS).
"""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.arch.x86.mode import ModeName
from kvmwhy.record import Cpu, Segment
from kvmwhy.reproduce.memory import Memory
from kvmwhy.reproduce.state import is_long
from kvmwhy.reproduce.tables import PAGE, canonical

VECTORS: Final = 256
_EXCEPTIONS: Final = range(32)
STEP: Final = 16  # bytes from one handler to the next
_HLT: Final = b"\xf4"
_SELECTOR_INDEXES: Final = range(1, 64)
_CODE32 = Segment(0, 0, 0xFFFF_FFFF, 0x00C0_9B00)
_CODE64 = Segment(0, 0, 0xFFFF_FFFF, 0x00A0_9B00)
_DATA = Segment(0, 0, 0xFFFF_FFFF, 0x00C0_9300)


def furnish(
    memory: Memory,
    cpu: Cpu,
    mode: ModeName,
    *,
    vector: int | None = None,
    entry: int | None = None,
    stack: int | None = None,
) -> int | None:
    """Put the tables and handlers in, but for what lies in a hole. The handlers' page, None if there is none.

    Exceptions get a gate, and ``vector``, the event that is delivered. ``entry`` is the linear address of
    the descriptor that the gates' selector is to lead to, ``stack`` where CPL 0's is to start.
    """
    vectors = [*_EXCEPTIONS, *([vector] if vector is not None and vector not in _EXCEPTIONS else [])]
    if mode == "real16":
        return _real(memory, cpu, vectors)
    taken = _descriptors(memory, cpu)
    gdt = cpu.segments["gdt"]
    long = is_long(mode)
    own = _CODE64 if long else _CODE32
    code = _spare(memory, gdt, own, taken) if entry is None else max(entry - gdt.base & 0xFFF8, 8)
    data = _spare(memory, gdt, _DATA, taken)
    if code is None:
        return None
    handlers = _handlers(memory, memory.free_linear(), user=False)
    _gates(memory, cpu.segments["idt"], handlers, code, vectors, long=long)
    _task(memory, cpu.segments["tr"], data or 0, stack, long=long)
    return handlers


def _real(memory: Memory, cpu: Cpu, vectors: list[int]) -> int | None:
    idt = cpu.segments["idt"]
    handlers = memory.free_linear()
    if handlers >= 1 << 20:
        return None
    _handlers(memory, handlers)
    for vector in (v for v in vectors if 4 * v + 3 <= idt.limit):
        memory.write(idt.base + 4 * vector & 0xFFFF_FFFF, struct.pack("<HH", STEP * vector, handlers >> 4))
    return handlers


def _handlers(memory: Memory, at: int, *, user: bool | None = None) -> int:
    memory.write(at, (_HLT * STEP) * VECTORS, user=user)
    return at


def _descriptors(memory: Memory, cpu: Cpu) -> set[int]:
    """The descriptors that the segment registers were loaded from, where their selectors say."""
    gdt = cpu.segments["gdt"]
    taken: set[int] = set()
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "tr", "ldt"):
        segment = cpu.segments[name]
        index, local = segment.selector >> 3, segment.selector & 4
        if not index or local or index in taken or not segment.present:
            continue
        if index * 8 + 7 > gdt.limit:
            continue
        _put(memory, gdt, index, descriptor(segment))
        taken.add(index)
        if segment.is_system:
            taken.add(index + 1)
            if index * 8 + 15 <= gdt.limit:
                _put(memory, gdt, index + 1, segment.base >> 32)
    return taken


def _spare(memory: Memory, gdt: Segment, segment: Segment, taken: set[int]) -> int | None:
    """A selector of our own for ``segment``, of DPL 0, in a slot that nothing uses."""
    for index in _SELECTOR_INDEXES:
        if index not in taken and index * 8 + 7 <= gdt.limit:
            _put(memory, gdt, index, descriptor(segment))
            taken.add(index)
            return index * 8
    return None


def _put(memory: Memory, gdt: Segment, index: int, value: int) -> None:
    at = gdt.base + 8 * index
    if canonical(memory.paging, at):
        memory.write(at, struct.pack("<Q", value & (1 << 64) - 1), user=False)


def descriptor(segment: Segment) -> int:
    """The 8 bytes that a segment register with this hidden part was loaded from."""
    limit = segment.limit >> 12 if segment.granular else segment.limit
    high = segment.attributes & 0x00F0_FF00 | limit & 0xF_0000 | segment.base >> 16 & 0xFF | segment.base & 0xFF00_0000
    return high << 32 | (segment.base & 0xFFFF) << 16 | limit & 0xFFFF


def _gates(memory: Memory, idt: Segment, handlers: int, code: int, vectors: list[int], *, long: bool) -> None:
    """Interrupt gates with DPL 3, so that INT n works from any level."""
    size = 16 if long else 8
    for vector in (v for v in vectors if size * (v + 1) <= idt.limit + 1):
        at, to = idt.base + size * vector, handlers + STEP * vector
        gate = struct.pack("<HHHH", to & 0xFFFF, code, 0xEE00, to >> 16 & 0xFFFF)
        gate += struct.pack("<Q", to >> 32) if long else b""
        if canonical(memory.paging, at):
            memory.write(at, gate, user=False)


def _task(memory: Memory, tr: Segment, data: int, top: int | None, *, long: bool) -> None:
    """The stack for CPL 0, at the end of a page of its own unless it is to be elsewhere."""
    if not tr.present or not canonical(memory.paging, tr.base) or memory.is_hole(tr.base):
        return
    if top is None:
        page = memory.free_linear()
        memory.ram(page, PAGE, user=False)
        top = page + PAGE
    memory.write(tr.base + 4, struct.pack("<Q", top) if long else struct.pack("<II", top, data), user=False)
    memory.write(tr.base + 0x66, struct.pack("<H", 0x68), user=False)
