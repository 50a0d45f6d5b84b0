"""An INIT signal took the CPU away: the host itself is going down."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="host-dying-init",
    family="host-dying",
    title="INIT reached the CPU while a guest ran: the host is resetting or crashing",
    what=(
        "An INIT signal takes a CPU out of whatever it does. While a guest runs it shows as an INIT exit, which KVM has"
        " no handler for. It is sent when the host reboots, crashes or is reset from outside."
    ),
    recognise="Suberror 4 with reason 3 (VMX) or code 0x63 (SVM), usually in many VMs within the same second.",
    confused_with="unhandled-exit: there one feature is to blame, and the host lives on.",
    fix=Fix(host="Look at the host, not the guests: its console, kdump, BMC log and power events of that second."),
    references=("SDM vol. 3C, appendix C: basic exit reason 3", "APM vol. 2, appendix C: VMEXIT_INIT"),
    example="suberror 4, 0x3, on every VM of a host that was rebooting",
)

_INIT = {"vmx": 3, "svm": 0x63}


def is_init(facts: Facts) -> bool:
    """Suberror 4 whose exit is INIT."""
    data = facts.failure.data
    return facts.failure.suberror == 4 and bool(data) and data[0] == _INIT.get(facts.vendor.vendor or "")


def rule(facts: Facts) -> Finding | None:
    if not is_init(facts):
        return None
    return Finding(
        CAUSE,
        "likely",
        "INIT reached this CPU while the guest ran: the host was resetting or crashing.",
        (f"the exit was {facts.failure.data[0]:#x}, INIT, for which KVM has no handler",),
    )
