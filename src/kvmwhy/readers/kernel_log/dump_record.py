"""A dump of a VMCS or VMCB as a part of a record: registers, controls, exit, and why it was printed.

``dump_vmcs`` and ``dump_vmcb`` are called when a VM entry failed, and for an exit without handler; a kernel under
test, or one with
a patch, calls them where it likes. Only what is shown decides: a failed entry has its mark in the exit reason, the
exit without
handler has its own line before the dump, and a dump with neither is one without its line.
"""

from __future__ import annotations

from typing import Any, Final

from kvmwhy.abi.x86.svm import VMEXIT_INVALID
from kvmwhy.readers.kernel_log import vmcb, vmcs
from kvmwhy.readers.kernel_log.dump_assembler import Dump
from kvmwhy.record import ControlBlock, Cpu, Exit

_FAILED: Final = 1 << 31  # SDM vol. 3C, 25.9.1: the exit is a failed VM entry
_FEW: Final = 24  # values; a dump has some 60
_FAIL_ENTRY: Final = 9

UNSAID: Final = (
    "the log does not say why the dump was printed: VMLAUNCH or VMRESUME failed with a VM-instruction error"
    " (userspace was told which), or the line before the dump is missing"
)
CUT_OFF: Final = "the exit reason of this dump is missing: it does not show whether a VM entry failed"


def fields_of(dump: Dump, *, announced: Exit | None, warned: bool) -> dict[str, Any]:
    """The fields of the record. ``announced``: the exit that a line before the dump calls unexpected."""
    cpu, control, exit_ = _parts(dump)
    fields: dict[str, Any] = {
        "cpu": cpu if cpu.registers or cpu.segments else None,
        "cpu_shared": dump.mixed,
        "control": control,
        "exit": exit_ or announced,
        "arch": "x86",
        "arch_from": f"a {control.kind.upper()} dump",
    }
    damage = _torn(dump)
    if announced:
        fields["kind"] = "internal-error"
    elif _entry_failed(dump, exit_):
        fields |= {
            "kind": "entry-failure",
            "exit_reason": _FAIL_ENTRY,
            "hardware_error": exit_.reason if exit_ else None,
        }
    elif dump.traced:
        fields["kind"] = "healthy"
    elif warned:
        fields["kind"] = "host-trouble"
    else:
        fields["kind"] = "other"
        damage.append(CUT_OFF if exit_ is None else UNSAID)
    return fields | {"damage": tuple(damage)}


def _parts(dump: Dump) -> tuple[Cpu, ControlBlock, Exit | None]:
    if dump.module is vmcs:
        return vmcs.cpu_of(dump.values), vmcs.control_of(dump.values), vmcs.exit_of(dump.values)
    return vmcb.cpu_of(dump.values), vmcb.control_of(dump.values), vmcb.exit_of(dump.values)


def _entry_failed(dump: Dump, exit_: Exit | None) -> bool:
    if exit_ is None:
        return False
    return exit_.reason in VMEXIT_INVALID if dump.module is vmcb else bool(exit_.reason & _FAILED)


def _torn(dump: Dump) -> list[str]:
    damage = []
    if dump.mixed:
        damage.append("two dumps are interleaved in this log; a value may belong to the other one")
    if dump.orphan:
        damage.append("the beginning of this dump is missing")
    if not dump.is_whole:
        damage.append(f"the dump is cut: {len(dump.values)} of its values are here")
    elif len(dump.values) < _FEW:
        damage.append("most of the dump's lines are missing")
    return damage
