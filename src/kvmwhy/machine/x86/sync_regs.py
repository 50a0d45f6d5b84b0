"""Registers that KVM_RUN itself loads from the ``kvm_run`` page (KVM_CAP_SYNC_REGS): three ioctls fewer.

``struct kvm_sync_regs`` lies behind the head of the page: kvm_regs, kvm_sregs, kvm_vcpu_events. KVM loads, in this
order, those whose bit is set in ``kvm_dirty_regs``, and clears the bits (arch/x86/kvm/x86.c: sync_regs).
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.kvm_run import TAIL

ALL: Final = 7  # KVM_SYNC_X86_REGS, _SREGS, _EVENTS
DIRTY: Final = next(f.offset for f in TAIL if f.name == "kvm_dirty_regs")
START: Final = DIRTY + 8

_PARTS: Final = (
    (Ioctl.KVM_SET_REGS, abi.REGS.size),
    (Ioctl.KVM_SET_SREGS, abi.SREGS.size),
    (Ioctl.KVM_SET_VCPU_EVENTS, abi.VCPU_EVENTS.size),
)
END: Final = START + sum(size for _, size in _PARTS)


def parts(whole: bytes) -> list[tuple[Ioctl, bytearray]]:
    """The ioctls that load the same, in the same order. ``whole``: the bytes from START to END."""
    out, at = [], 0
    for request, size in _PARTS:
        out.append((request, bytearray(whole[at : at + size])))
        at += size
    return out
