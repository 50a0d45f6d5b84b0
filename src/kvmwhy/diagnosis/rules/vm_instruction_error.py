"""VMLAUNCH or VMRESUME failed for a reason that only the host, or its CPU, can have."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="vmresume-of-unlaunched",
    family="cpu-erratum",
    title="VMRESUME found a VMCS that it says was never launched",
    what=(
        "KVM launches a VMCS once and resumes it from then on; it keeps track of that itself. A guest that has been"
        " running cannot change it. When the CPU says that a VMCS in use was not launched, the CPU, its microcode or the"
        " hypervisor around it has lost state; rarely another program on the host has executed VMCLEAR."
    ),
    recognise="hardware error 0x5 (or 0x4, VMLAUNCH of a launched VMCS), with a guest that had been running.",
    confused_with=(
        "outer-hypervisor-entry (errors 7 and 0). An exit reason of 5: those carry bit 31 when an entry failed."
    ),
    fix=Fix(
        host=(
            "Update microcode and firmware; see whether it is always the same host, and the same core: then suspect that CPU."
            " Look for modules of other hypervisors. In a VM, update the outer hypervisor."
        )
    ),
    references=(
        'SDM vol. 3C, 31.4 "VM Instruction Error Numbers": 4, 5',
        "arch/x86/kvm/vmx/vmx.c: vmx_vcpu_enter_exit",
    ),
    example="hardware error 0x5 in the idle loop of a Linux guest, once a week, on one host of a hundred",
)

_LAUNCH_STATE = {4: "VMLAUNCH was used on a launched VMCS", 5: "VMRESUME was used on a VMCS that is not launched"}


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    number = failure.hardware_error
    if failure.kind != "entry-failure" or number is None or (meaning := _LAUNCH_STATE.get(number)) is None:
        return None
    for_ = [f"{number:#x} is a VM-instruction error number: {meaning}"]
    against = []
    if facts.reset and facts.reset.state == "ran":
        for_.append("the guest had been running, so this VMCS had been launched before")
    else:
        against.append("it is not shown whether the guest had been running")
    against.append("an outer hypervisor, or a bug of the host's kernel, gives the same number")
    return Finding(
        CAUSE,
        "possible",
        "The CPU lost track of its own VMCS (VM-instruction error"
        f" {failure.hardware_error}); nothing that a guest does can cause this.",
        tuple(for_),
        tuple(against),
    )
