"""Traces as text: the events that are a failure, or with which one returns to userspace."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

HISTORY: Final = 512 << 10  # some thousand events, for hosts with many vCPUs
# What makes an event a failure, in the words of the kernel, of its plugins and of ``trace-cmd report -R``.
HOT: Final = (
    " failed", " FAIL", "failed=1",
    "KVM_EXIT_INTERNAL_ERROR", "KVM_EXIT_FAIL_ENTRY", "KVM_EXIT_SHUTDOWN", "KVM_EXIT_UNKNOWN", "KVM_EXIT_EXCEPTION",
    "TRIPLE_FAULT", "EXIT_SHUTDOWN", "reason shutdown ", "FAILED_VMENTRY", "kvm_run_exit cpu_index",
    "reason error (", "errno=-", " reason=17 ", " reason=9 ", " reason=8 ", " reason=1 ", " reason=0 ",
)  # fmt: skip
# Beginnings of the lines of any trace of KVM: the kernel's events, and QEMU's.
EVENTS: Final = (
    "kvm_emulate_insn:", "kvm_userspace_exit:", "kvm_exit:", "kvm_entry:", "kvm_exit(", "kvm_run_exit cpu_index",
)  # fmt: skip
ANCHORS: Final[Declared] = (
    *(Anchor(event, near=HOT, within=512, history=HISTORY) for event in EVENTS),
    *(Anchor(event, weak=True, history=HISTORY) for event in EVENTS),
)
