"""The registers in a ``kvm_run`` page, of a VMM that asked for them there (KVM_CAP_SYNC_REGS).

``struct kvm_sync_regs`` follows the exit: kvm_regs, kvm_sregs, kvm_vcpu_events (arch/x86/include/uapi/asm/kvm.h). KVM
writes, at each return to userspace, those whose bit the VMM has set in ``kvm_valid_regs`` (x86.c: store_regs).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from kvmwhy.abi.kvm_run import RUN_SIZE, UNION, UNION_SIZE

_VALID: Final = UNION + UNION_SIZE
_START: Final = _VALID + 16
_REGS, _SREGS = 1, 2
_GENERAL: Final = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip",
    "rflags",
)  # fmt: skip
_SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
_TABLES: Final = ("gdt", "idt")
_CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
_GENERAL_LAYOUT: Final = struct.Struct(f"<{len(_GENERAL)}Q")
_SEGMENT: Final = struct.Struct("<QIH9Bx")
_TABLE: Final = struct.Struct("<QH6x")
_CONTROL_LAYOUT: Final = struct.Struct(f"<{len(_CONTROL)}Q")


class Hidden(NamedTuple):
    """A segment register or a descriptor table; ``attributes`` as in a descriptor's second doubleword."""

    selector: int
    base: int
    limit: int
    attributes: int


class SyncRegs(NamedTuple):
    registers: dict[str, int]
    segments: dict[str, Hidden]
    cpl: int | None


def sync_regs(page: bytes) -> SyncRegs | None:
    """What KVM put there; None if the VMM had not asked for it."""
    if len(page) < RUN_SIZE:
        return None
    valid = int.from_bytes(page[_VALID : _VALID + 8], "little")
    if not valid & (_REGS | _SREGS) or valid >> 3:  # a bit that no kernel knows: it is something else
        return None
    registers: dict[str, int] = {}
    segments: dict[str, Hidden] = {}
    if valid & _REGS:
        registers |= zip(_GENERAL, _GENERAL_LAYOUT.unpack_from(page, _START), strict=True)
    if valid & _SREGS:
        at = _START + _GENERAL_LAYOUT.size
        for name in _SEGMENTS:
            segments[name] = _segment(_SEGMENT.unpack_from(page, at))
            at += _SEGMENT.size
        for name in _TABLES:
            base, limit = _TABLE.unpack_from(page, at)
            segments[name] = Hidden(0, base, limit, 0)
            at += _TABLE.size
        registers |= zip(_CONTROL, _CONTROL_LAYOUT.unpack_from(page, at), strict=True)
    cpl = None
    if valid & _SREGS:
        cpl = segments["ss"].attributes >> 13 & 3 if registers["cr0"] & 1 else 0
    return SyncRegs(registers, segments, cpl)


def _segment(fields: tuple[int, ...]) -> Hidden:
    base, limit, selector, kind, present, dpl, big, code_or_data, wide, granular, available, *_ = fields
    word = kind << 8 | code_or_data << 12 | dpl << 13 | present << 15
    word |= available << 20 | wide << 21 | big << 22 | granular << 23
    return Hidden(selector, base, limit, word)
