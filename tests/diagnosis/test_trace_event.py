"""Events of a trace are shown with the kernel's names for their numbers."""

from __future__ import annotations

import pytest

from kvmwhy.record import Event, Symptom
from kvmwhy.render.describe.symptom import symptom
from kvmwhy.render.trace_event import event_line


@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        ("kvm_exit", {"exit_reason": 48, "isa": 1, "guest_rip": 0x10}, "EPT_VIOLATION guest_rip 0x10"),
        ("kvm_exit", {"exit_reason": 0x80000021, "isa": 1}, "INVALID_STATE FAILED_VMENTRY"),
        ("kvm_exit", {"exit_reason": 0x400, "isa": 2}, "NPF"),
        ("kvm_exit", {"exit_reason": 48}, "exit_reason 0x30"),  # which vendor's is not known
        ("kvm_exit", {"esr_ec": 0x24, "vcpu_pc": 0}, "DABT_LOW (0x24) vcpu_pc 0x0"),
        ("kvm_exit", {"sepc": 0, "scause": 23}, "sepc 0x0 scause 0x17 (store guest-page fault)"),
        ("kvm_userspace_exit", {"reason": 17, "errno": 0}, "KVM_EXIT_INTERNAL_ERROR"),
        ("kvm_userspace_exit", {"errno": -14}, "errno EFAULT"),
        (
            "kvm_inj_exception",
            {"exception": 14, "has_error": 1, "error_code": 2, "reinjected": 0},
            "#PF error_code 0x2",
        ),
        (
            "kvm_emulate_insn",
            {"rip": 1, "len": 1, "insn": "f4", "flags": 5, "failed": 1},
            "rip 0x1 insn f4 (prot32) failed",
        ),
        ("kvm_mmu_walker_error", {"pferr": 9}, "pferr 0x9 P|RSVD"),
        ("kvm_mmio", {"type": 2, "len": 8, "gpa": 0xD0000000}, "write len 0x8 gpa 0xd0000000"),
    ],
)
def test_numbers_that_have_names(name: str, fields: dict[str, int | str], line: str) -> None:
    """``print fmt`` of the kernel's trace.h; a reason without its vendor stays a number."""
    assert event_line(Event(name=name, fields=fields)) == f"{name}: {line}"


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (
            "healthy-trace",
            {"events": 1200, "first_ns": 0, "last_ns": 2_500_000, "ends_in": "kvm_entry"},
            "1,200 events in 2.500 ms",
        ),
        ("healthy-trace", {"ends_in": "kvm_entry"}, "none of them is a failure"),
        (
            "exit-repeats",
            {"repeats": 20, "address": 0xD0000000},
            "the last 20 exits are the same, for the guest's address 0xd0000000",
        ),
        ("guest-crashed", {"reason": "disabled-wait"}, "waits with interrupts disabled"),
    ],
)
def test_what_a_trace_shows_is_said(kind: str, fields: dict[str, int | str], words: str) -> None:
    """Nobody is sent to look for a record that there is none of."""
    sentences = symptom(Symptom(kind=kind, fields=fields))
    assert words in sentences[0]
    assert not any("/var/log/libvirt" in sentence for sentence in sentences)
