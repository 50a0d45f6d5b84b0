"""Symptoms without their record, in the words of QEMU, libvirt, Proxmox, KubeVirt and OpenStack."""

# ruff: noqa: E501  # lines stand as the programs print them

from __future__ import annotations

import pytest

from asking import asked
from kvmwhy.ingest.normalize import clean
from kvmwhy.readers import symptom

SEEN = [
    ("internal-error-status", "(qemu) info status\nVM status: paused (internal-error)\n"),
    ("internal-error-status", '{"return": {"status": "internal-error", "singlestep": false, "running": false}}\n'),
    ("internal-error-status", "qmpstatus: internal-error\nstatus: internal-error\n"),
    ("cont-refused", "error: internal error: unable to execute QEMU command 'cont': Resetting the Virtual Machine is required\n"),
    ("cont-refused", "VM 100 qmp command 'cont' failed - Resetting the Virtual Machine is required\n"),
    ("paused-unknown", "$ virsh domstate --reason vm1\npaused (unknown)\n"),
    ("gvisor-stuck", "W0315 05:16:55.623811       1 machine.go:204] VCPU 9 is stuck:\n        vcpu: &kvm.vCPU{id:9}\n"),
    ("gvisor-trace", "SIGSEGV: segmentation violation\nPC=0x81c933 m=13\n\ngoroutine 150 [syscall, locked to thread]:\ngvisor.googlesource.com/gvisor/pkg/sentry/platform/kvm.(*vCPU).SwitchToUser(0xc4, 0x0)\n"),
    ("paused-unexpectedly", "[instance: 5b0] Instance is paused unexpectedly. Ignore.\n"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), SEEN)
def test_a_symptom_is_named(kind: str, text: str) -> None:
    """Each program's words are one of a few symptoms."""
    (failure,) = symptom.read(clean(text.encode())).failures
    assert failure.kind == "symptom"
    assert failure.symptom is not None
    assert failure.symptom.kind == kind
    assert asked(text, "symptom")


@pytest.mark.parametrize(
    "text",
    [
        '#   "internal-error": an internal error that prevents further guest execution\n',
        " 3    vm1    paused\n",
        "error: internal error: cannot find character device\n",
        '{"event": "STOP", "timestamp": {"seconds": 1}}\n',
        "if (runstate_check(RUN_STATE_INTERNAL_ERROR)) { error_setg(errp, QERR_RESET_REQUIRED); }\n",
    ],
)
def test_other_pauses_are_no_symptom_of_kvm(text: str) -> None:
    """A VM can be paused on purpose, and other programs have internal errors."""
    assert symptom.read(clean(text.encode())).failures == ()


def test_symptoms_of_one_vm_are_one_record() -> None:
    """The status says more than what refuses to continue."""
    (failure,) = symptom.read(clean("".join(text for _, text in SEEN).encode())).failures
    assert failure.symptom is not None
    assert failure.symptom.kind == "internal-error-status"
    assert failure.symptom.fields == {
        "beside": "cont-refused paused-unknown paused-unexpectedly gvisor-stuck gvisor-trace"
    }
