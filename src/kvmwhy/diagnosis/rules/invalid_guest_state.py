"""The CPU refused to enter the guest because of its state; which rule it breaks cannot be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.entry_state import COLLECT, counted, hints, suspects
from kvmwhy.diagnosis.rules.host_kernel_trouble import host_trouble
from kvmwhy.diagnosis.rules.smm import is_smm_entry

if TYPE_CHECKING:
    from kvmwhy.arch.x86.vm_entry import Checked

CAUSE = Cause(
    id="invalid-guest-state",
    family="invalid-guest-state",
    title="The CPU refused to enter the guest: its state breaks a rule of VM entry",
    what=(
        "Before each VM entry the CPU checks the guest's state: control registers, segments, interruptibility, and more."
        " One of the rules is broken. The number does not say which, and of those that the evidence lets kvmwhy check, none"
        " is: only the dump of the VMCS shows all of the state."
    ),
    recognise='hardware error 0x80000021: VMX exit reason 33 with bit 31, "VM-entry failure due to invalid guest state".',
    confused_with=(
        'QEMU\'s advice about "unrestricted mode": it is printed for every such failure on Intel and applies only to CPUs'
        " from before 2010, or with unrestricted_guest=0. entry-rule-broken, smm and vcpu-state-mixture have the same number."
    ),
    fix=Fix(
        guest="If the guest switches modes or uses MOV SS with single-stepping at this point, look there.",
        vmm="Check what was loaded with KVM_SET_SREGS and KVM_SET_VCPU_EVENTS: access rights, limits, RFLAGS.",
        host=COLLECT,
    ),
    references=('SDM vol. 3C, 27.3 "Checking and Loading Guest State"', "arch/x86/kvm/vmx/vmx.c: dump_vmcs"),
    example="MOV SS blocking with RFLAGS.TF set and no pending debug exception",
)

_INVALID_STATE = 0x8000_0021


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "entry-failure" or failure.hardware_error != _INVALID_STATE:
        return None
    if is_smm_entry(facts) or (facts.reset and facts.reset.state == "mixture"):
        return None  # the number is the same, but it is known who made this state
    # Of a trace's RIP alone no rule can be said to hold.
    result = facts.checked if failure.cpu is not None and failure.cpu.is_dump else None
    if result and suspects(facts, result):
        return None  # entry-rule-broken names it
    for_ = ["the number is VMX exit reason 33 with the entry-failure bit: the guest's state was found invalid"]
    against = []
    # The number alone says what happened, not why.
    confidence: Confidence = "likely" if failure.control is not None else "possible"
    if facts.unrestricted is False:
        for_.append("this host runs guests without unrestricted guest: big real mode and mode switches need emulation")
    elif failure.host.unrestricted_guest_hint and facts.mode is not None and facts.mode.name not in {"real16", "vm86"}:
        for_.append(
            "QEMU prints its advice about unrestricted mode for every such failure; the CPU was not in real mode"
        )
    for_.extend(hints(facts))
    if result:
        for_.append(counted(result))
        for_.extend(_doubtful(result))
        if not result.unknown and not hints(facts):
            against.append(
                "no rule is broken in a whole dump: the CPU, or the hypervisor that poses as one, may be wrong"
            )
            confidence = "possible"
    if facts.reset and facts.reset.pristine:
        against.append(f"the guest had not run yet: {facts.reset.why}")
        confidence = "possible"
    if trouble := host_trouble(facts):
        against.append("the host's kernel has troubles of its own: " + "; ".join(trouble))
        confidence = "possible"
    return Finding(
        CAUSE,
        confidence,
        _answer(result),
        tuple(for_),
        tuple(against),
        None if failure.control else CAUSE.fix._replace(host=COLLECT + _PARAMETERS),
    )


_PARAMETERS = " Note /sys/module/kvm_intel/parameters/unrestricted_guest and emulate_invalid_guest_state."


def _answer(result: Checked | None) -> str:
    refused = "The CPU refused to enter the guest: its state breaks a rule of VM entry"
    if result is None:
        return f"{refused}; only the VMCS dump says which."
    if not result.unknown:
        return f"{refused}, it says, but in the VMCS dump every rule that kvmwhy knows holds."
    return f"{refused}, one of the {len(result.unknown)} that this evidence cannot show; only the VMCS dump says which."


def _doubtful(result: Checked) -> list[str]:
    """Rules that the registers break on one kind of host only, or that KVM would have had to get around."""
    return [
        f"{unknown.rule.sentence}; here {unknown.value} ({unknown.rule.section}): not known is {unknown.missing}"
        for unknown in result.unknown
        if unknown.value
    ][:4]
