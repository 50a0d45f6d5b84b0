"""Facts to causes: one small rule per cause, a catalogue page per cause, and their ranking."""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.diagnosis.advice import advise, missing
from kvmwhy.diagnosis.answer import Advice, Mechanism, Origin
from kvmwhy.diagnosis.cause import Cause, Finding
from kvmwhy.diagnosis.facts import Facts, gather
from kvmwhy.diagnosis.knowledge.match import Match, matches
from kvmwhy.diagnosis.mechanism import mechanism
from kvmwhy.diagnosis.origin import origins_in
from kvmwhy.diagnosis.rules import RULES, UNDECIDED
from kvmwhy.diagnosis.scene import scene_of
from kvmwhy.record import Failure

_RANK = {"certain": 0, "likely": 1, "possible": 2}


class Diagnosis(Struct, frozen=True):
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
        """What happened, in one sentence."""
        if self.mechanism is not None:
            hedge = "Possibly: " if self.mechanism.certainty == "possible" else ""
            return f"{hedge}{self.mechanism.text}"
        return self.findings[0].answer


def diagnose(failure: Failure, *, syntax: Syntax = "intel") -> Diagnosis:
    """Explain one failure. When no rule is at least likely, "undecided" says what to collect."""
    facts = gather(failure, syntax=syntax)
    fitting = matches(facts)
    findings = _each_once([finding for rule in RULES if (finding := rule(facts)) is not None], fitting)
    if failure.cpu_shared:
        findings = [f._replace(confidence="possible", against=(*f.against, _SHARED)) for f in findings]
    # Of what is only possible, a bug that was seen with these very marks says more than a rule that fits many.
    findings.sort(key=lambda f: (_RANK[f.confidence], f.confidence == "possible" and not f.cause.id.startswith("bug-")))
    if not findings or findings[0].confidence == "possible":
        findings.append(UNDECIDED(facts, tuple(findings)))
    happened = mechanism(facts)
    scene = scene_of(facts, happened.id)
    whose = origins_in(scene, fitting)
    return Diagnosis(facts, tuple(findings), happened, whose, advise(scene, whose, fitting), missing(scene, happened))


def _each_once(of_rules: list[Finding], fitting: tuple[Match, ...]) -> list[Finding]:
    """Rules' findings and known bugs; where both say the same, the surer one with the proofs of both."""
    by_cause = {finding.cause.id: finding for finding in of_rules}
    of_bugs = []
    for match in fitting:
        bug, rule = match.finding, by_cause.get(match.bug.same or "")
        if rule is None or match.bug.nursery:
            of_bugs.append(bug)
        elif _RANK[rule.confidence] < _RANK[bug.confidence]:
            by_cause[rule.cause.id] = rule._replace(
                for_=(*rule.for_, f"it looks like a known bug: {match.bug.title}"), fix=bug.advice, also=(match.bug.id,)
            )
        else:
            by_cause.pop(rule.cause.id, None)
            proofs = tuple(dict.fromkeys((*bug.for_, *rule.for_)))
            of_bugs.append(bug._replace(for_=proofs, also=(rule.cause.id,)))
    return [*by_cause.values(), *of_bugs]


def catalogue() -> dict[str, Cause]:
    """Every cause by its id, in the order of the rules."""
    from kvmwhy.diagnosis.knowledge import causes
    from kvmwhy.diagnosis.rules import CAUSES

    return {cause.id: cause for cause in (*CAUSES, *causes())}


_SHARED = "these registers may belong to another vCPU that failed at the same time"
