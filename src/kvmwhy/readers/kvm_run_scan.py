"""A ``kvm_run`` page among others: found in a core file or a memory image by its shape alone.

KVM makes the page zeroed and never writes behind the struct (virt/kvm/kvm_main.c, kvm_vm_ioctl_create_vcpu),
so 1744 bytes of zeros follow the 2352 of ``struct kvm_run``; its head has few legal values. Exits that carry
no payload of their own are taken only with an APIC base such as every PC has: a page with one small number in
it is too common.
"""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.abi.internal_error import MAX_NDATA
from kvmwhy.abi.kvm_run import (
    EXIT_EXCEPTION,
    EXIT_FAIL_ENTRY,
    EXIT_INTERNAL_ERROR,
    EXIT_SHUTDOWN,
    EXIT_UNKNOWN,
    PAGE_SIZE,
    RUN_SIZE,
    UNION,
)
from kvmwhy.abi.x86.svm import VMEXIT_INVALID

_FAILED: Final = (EXIT_UNKNOWN, EXIT_EXCEPTION, EXIT_SHUTDOWN, EXIT_FAIL_ENTRY, EXIT_INTERNAL_ERROR)
# Bytes 2 to 11: padding, then exit_reason. One lookup rejects nearly every page.
_HEADS: Final = frozenset(bytes(6) + reason.to_bytes(4, "little") for reason in _FAILED)
_TAIL: Final = bytes(PAGE_SIZE - RUN_SIZE)
_HEAD: Final = struct.Struct("<8xIBBHQQ")
_PAYLOAD: Final = struct.Struct("<IIQ")
_SUBERRORS: Final = range(1, 5)
_RUN_FLAGS: Final = 0x7
_MOST_CPUS: Final = 8192
_APIC_PAGE: Final = 0xFEE00
_APIC_LOW: Final = 0xD00  # BSP, x2APIC enable, enable (SDM vol. 3A, 11.4.4)
_MOST_VECTOR: Final = 31
_MOST_VMX_ERROR: Final = 64  # VM-instruction errors (SDM vol. 3C, 31.4) and 0, an entry that did not happen
_MOST_REASON: Final = 0x1000


def is_failed_run(page: bytes | memoryview, at: int = 0) -> bool:
    """Whether the 4096 bytes at ``at`` are a vCPU's page that KVM left with a failure in it."""
    if bytes(page[at + 2 : at + 12]) not in _HEADS or page[at] > 1 or page[at + 1] > 1:
        return False
    reason, ready, interrupts, flags, cr8, apic = _HEAD.unpack_from(page, at)
    if ready > 1 or interrupts > 1 or flags > _RUN_FLAGS or cr8 > 15:
        return False
    is_pc = apic >> 12 == _APIC_PAGE and not apic & 0xFFF & ~_APIC_LOW and apic & 0x800 != 0
    if not is_pc and (apic or reason != EXIT_INTERNAL_ERROR):
        return False
    if bytes(page[at + RUN_SIZE : at + PAGE_SIZE]) != _TAIL:
        return False
    first, second, _ = _PAYLOAD.unpack_from(page, at + UNION)
    whole = first | second << 32
    match reason:
        case 17:
            return bool(first in _SUBERRORS and second <= MAX_NDATA and (is_pc or second > 0))
        case 9:
            (cpu,) = struct.unpack_from("<I", page, at + UNION + 8)
            known = whole < _MOST_VMX_ERROR or whole & ~0xFF == 1 << 31 or whole in VMEXIT_INVALID
            return bool(known and cpu < _MOST_CPUS)
        case 0:
            return bool(0 < whole < _MOST_REASON)
        case 1:
            return bool(first <= _MOST_VECTOR)
    return True
