"""One small file per cause: its catalogue page, and the rule that finds it."""

from __future__ import annotations

from kvmwhy.diagnosis.rules import (
    confidential_guest,
    cpu_erratum,
    emulator_gives_up,
    emulator_no_handler,
    event_delivery,
    fetch_non_ram,
    host_dying,
    host_memory,
    invalid_guest_state,
    not_x86,
    outer_hypervisor,
    simultaneous_events,
    smm,
    split_lock,
    undecided,
    unhandled_exit,
    vcpu_state,
)

# In the order in which equally sure findings are shown: the more specific first.
_MODULES = (
    fetch_non_ram,
    event_delivery,
    emulator_no_handler,
    emulator_gives_up,
    smm,
    vcpu_state,
    simultaneous_events,
    cpu_erratum,
    confidential_guest,
    host_dying,
    unhandled_exit,
    split_lock,
    host_memory,
    invalid_guest_state,
    outer_hypervisor,
    not_x86,
)

RULES = tuple(module.rule for module in _MODULES)
CAUSES = (*(module.CAUSE for module in _MODULES), undecided.CAUSE)
UNDECIDED = undecided.finding
