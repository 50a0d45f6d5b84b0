"""What KVM set up for itself, and for the way back to the host, breaks a rule of VM entry."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.entry_state import listed

CAUSE = Cause(
    id="entry-controls",
    family="outer-hypervisor",
    title="KVM's own control fields, or the host's state, break a rule of VM entry",
    what=(
        "The control fields of a VMCS or VMCB, and the state to return to, are KVM's work alone. On a CPU that keeps its"
        " promises they fit; they do not if an outer hypervisor offers features that it does not have, if another"
        " module changed them, or if KVM has a bug."
    ),
    recognise="hardware error 0x7 or 0x8 (Intel) or VMEXIT_INVALID (AMD), and a dump in which a control or host field is wrong.",
    confused_with="entry-bad-event: the same number for an event that the VMM asked for.",
    fix=Fix(
        host=(
            "See whether this host is a VM (hypervisor in /proc/cpuinfo) and update what is around it; unload other"
            " hypervisors' modules; otherwise report the dump with uname -r."
        )
    ),
    references=(
        'SDM vol. 3C, 27.2 "Checks on VMX Controls and Host-State Area"',
        "APM vol. 2, 15.5.1: VMRUN intercept, ASID, permission maps",
    ),
    example="virtual interrupt delivery without external-interrupt exiting, under a hypervisor that offers only one",
)


def rule(facts: Facts) -> Finding | None:
    result = facts.checked
    if result is None:
        return None
    broken = [violation for violation in result.violations if violation.rule.about in {"controls", "host"}]
    if not broken:
        return None
    first = broken[0]
    return Finding(
        CAUSE,
        "likely",
        f"The CPU refused what KVM itself had set up: {first.rule.sentence}; here {first.value}.",
        listed(broken, result),
        ("it is not shown who changed it: an outer hypervisor, another module, or KVM",),
    )
