"""The very first entry was refused: KVM itself may run in a VM whose VMX or SVM is partial."""

from __future__ import annotations

from kvmwhy.arch.x86.reset_state import ResetVerdict
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="outer-hypervisor-entry",
    family="outer-hypervisor",
    title="The CPU refused what KVM itself had set up: suspect the hypervisor around this host",
    what=(
        "VMLAUNCH or VMRESUME itself failed, which is about the controls that KVM loaded, not about the guest. On real"
        " hardware KVM's controls fit the CPU; in a VM, the outer hypervisor decides what fits and often gets it wrong."
    ),
    recognise=(
        "hardware error 0x7 (invalid control fields) or 0x0 (no number), with the guest at the reset vector: CI runners,"
        " VMware, VirtualBox, Hyper-V, WSL2, clouds."
    ),
    confused_with="A kernel regression on real hardware shows the same number: check the hypervisor flag in /proc/cpuinfo.",
    fix=Fix(
        host=(
            "Check for `hypervisor` in /proc/cpuinfo. If it is there: enable nested virtualisation fully in the outer"
            " hypervisor and update it; under VMware load kvm_intel with unrestricted_guest=0. If not: note uname -r and"
            " try the previous kernel; see whether vboxdrv or vmmon is loaded."
        )
    ),
    references=(
        "SDM vol. 3C, chapter 31: VM-instruction error numbers",
        "arch/x86/kvm/vmx/vmx.c: vmx_handle_exit, fail",
    ),
    example="KVM: entry failed, hardware error 0x7, at the reset vector, under VMware",
)


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "entry-failure" or failure.hardware_error not in {0, 7, 8}:
        return None
    for_ = [facts.entry.sentence] if facts.entry else []
    against = []
    reset: ResetVerdict | None = facts.reset
    if reset and reset.pristine:
        for_.append(f"the guest had not run yet: {reset.why}")
    elif reset and reset.state == "ran":
        against.append("the guest had been running: its controls were accepted before")
    outer = failure.host.hypervisor
    if outer:
        for_.append(f"this host is itself a virtual machine ({outer})")
    elif failure.host.is_physical:
        against.append("the host says that it is a physical machine")
    else:
        against.append("nothing here says whether this host is itself a virtual machine")
    return Finding(
        CAUSE,
        "likely" if outer and not (reset and reset.state == "ran") else "possible",
        f"The CPU refused KVM's own set-up of the VM (hardware error {failure.hardware_error:#x}), not the guest:"
        " most often because this host is itself a VM.",
        tuple(for_),
        tuple(against),
    )
