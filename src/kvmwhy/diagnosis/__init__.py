"""Facts to causes: one small rule per cause, a catalogue page per cause, and their ranking."""

from __future__ import annotations

from typing import NamedTuple

from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.diagnosis.answer import Advice, Mechanism, Origin
from kvmwhy.diagnosis.cause import Cause, Finding
from kvmwhy.diagnosis.facts import Facts, gather
from kvmwhy.diagnosis.knowledge import known
from kvmwhy.diagnosis.mechanism import mechanism
from kvmwhy.diagnosis.rules import RULES, UNDECIDED
from kvmwhy.record import Failure

_RANK = {"certain": 0, "likely": 1, "possible": 2}


class Diagnosis(NamedTuple):
    """A failure explained: what happened, whose doing it may have been, and the catalogue's pages that apply.

    ``mechanism`` is one answer, ``origins`` a distribution, best first. ``findings`` has at least one. ``advice`` is
    what each role can do, the likeliest first; ``collect`` is what is missing here and would settle it.
    """

    facts: Facts
    findings: tuple[Finding, ...]
    mechanism: Mechanism | None = None
    origins: tuple[Origin, ...] = ()
    advice: tuple[Advice, ...] = ()
    collect: tuple[str, ...] = ()

    @property
    def failure(self) -> Failure:
        return self.facts.failure

    @property
    def answer(self) -> str:
        best = self.findings[0]
        hedged = best.confidence == "possible" and best.cause.family != "undecided"
        return f"Possibly: {best.answer}" if hedged else best.answer


def diagnose(failure: Failure, *, syntax: Syntax = "intel") -> Diagnosis:
    """Explain one failure. When no rule is at least likely, "undecided" says what to collect."""
    facts = gather(failure, syntax=syntax)
    found = [finding for rule in RULES if (finding := rule(facts)) is not None]
    found += known(facts)
    if failure.cpu_shared:
        found = [f._replace(confidence="possible", against=(*f.against, _SHARED)) for f in found]
    # Of what is only possible, a bug that was seen with these very marks says more than a rule that fits many.
    found.sort(key=lambda f: (_RANK[f.confidence], f.confidence == "possible" and not f.cause.id.startswith("bug-")))
    if not found or found[0].confidence == "possible":
        found.append(UNDECIDED(facts, tuple(found)))
    return Diagnosis(facts, tuple(found), mechanism(facts))


def catalogue() -> dict[str, Cause]:
    """Every cause by its id, in the order of the rules."""
    from kvmwhy.diagnosis.knowledge import causes
    from kvmwhy.diagnosis.rules import CAUSES

    return {cause.id: cause for cause in (*CAUSES, *causes())}


_SHARED = "these registers may belong to another vCPU that failed at the same time"
