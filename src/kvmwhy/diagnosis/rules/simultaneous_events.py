"""A second event came while one was being delivered, and KVM has no way to sort them out."""

from __future__ import annotations

from kvmwhy.abi.x86.intr_info import describe_event
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="simultaneous-events",
    family="simultaneous-events",
    title="A second exception came while an event was being delivered",
    what=(
        "While the CPU was delivering an interrupt or exception, it raised another one that KVM intercepts and that"
        " is not a plain page fault. KVM cannot merge the two, so it stops the vCPU."
    ),
    recognise="Suberror 2. The first word is the event being delivered, the second the exception that came on top.",
    confused_with="event-delivery-non-ram: there the second thing was an access to memory, not an exception (suberror 3).",
    fix=Fix(
        guest="Look at the IDT, the stack and the TSS at that moment: a fault inside a delivery means that one of them is bad.",
        host=(
            "Without EPT (shadow paging, old CPUs, ept=0) page faults of the delivery itself arrive here: try a host with"
            " EPT. Inside another hypervisor, suspect its VT-x."
        ),
    ),
    references=("arch/x86/kvm/vmx/vmx.c: handle_exception_nmi, KVM_INTERNAL_ERROR_SIMUL_EX",),
    example="80000008 80000b08: a double fault while the timer interrupt was being delivered",
)

_NMI = 2  # the type of an event, in bits 10:8


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.suberror != 2:
        return None
    if len(failure.data) < 2:
        return Finding(
            CAUSE,
            "certain",
            "A second exception came while an event was being delivered; which ones is not shown.",
            ("suberror 2 says so",),
        )
    first, second = (describe_event(word, "vmx") for word in failure.data[:2])
    for_ = [f"being delivered: {first}", f"on top of it: {second}"]
    if failure.data[1] >> 8 & 7 == _NMI:
        return Finding(
            CAUSE,
            "certain",
            f"The host's own NMI came while {first} was being delivered, and this KVM took it for a second exception.",
            (*for_, "an NMI exit belongs to the host: the guest raised nothing (kernels look at NMIs first today)"),
            fix=Fix(
                host="Find out what sends NMIs to the host (watchdog, perf, hardware), and update the host's kernel."
            ),
        )
    if (failure.data[0] & 0x7FF) == (failure.data[1] & 0x7FF):
        for_.append("both words name the same event: it was raised again by its own delivery, or reported twice")
    return Finding(
        CAUSE,
        "certain",
        f"While {first} was being delivered, {second} came on top: KVM cannot sort that out.",
        tuple(for_),
    )
