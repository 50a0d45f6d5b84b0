"""Fit the weights of the signs to labelled reports, as far as the reports support them.

    .venv/bin/python tools/fit_origins.py [--corpus DIR]

Each weight starts from the expert's and is pulled back to it by a penalty (L2). Only a sign that is there in the
reports of at least two independent bugs is fitted, and only for the origins that the expert named. The result is
rounded to half steps, so that it can be read, and written to src/kvmwhy/diagnosis/knowledge/weights.py with the
temperature at which the shares of left-out reports come true most often.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import corpus

from kvmwhy.diagnosis.facts import Facts, gather
from kvmwhy.diagnosis.knowledge.match import all_bugs
from kvmwhy.diagnosis.knowledge.priors import prior
from kvmwhy.diagnosis.knowledge.sign import ORIGINS, Weights
from kvmwhy.diagnosis.knowledge.signs import SIGNS
from kvmwhy.diagnosis.origin import Evidence, Omit, evidence_of, shares_of
from kvmwhy.pipeline import order
from kvmwhy.readers import read
from kvmwhy.record import Failure

TABLE: Final = Path(__file__).parent.parent / "src/kvmwhy/diagnosis/knowledge/weights.py"
PENALTY: Final = 2.0  # an expert's weight counts like two reports' worth of evidence
STEPS: Final = 150
WARM_STEPS: Final = 25
RATE: Final = 0.15
MOST: Final = 3.0
TEMPERATURES: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1)  # no more: who wrote the weights knew the reports
EXPERT: Final[dict[str, Weights]] = {sign.id: sign.weights for sign in SIGNS}
HEAD: Final = '''"""Weights that labelled reports support, in place of the expert's. Written by tools/fit_origins.py.

Fitted to {reports} reports of {bugs} bugs (corpus {digest}). Signs that are not here have the expert's weights:
fewer than two independent bugs show them, or the fit did not move them.
"""

from __future__ import annotations

from typing import Final

TEMPERATURE: Final = {temperature}
FITTED: Final[dict[str, dict[str, float]]] = {{
'''


class Case(NamedTuple):
    """A report as the weighing sees it: under its labelled mechanism."""

    report: corpus.Report
    facts: Facts
    evidence: tuple[Evidence, ...]


def cases_of(reports: Iterable[corpus.Report], mechanism: Callable[[corpus.Report, Facts], str]) -> list[Case]:
    """The first failure of each report, with the evidence that holds there."""
    out = []
    for report in reports:
        failures = sorted(read(report.evidence).failures, key=order)
        facts = gather(failures[0] if failures else Failure(kind="unread"))
        out.append(Case(report, facts, evidence_of(facts, mechanism(report, facts))))
    return out


def labelled(report: corpus.Report, _facts: Facts) -> str:
    return report.mechanism


def supporters(cases: Iterable[Case]) -> dict[str, set[str]]:
    """The bugs whose reports show each sign or entry."""
    out: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        for evidence in case.evidence:
            out[evidence.id].add(case.report.bug)
    return out


def without_counts(case: Case, cases: Sequence[Case]) -> Omit:
    """Leave out what this report, and the others of its bug, gave to the prior."""
    same = Counter(
        other.report.origin
        for other in cases
        if other.report.bug == case.report.bug
        and other.report.known
        and other.report.mechanism == case.report.mechanism
    )
    return Omit(counts=same)


def fit(cases: Sequence[Case], *, start: dict[str, Weights] | None = None, steps: int = STEPS) -> dict[str, Weights]:
    """Weights of the signs that two bugs show. ``start``: from where, by default the expert's."""
    known = [case for case in cases if case.report.known]
    shown = supporters(known)
    fitted = {
        name: dict((start or EXPERT).get(name, EXPERT[name]))
        for name, by in sorted(shown.items())
        if name in EXPERT and len(by) > 1
    }
    sizes = Counter(case.report.bug for case in known)
    logs = {m: {o: math.log(p) for o, p in prior(m).items()} for m in {case.report.mechanism for case in known}}
    for _ in range(steps):
        slope: dict[tuple[str, str], float] = defaultdict(float)
        for case in known:
            scores = dict(logs[case.report.mechanism])
            for evidence in case.evidence:
                for origin, weight in fitted.get(evidence.id, EXPERT.get(evidence.id, evidence.weights)).items():
                    scores[origin] += weight
            most = max(scores.values())
            total = sum(math.exp(score - most) for score in scores.values())
            for evidence in case.evidence:
                for origin in fitted.get(evidence.id, ()):
                    missing = (origin == case.report.origin) - math.exp(scores[origin] - most) / total
                    slope[evidence.id, origin] += missing / sizes[case.report.bug]
        for name, by_origin in fitted.items():
            for origin, weight in by_origin.items():
                pull = PENALTY * (EXPERT[name][origin] - weight)
                moved = weight + RATE * (slope[name, origin] + pull)
                by_origin[origin] = max(-MOST, min(MOST, moved))
    return fitted


def rounded(weights: dict[str, Weights]) -> dict[str, Weights]:
    """In half steps; what the fit did not move from the expert's is left out."""
    half = {name: {o: round(w * 2) / 2 for o, w in by_origin.items()} for name, by_origin in weights.items()}
    return {name: by_origin for name, by_origin in half.items() if by_origin != EXPERT[name]}


def reweighed(case: Case, fitted: dict[str, Weights], *, drop: frozenset[str] = frozenset()) -> tuple[Evidence, ...]:
    """The case's evidence under other weights."""
    return tuple(
        evidence._replace(weights=fitted.get(evidence.id, EXPERT.get(evidence.id, evidence.weights)))
        for evidence in case.evidence
        if evidence.id not in drop
    )


class LeftOut(NamedTuple):
    """What is left when a report and its bug are left out of everything."""

    case: Case
    evidence: tuple[Evidence, ...]
    omit: Omit
    dropped: frozenset[str]

    def shares(self, mechanism: str, temperature: float) -> dict[str, float]:
        """Under the mechanism that the program named; its prior holds this report only if that is the labelled one."""
        omit = self.omit if mechanism == self.case.report.mechanism else Omit()
        return shares_of(mechanism, self.evidence, omit=omit, temperature=temperature)


def leave_one_out(cases: Sequence[Case], *, keep_expert: bool = False) -> list[LeftOut]:
    """Each known report without its bug: without its counts, its part in the fit, and whatever it alone shows.

    ``keep_expert``: signs that no other report shows keep the expert's weight, as they do on reports never seen.
    """
    whole = fit(cases)
    shown = supporters(cases)
    refitted: dict[str, dict[str, Weights]] = {}
    out = []
    for case in cases:
        if not case.report.known:
            continue
        bug = case.report.bug
        if bug not in refitted:
            others = [other for other in cases if other.report.bug != bug]
            refitted[bug] = rounded(fit(others, start=whole, steps=WARM_STEPS))
        alone = frozenset(evidence.id for evidence in case.evidence if not shown[evidence.id] - {bug})
        dropped = frozenset() if keep_expert else alone
        written_with = frozenset(bug.id for bug in all_bugs() if case.report.id in bug.corpus)
        evidence = reweighed(case, refitted[bug], drop=dropped | written_with)
        out.append(LeftOut(case, evidence, without_counts(case, cases), dropped | written_with))
    return out


def temperature_of(left_out: Sequence[LeftOut]) -> float:
    """The temperature under which the truth of the left-out reports is likeliest."""

    def likelihood(temperature: float) -> float:
        return sum(
            math.log(case.shares(case.case.report.mechanism, temperature)[case.case.report.origin]) for case in left_out
        )

    return max(TEMPERATURES, key=likelihood)


def table(fitted: dict[str, Weights], temperature: float, reports: list[corpus.Report]) -> str:
    """The module's text."""
    known = [report for report in reports if report.known]
    out = [
        HEAD.format(
            reports=len(known),
            bugs=len({report.bug for report in known}),
            digest=corpus.digest(reports),
            temperature=temperature,
        )
    ]
    for name, by_origin in sorted(fitted.items()):
        inner = ", ".join(f'"{origin}": {by_origin[origin]}' for origin in ORIGINS if origin in by_origin)
        out.append(f'    "{name}": {{{inner}}},\n')
    return "".join((*out, "}\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT)
    parser.add_argument("--keep", action="store_true", help="show the weights, write nothing")
    options = parser.parse_args()
    reports = corpus.load(options.corpus)
    cases = cases_of(reports, labelled)
    fitted = rounded(fit(cases))
    honest, unseen = leave_one_out(cases), leave_one_out(cases, keep_expert=True)
    temperature = temperature_of([*honest, *honest, *unseen])
    for name, by_origin in sorted(fitted.items()):
        print(f"{name}: {EXPERT[name]} -> {by_origin}")
    print(f"temperature {temperature}")
    if not options.keep:
        TABLE.write_text(table(fitted, temperature, reports))


if __name__ == "__main__":
    main()
