"""Memory errors of the host that QEMU tells of: target/i386/kvm/kvm.c and target/arm/kvm.c, kvm_arch_on_sigbus_vcpu."""

from __future__ import annotations

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read

PASSED_ON = (
    "qemu-system-x86_64: warning: Guest MCE Memory Error at QEMU addr 0x7f1e5c200000 and GUEST addr 0x1c000000 of type "
    "BUS_MCEERR_AO injected\n"
)
OWN = (
    "qemu-kvm: Hardware memory error at addr 0x7f1e5c200000 of type BUS_MCEERR_AR for memory used by QEMU itself "
    "instead of guest system!\n"
)


@pytest.mark.parametrize("text", [PASSED_ON, OWN, "qemu-system-aarch64: Hardware memory error!\n"])
def test_the_host_is_failing(text: str) -> None:
    """The mechanism is the host's trouble, and whose doing it is not the kernel's that reports it."""
    (failure,) = read(text.encode()).failures
    diagnosis = diagnose(failure)
    assert diagnosis.mechanism is not None
    assert diagnosis.mechanism.id == "host-trouble"
    assert diagnosis.origins[0].id == "host-dying"


def test_where_it_met_the_guest_is_said() -> None:
    """The guest's physical address is what QEMU prints as GUEST addr; the other one is QEMU's own."""
    assert "0x1c000000" in diagnose(read(PASSED_ON.encode()).failures[0]).answer
    assert "0x7f1e5c200000" not in diagnose(read(OWN.encode()).failures[0]).answer


def test_beside_a_record_of_kvms_it_is_no_failure_of_its_own() -> None:
    """KVM_RUN fails with EFAULT or EHWPOISON after it: that is the record, and the error is the host's part of it."""
    (failure,) = read((PASSED_ON + "error: kvm run failed Bad address\n").encode()).failures
    assert failure.kind == "run-error"
    assert [event.kind for event in failure.host.events] == ["memory-poisoned"]
    assert diagnose(failure).origins[0].id == "host-dying"
