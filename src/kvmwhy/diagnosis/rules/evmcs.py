"""Hyper-V's enlightened VMCS has no place for a field that KVM uses."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.host_events import said

CAUSE = Cause(
    id="evmcs-field-missing",
    family="outer-hypervisor",
    title="The hypervisor around this host offers an enlightened VMCS without a field that KVM uses",
    what=(
        "Hyper-V lets a KVM inside it keep the VMCS in ordinary memory, in a layout of its own. When the CPU that it shows"
        " offers a feature whose field that layout, or the table in this kernel, does not have, KVM warns, the value is"
        " lost, and the entry into the nested guest fails or goes wrong."
    ),
    recognise="`KVM: accessing unsupported EVMCS field` in the kernel log of an Azure or Hyper-V VM.",
    confused_with="outer-hypervisor-entry: the same refusal without a reason in the log.",
    fix=Fix(
        host=(
            "Use a newer kernel in this VM: it knows the field, or does not use the feature. A VM size on older processors"
            " does not offer the feature."
        )
    ),
    references=("arch/x86/kvm/vmx/hyperv_evmcs.c; evmcs.h before 6.4", "https://github.com/microsoft/lisa/pull/2607"),
    example="KVM: accessing unsupported EVMCS field 2032 (TSC multiplier), on 5.4.0-1048-azure",
)


def rule(facts: Facts) -> Finding | None:
    event = next((event for event in facts.failure.host.events if event.kind == "evmcs-field"), None)
    if event is None or facts.failure.kind not in {"entry-failure", "other", "host-trouble"}:
        return None
    return Finding(
        CAUSE,
        "likely",
        "KVM uses a VMCS field that the hypervisor around this host does not offer; nested guests cannot run properly.",
        (said(event),),
    )
