"""What two runs of one instruction left behind, and in what they differ. ``lab/sweep.c`` does the same in C."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.machine.x86.state import Regs, Segment, Sregs
from kvmwhy.probe.guest import HANDLER_SIZE, HANDLERS, VECTORS

_GENERAL: Final = Regs.__struct_fields__[:16]
_SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss")
_CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
_RF: Final = 1 << 16  # of RFLAGS: what a restart leaves
_END, _FLAGS, _X87, _XMM, _YMM, _MXCSR, _SEGMENT_BIT, _TABLES, _CONTROL_BIT, _OPERAND, _MEMORY = range(16, 27)


class Left(NamedTuple):
    """``start``: the system registers it began with. ``operand``, ``memory``: what is there afterwards."""

    at: int  # linear RIP
    regs: Regs
    sregs: Sregs
    start: Sregs
    xsave: bytes
    operand: bytes
    memory: bytes


def differs(ours: Left, native: Left) -> int:
    """Bits of ``batch.DIFFERS``."""
    bits = 0
    for number, name in enumerate(_GENERAL):
        bits |= (getattr(ours.regs, name) != getattr(native.regs, name)) << number
    bits |= (ours.at != native.at) << _END
    bits |= bool((ours.regs.rflags ^ native.regs.rflags) & ~_RF) << _FLAGS
    a, b = ours.xsave, native.xsave
    bits |= (a[:6] != b[:6] or a[32:160] != b[32:160]) << _X87  # not the last opcode and pointers
    bits |= (a[160:416] != b[160:416]) << _XMM
    bits |= (a[576:832] != b[576:832]) << _YMM
    bits |= (a[24:28] != b[24:28]) << _MXCSR
    bits |= any(_segment(ours, native, name) for name in _SEGMENTS) << _SEGMENT_BIT
    bits |= (_tables(ours.sregs) != _tables(native.sregs)) << _TABLES
    bits |= any(getattr(ours.sregs, name) != getattr(native.sregs, name) for name in _CONTROL) << _CONTROL_BIT
    bits |= (ours.operand != native.operand) << _OPERAND
    if not HANDLERS <= ours.at < HANDLERS + HANDLER_SIZE * VECTORS:  # a frame of an exception has RF, or has it not
        bits |= (ours.memory != native.memory) << _MEMORY
    return bits


def _segment(ours: Left, native: Left, name: str) -> bool:
    """In real mode the bases lead to the operand, one here and one there."""
    mine: Segment = getattr(ours.sregs, name)
    theirs: Segment = getattr(native.sregs, name)
    began: Segment = getattr(ours.start, name)
    elsewhere: Segment = getattr(native.start, name)
    if began.base != elsewhere.base and (mine.base, theirs.base) == (began.base, elsewhere.base):
        return False
    return (mine.base, mine.selector) != (theirs.base, theirs.selector)


def _tables(sregs: Sregs) -> tuple[int, ...]:
    return (
        *(sregs.ldt.selector, sregs.tr.selector),
        *(sregs.gdt.base, sregs.gdt.limit, sregs.idt.base, sregs.idt.limit),
    )
