"""Version 3 of the signature: begins with the mechanism, where version 2 had the cause that its rules found.

The mechanism decides what belongs in it: the instruction where KVM was to carry it out, the rule where the CPU refused
the guest's state, the call where a set-up was refused. Whose doing it was is no part: it is a share, not a mark.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.entry_state import suspects
from kvmwhy.fleet import signature_v2 as v2

_CARRIED_OUT: Final = frozenset({"emulation-no-handler", "emulation-gives-up", "emulation-failed", "exception-exit"})
_RULES: Final = {"entry-refused-guest-state": ("guest",), "entry-refused-controls": ("event", "controls", "host")}


def parts(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    """(name, value) of what applies to this failure."""
    facts = diagnosis.facts
    mechanism = diagnosis.mechanism.id if diagnosis.mechanism else "not-shown"
    access, place = v2.access_of(facts)
    setup, speaker, symptom = facts.failure.setup, facts.failure.speaker, facts.failure.symptom
    named = {
        "mechanism": mechanism,
        "failure": v2.failure_of(facts),
        "call": setup.call if setup else None,
        "msr": hex(setup.msr) if setup and setup.msr is not None else None,
        "speaker": speaker.name if speaker else None,
        "symptom": symptom.kind if symptom else None,
        "rule": _rule(facts, mechanism),
        "event": v2.event_of(facts),
        "structure": (facts.delivery.structure or v2.UNKNOWN) if facts.delivery else None,
        "mode": (facts.mode.name if facts.mode else v2.UNKNOWN) if v2.has_mode(facts) else None,
        "instruction": v2.instruction_of(facts)
        if mechanism in _CARRIED_OUT and facts.delivery is None and not v2.task_switch(facts)
        else None,
        "access": access,
        "place": place,
        "exit": v2.exit_of(facts, access),
    }
    return tuple((name, value) for name, value in named.items() if value)


def _rule(facts: Facts, mechanism: str) -> str | None:
    """The first rule of VM entry that is broken, of those that the mechanism is about."""
    result = facts.checked
    if result is None or mechanism not in _RULES:
        return None
    if mechanism == "entry-refused-guest-state":
        broken = suspects(facts, result)
    else:
        broken = [violation for violation in result.violations if violation.rule.about in _RULES[mechanism]]
    return broken[0].rule.id if broken else None
