"""The rules that a guest's state must keep for a CPU to enter it, and which of them a state breaks.

The rules are the manuals': SDM vol. 3C, chapter 27, and APM vol. 2, 15.5.1, one small function each. A rule
that the evidence cannot decide is counted as unknown, with what is missing; none is left out in silence.

>>> from kvmwhy.record import Cpu
>>> checked = check(Cpu(registers={"rflags": 1 << 3 | 2}), vendor="vmx")
>>> [(v.rule.id, v.rule.section, v.value) for v in checked.violations]
[('rflags-reserved', 'SDM vol. 3C, 27.3.1.4', 'RFLAGS=0xa')]
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.vm_entry import svm, vmx_activity, vmx_controls, vmx_host, vmx_registers, vmx_segments
from kvmwhy.arch.x86.vm_entry.rule import Rule
from kvmwhy.arch.x86.vm_entry.state import CR0_PE, RFLAGS_VM, NotShownError, State, Vendor, unrestricted_of
from kvmwhy.record import ControlBlock, Cpu

__all__ = ["DEPENDS", "EMULATED", "RULES", "Checked", "Rule", "Unknown", "Vendor", "Violation", "check"]

_VMX: Final = (vmx_registers, vmx_segments, vmx_activity, vmx_controls, vmx_host)
RULES: Final[dict[Vendor, tuple[Rule, ...]]] = {
    "vmx": tuple(rule for module in _VMX for rule in module.book.rules),
    "svm": tuple(svm.book.rules),
}
EMULATED: Final = (
    "what KVM gave the CPU: without unrestricted guest it makes the segments fit, or emulates the instruction"
)
DEPENDS: Final = "whether the host uses unrestricted guest"


class Violation(NamedTuple):
    """A rule that is broken, and the values that break it, as people write them."""

    rule: Rule
    value: str


class Unknown(NamedTuple):
    """A rule that could not be decided, and what would decide it.

    ``value``: what breaks it if the CPU was given what the guest sees, or on a host of one of the two kinds.
    """

    rule: Rule
    missing: str
    value: str | None = None


class Checked(NamedTuple):
    """All rules of one vendor, each in one of three places."""

    violations: tuple[Violation, ...]
    unknown: tuple[Unknown, ...]
    passed: tuple[Rule, ...]


def check(
    cpu: Cpu,
    control: ControlBlock | None = None,
    *,
    vendor: Vendor,
    unrestricted: bool | None = None,
    wide_addresses: bool | None = None,
) -> Checked:
    """Hold a state against every rule of that vendor's CPUs. Pure; never raises on any record.

    ``control`` is a dump of what the CPU was given; without one, KVM's own changes to what the guest sees are
    allowed for. ``unrestricted``: whether the host's CPU runs real mode by itself (VMX); read from the dump
    if that has it. ``wide_addresses``: whether the CPU has linear addresses of 57 bits.
    """
    dumped = unrestricted_of(control)
    unrestricted = unrestricted if dumped is None else dumped
    cases = (True, False) if unrestricted is None and vendor == "vmx" else (bool(unrestricted),)
    states = [State(cpu, control, vendor, unrestricted=case, wide_addresses=wide_addresses) for case in cases]
    violations, unknown, passed = [], [], []
    for rule in RULES[vendor]:
        outcomes = [_outcome(rule, state) for state in states]
        outcome = outcomes[0] if _alike(outcomes) else _doubt(rule, outcomes)
        match outcome:
            case Violation():
                violations.append(outcome)
            case Unknown():
                unknown.append(outcome)
            case Rule():
                passed.append(outcome)
    return Checked(tuple(violations), tuple(unknown), tuple(passed))


def _outcome(rule: Rule, state: State) -> Violation | Unknown | Rule:
    try:
        value = rule.check(state)
    except NotShownError as missing:
        return Unknown(rule, str(missing.args[0]))
    if value is None:
        return rule
    return Unknown(rule, EMULATED, value) if _is_mended(rule, state) else Violation(rule, value)


def _is_mended(rule: Rule, state: State) -> bool:
    """KVM would not have entered with this: see vmx_guest_state_valid, and fix_rmode_seg for real mode."""
    if state.dumped or state.unrestricted or state.vendor != "vmx":
        return False
    registers = state.cpu.registers
    by_segments = not registers.get("cr0", CR0_PE) & CR0_PE or registers.get("rflags", 0) & RFLAGS_VM
    return rule.mended or bool(by_segments and rule in vmx_segments.book.rules)


def _alike(outcomes: list[Violation | Unknown | Rule]) -> bool:
    return len({type(outcome) for outcome in outcomes}) == 1


def _doubt(rule: Rule, outcomes: list[Violation | Unknown | Rule]) -> Unknown:
    """With unrestricted guest it would come out otherwise than without."""
    with_, without = outcomes
    if isinstance(with_, Rule) and isinstance(without, Unknown):
        return without  # broken nowhere: the CPU takes it, or KVM gets around it
    value = next((outcome.value for outcome in outcomes if not isinstance(outcome, Rule) and outcome.value), None)
    return Unknown(rule, DEPENDS, value)
