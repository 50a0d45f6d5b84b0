"""What happened: exactly one answer, from a decision list in the order of the kernel's own producers.

How sure an answer is follows from how complete the evidence is, and from nothing else: ``certain`` only where no other
producer leaves the same record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvmwhy.diagnosis.answer import Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.mechanism.around import host_trouble, injected, loops, not_kvm, not_shown, setup_refused
from kvmwhy.diagnosis.mechanism.emulation import emulation_failed
from kvmwhy.diagnosis.mechanism.entry import entry_refused
from kvmwhy.diagnosis.mechanism.event_delivery import event_delivery
from kvmwhy.diagnosis.mechanism.exits import (
    exception_exit,
    exit_unhandled,
    internal_error_elsewhere,
    simultaneous_events,
    traced_internal_error,
    traced_triple_fault,
    triple_fault,
    unknown_to_kvm,
    unknown_to_vmm,
)
from kvmwhy.diagnosis.mechanism.run_errno import run_errno

__all__ = ["MECHANISMS", "mechanism"]

MECHANISMS: Final = (
    "emulation-no-handler",
    "emulation-gives-up",
    "emulation-failed",
    "fetch-not-ram",
    "event-delivery",
    "simultaneous-events",
    "exit-unhandled",
    "entry-refused-guest-state",
    "entry-refused-controls",
    "entry-vmfail-no-number",
    "run-errno",
    "setup-refused",
    "triple-fault",
    "exit-unknown-to-vmm",
    "exit-unknown-to-kvm",
    "exception-exit",
    "guest-loops",
    "undef-injected",
    "host-trouble",
    "not-this",
    "not-shown",
)


def _elsewhere(facts: Facts) -> Mechanism | None:
    """What only other architectures have, and exits in which nothing fails: their words are loaded for them alone."""
    failure = facts.failure
    if facts.arch == "x86" or not (failure.exit_fields or failure.kind in {"healthy", "other"}):
        return None
    if facts.arch is None and failure.exit_reason is None and not failure.exit_fields:
        return None
    from kvmwhy.diagnosis.mechanism import guest_exceptions as steps

    for step in (steps.undescribed_access, steps.host_memory_failed, steps.guest_exception, steps.nothing_failed):
        if (mechanism := step(facts)) is not None:
            return mechanism
    return None


_STEPS: Final[tuple[Callable[[Facts], Mechanism | None], ...]] = (
    not_kvm,
    setup_refused,  # before any vCPU ran
    run_errno,  # KVM_RUN came back without an exit
    internal_error_elsewhere,
    simultaneous_events,  # the handlers of exits, in the order of vmx_handle_exit
    event_delivery,
    exit_unhandled,
    emulation_failed,
    traced_internal_error,
    entry_refused,
    exception_exit,
    triple_fault,
    unknown_to_kvm,
    _elsewhere,
    unknown_to_vmm,
    injected,  # nobody outside was told
    host_trouble,
    traced_triple_fault,  # of a trace in which no VMM is told of anything
    loops,
)
_BY_REGISTERS: Final = frozenset({"emulation-no-handler", "emulation-gives-up", "fetch-not-ram"})
_SHARED: Final = Proof("these registers may belong to another vCPU that failed at the same time")


def mechanism(facts: Facts) -> Mechanism:
    """The first step that knows this record answers."""
    answer = next((decided for step in _STEPS if (decided := step(facts)) is not None), None)
    if answer is None:
        return not_shown(facts)
    if facts.failure.cpu_shared and answer.id in _BY_REGISTERS and facts.words is None:
        return answer._replace(certainty="possible", against=(*answer.against, _SHARED))
    return answer
