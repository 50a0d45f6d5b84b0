"""Version 2 of the signature: only what the failure is about, and the instruction by its form.

An instruction is in it where KVM was to carry it out; not where the guest had jumped to no code, where an event was
being delivered, or where the CPU refused to enter: there the bytes at RIP are anything. An exit is not named where it
only says that memory was touched, which ``access`` says: Intel and AMD, and a first and a second touch, have other
names for that. A part that the failure has and the evidence does not show is ``?``.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.abi.x86.intr_info import EXTERNAL_INTERRUPT, NMI, decode_event
from kvmwhy.arch.x86.instruction_form import form_of
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.entry_state import suspects

UNKNOWN: Final = "?"
_MEMORY_EXITS: Final = frozenset(("EPT_VIOLATION", "EPT_MISCONFIG", "NPF", "PF_EXCP"))
_PAGE_FAULT: Final = 14
_ASTRAY: Final = "firmware-astray"
_ENTRY_RULES: Final = {  # what the rules are about that a cause names
    "entry-bad-event": ("event",),
    "entry-controls": ("controls", "host"),
}


def parts(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    """(name, value) of what applies to this failure."""
    facts = diagnosis.facts
    cause = diagnosis.findings[0].cause
    delivering = facts.delivery is not None
    astray = (facts.access is not None and facts.access.kind == "fetch") or bool(facts.fetch_failed)
    astray = astray or cause.family == "fetch-non-ram" or cause.id == _ASTRAY
    carried_out = (facts.emulated or facts.failure.kind == "exception-exit") and not delivering and not astray
    access, place = access_of(facts)
    named = {
        "cause": cause.id,
        "failure": failure_of(facts),
        "rule": _rule(facts, cause.id),
        "event": event_of(facts),
        "structure": (facts.delivery.structure or UNKNOWN) if facts.delivery else None,
        "mode": (facts.mode.name if facts.mode else UNKNOWN) if has_mode(facts) else None,
        "instruction": instruction_of(facts) if carried_out and not task_switch(facts) else None,
        "access": access,
        "place": place,
        "exit": exit_of(facts, access),
    }
    return tuple((name, value) for name, value in named.items() if value)


def failure_of(facts: Facts) -> str:
    failure = facts.failure
    match failure.kind:
        case "internal-error":
            number = f"suberror {UNKNOWN if failure.suberror is None else failure.suberror}"
        case "entry-failure":
            number = "hardware error " + (UNKNOWN if failure.hardware_error is None else hex(failure.hardware_error))
        case "unknown-exit":
            number = "reason " + (UNKNOWN if failure.hardware_reason is None else hex(failure.hardware_reason))
        case "exception-exit":
            number = UNKNOWN if failure.exception is None else _exception(failure.exception)
        case _ if failure.silent:
            return "#UD given to the guest"
        case "other" if failure.errno is None and failure.exit_reason is not None:
            number = f"KVM exit {failure.exit_reason}"
        case _:
            number = failure.errno or ""
    return f"{failure.kind} {number}".rstrip()


def _exception(vector: int) -> str:
    return MNEMONICS.get(vector, f"vector {vector}")


def _rule(facts: Facts, cause: str) -> str | None:
    """The first rule of VM entry that is broken: the one that the answer names."""
    if cause != "entry-rule-broken" and cause not in _ENTRY_RULES:
        return None
    result = facts.checked
    if result is None:
        return None
    broken = (
        suspects(facts, result)
        if cause == "entry-rule-broken"
        else [violation for violation in result.violations if violation.rule.about in _ENTRY_RULES[cause]]
    )
    return broken[0].rule.id if broken else None


def event_of(facts: Facts) -> str | None:
    """By its kind, exceptions by name: which vector a device's interrupt has is the guest's own affair."""
    failure = facts.failure
    if failure.suberror == 2:
        first, second = (*failure.data[:2], 0, 0)[:2]
        return f"{_named(second, 'vmx')} during {_named(first, 'vmx')}"
    if facts.delivery is None:
        return None
    if facts.vectoring is not None:
        return _named(facts.vectoring, facts.vendor.vendor)
    return UNKNOWN if facts.delivery.vector is None else _of_vector(facts.delivery.vector)


def _named(word: int, vendor: str | None) -> str:
    event = decode_event(word, vendor=vendor)
    if not event.valid:
        return UNKNOWN
    if event.type in {EXTERNAL_INTERRUPT, NMI}:
        return event.type_name
    return _of_vector(event.vector)


def _of_vector(vector: int) -> str:
    """INT3 and INT 3, a fault and an INT of its number: they take the same way through the IDT."""
    return _exception(vector) if vector < 32 else "interrupt"


def has_mode(facts: Facts) -> bool:
    """Whether it matters in which mode the guest was: not where KVM did not look at the guest's code or state."""
    return (
        facts.emulated
        or facts.failure.suberror == 3
        or facts.failure.kind in {"entry-failure", "exception-exit", "run-error"}
    )


def task_switch(facts: Facts) -> bool:
    return facts.explained is not None and facts.explained.name == "TASK_SWITCH"


def instruction_of(facts: Facts) -> str:
    insn = facts.instruction
    if insn is None or facts.code_mode is None:
        return UNKNOWN
    if insn.invalid:
        return "not an instruction"
    return form_of(insn, bitness=facts.code_mode.bitness) or UNKNOWN


def access_of(facts: Facts) -> tuple[str | None, str | None]:
    """What was done to which place; both ``?`` of an instruction that names memory where nothing shows which."""
    if facts.access is not None:
        place = facts.access.place
        return facts.access.kind, place.name if place else UNKNOWN
    insn = facts.instruction
    touches = insn is not None and any(operand.access != "none" for operand in insn.memory)
    if facts.emulated and touches and not facts.delivery and not facts.fetch_failed:
        return UNKNOWN, UNKNOWN
    return None, None


def exit_of(facts: Facts, access: str | None) -> str | None:
    name = facts.explained.name if facts.explained else None
    if name in _MEMORY_EXITS or (name == "EXCEPTION_NMI" and _page_fault(facts)):
        return None if access not in {None, UNKNOWN} else "memory access"
    return name


def _page_fault(facts: Facts) -> bool:
    return facts.words is not None and facts.words.intr_info & 0xFF == _PAGE_FAULT
