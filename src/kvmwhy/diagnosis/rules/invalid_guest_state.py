"""The CPU refused to enter the guest because its state breaks an architectural rule."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.smm import is_smm_entry

CAUSE = Cause(
    id="invalid-guest-state",
    family="invalid-guest-state",
    title="The CPU refused to enter the guest: its state breaks a rule of VM entry",
    what=(
        "Before each VM entry the CPU checks the guest's state: control registers, segments, interruptibility, and more."
        " One of the rules is broken. The number does not say which; only the dump of the VMCS does."
    ),
    recognise='hardware error 0x80000021: VMX exit reason 33 with bit 31, "VM-entry failure due to invalid guest state".',
    confused_with=(
        'QEMU\'s advice about "unrestricted mode": it is printed for every such failure on Intel and applies only to CPUs'
        " from before 2010, or with unrestricted_guest=0. smm and vcpu-state-mixture have the same number."
    ),
    fix=Fix(
        guest="If the guest switches modes or uses MOV SS with single-stepping at this point, look there.",
        vmm="Check what was loaded with KVM_SET_SREGS and KVM_SET_VCPU_EVENTS: access rights, limits, RFLAGS.",
        host=(
            "Load kvm_intel with dump_invalid_vmcs=1 and reproduce: the kernel log then names every field. Check"
            " /sys/module/kvm_intel/parameters/unrestricted_guest."
        ),
    ),
    references=('SDM vol. 3C, 27.3 "Checking and Loading Guest State"', "arch/x86/kvm/vmx/vmx.c: dump_vmcs"),
    example="MOV SS blocking with RFLAGS.TF set and no pending debug exception",
)

_INVALID_STATE = 0x8000_0021


def rule(facts: Facts) -> Finding | None:
    if facts.failure.kind != "entry-failure" or facts.failure.hardware_error != _INVALID_STATE:
        return None
    if is_smm_entry(facts) or (facts.reset and facts.reset.state == "mixture"):
        return None  # the number is the same, but it is known who made this state
    for_ = ["the number is VMX exit reason 33 with the entry-failure bit: the guest's state was found invalid"]
    against = []
    confidence: Confidence = "likely"
    if facts.failure.host.unrestricted_guest_hint:
        for_.append("QEMU's advice about unrestricted mode is printed for every such failure and is usually wrong")
    if facts.reset and facts.reset.pristine:
        against.append(f"the guest had not run yet: {facts.reset.why}")
        confidence = "possible"
    if facts.failure.host.facts:
        against.append("the host's kernel has troubles of its own: " + "; ".join(facts.failure.host.facts))
        confidence = "possible"
    return Finding(
        CAUSE,
        confidence,
        "The CPU refused to enter the guest: its state breaks a rule of VM entry; only the VMCS dump says which.",
        tuple(for_),
        tuple(against),
    )
