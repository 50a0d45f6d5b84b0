"""A few instructions before the one that failed: so that KVM knows a page when it comes to it.

What KVM reports depends on whether it has seen the page before: EPT_MISCONFIG instead of EPT_VIOLATION,
the reserved bit in an NPF's error code, a read-only page that is mapped already. So the guest first
loads a byte from there, with every register and flag as it will be.
"""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.arch.x86.mode import Mode
from kvmwhy.record import Cpu
from kvmwhy.reproduce.memory import Memory

_TF: Final = 1 << 8
_NEAR: Final = 0x8000_0000


def prelude(memory: Memory, cpu: Cpu, mode: Mode, linear: int) -> int | None:
    """Put it into memory; where RIP has to start, or None if it cannot be done here.

    mov al,[linear]; mov al,<what it was>; jmp rip
    """
    registers, bits = cpu.registers, mode.bitness
    if registers["rflags"] & _TF:
        return None
    code, data = cpu.segments["cs"], cpu.segments["ds"]
    code_base = 0 if bits == 64 else code.base
    data_base = 0 if bits == 64 else data.base
    mask = (1 << 64) - 1 if bits == 64 else 0xFFFF_FFFF
    offset = linear - data_base & mask
    if bits != 64 and (not data.present or offset > data.limit):
        return None
    at = memory.free_linear(max(0x1_0000, (code_base + 0xFFF) & -0x1000))
    start = at - code_base & mask
    if bits != 64 and start + 32 > code.limit:
        return None
    wide = {16: "<I", 32: "<I", 64: "<Q"}[bits]
    load = (b"\x67" if bits == 16 else b"") + b"\xa0" + struct.pack(wide, offset)
    restore = b"\xb0" + bytes([registers["rax"] & 0xFF])
    body = load + restore
    target = registers["rip"]
    if bits == 64:
        jump = b"\xff\x25\0\0\0\0" + struct.pack("<Q", target)
    elif bits == 32:
        jump = b"\xe9" + struct.pack("<I", target - (start + len(body) + 5) & 0xFFFF_FFFF)
    else:
        jump = b"\x66\xe9" + struct.pack("<I", target - (start + len(body) + 6) & 0xFFFF_FFFF)
    memory.write(at, body + jump)
    return start
