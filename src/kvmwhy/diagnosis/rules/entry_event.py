"""The event that was to be injected is one that no CPU injects."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.entry_state import listed

CAUSE = Cause(
    id="entry-bad-event",
    family="vcpu-state",
    title="The event that KVM was told to inject cannot be injected",
    what=(
        "At VM entry the CPU can deliver an interrupt or exception to the guest. Its type, vector, error code and length must"
        " fit each other. KVM makes them fit for events of its own; those that a VMM gives it are passed on."
    ),
    recognise=(
        "hardware error 0x7 (Intel) or VMEXIT_INVALID (AMD), and in the dump an interruption information or EVENTINJ that"
        " breaks a rule."
    ),
    confused_with="outer-hypervisor-entry: error 7 as well, with an event that is right or none at all.",
    fix=Fix(
        vmm=(
            "Check what is given to KVM_SET_VCPU_EVENTS: exception.has_error_code for #DF, #TS, #NP, #SS, #GP, #PF, #AC and no"
            " other; no soft interrupt, #BP or #OF while its length is lost (after migration or reset)."
        ),
        host="If the VMM sets no events, KVM made this one: report it with the dump and uname -r.",
    ),
    references=(
        'SDM vol. 3C, 27.2.1.3 "VM-Entry Control Fields"',
        "APM vol. 2, 15.20: event injection",
        "Documentation/virt/kvm/api.rst: KVM_SET_VCPU_EVENTS",
    ),
    example="#GP injected without an error code: VM-entry interruption information 0x8000030d",
)


_GUEST_STATE = 0x8000_0021  # the CPU looks at the event before, and says 7


def rule(facts: Facts) -> Finding | None:
    result = facts.checked
    broken = [violation for violation in result.violations if violation.rule.about == "event"] if result else []
    if result is None or not broken:
        return None
    first = broken[0]
    return Finding(
        CAUSE,
        "likely" if facts.failure.exit is None or facts.failure.hardware_error == _GUEST_STATE else "certain",
        f"The CPU refused the event that was to be injected: {first.rule.sentence}; here {first.value}.",
        listed(broken, result),
    )
