"""One small file per cause: its catalogue page, and the rule that finds it."""

from __future__ import annotations

from kvmwhy.diagnosis.rules import (
    confidential_guest,
    cpu_erratum,
    emulator_gives_up,
    emulator_no_handler,
    ept_misconfig,
    event_delivery,
    fetch_non_ram,
    firmware_astray,
    host_dying,
    host_kernel_trouble,
    host_memory,
    invalid_guest_state,
    memslot_race,
    missing_hardware,
    nested_smm,
    not_x86,
    other_hypervisor,
    outer_hypervisor,
    sev_entry,
    simultaneous_events,
    smm,
    split_lock,
    task_switch,
    undecided,
    unhandled_exit,
    unknown_to_vmm,
    vcpu_state,
    vm_instruction_error,
)

# In the order in which equally sure findings are shown: the more specific first.
_MODULES = (
    firmware_astray,
    memslot_race,
    fetch_non_ram,
    event_delivery,
    emulator_no_handler,
    emulator_gives_up,
    nested_smm,
    smm,
    task_switch,
    vcpu_state,
    simultaneous_events,
    cpu_erratum,
    confidential_guest,
    sev_entry,
    host_dying,
    unhandled_exit,
    split_lock,
    host_memory,
    ept_misconfig,
    vm_instruction_error,
    other_hypervisor,
    unknown_to_vmm,
    invalid_guest_state,
    outer_hypervisor,
    host_kernel_trouble,
    missing_hardware,
    not_x86,
)

RULES = tuple(module.rule for module in _MODULES)
CAUSES = (*(module.CAUSE for module in _MODULES), undecided.CAUSE)
UNDECIDED = undecided.finding
