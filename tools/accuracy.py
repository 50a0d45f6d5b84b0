"""How often kvmwhy names what happened, and whose doing it was, on labelled public reports.

    .venv/bin/python tools/accuracy.py [--corpus DIR] [--wrong] [--record]

Of several failures in a report the first is scored: it is what a person reads first. *honest* leaves out, for each
report, everything that it or its bug alone supports: its part in the priors and in the fit, the known bugs that were
written with it, and every sign and entry that is there in no other bug's report. *unseen* leaves out the same but
the expert's signs, which are as general on this report as on one never seen: what new reports give lies between the
two. ``--record`` writes the figures to docs/accuracy.json; CI fails when the honest figure falls below them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import corpus
import fit_origins

from kvmwhy.diagnosis import diagnose
from kvmwhy.diagnosis.answer import Mechanism
from kvmwhy.diagnosis.facts import Facts, gather
from kvmwhy.diagnosis.knowledge.sign import ORIGINS
from kvmwhy.diagnosis.knowledge.signs import SIGNS
from kvmwhy.diagnosis.knowledge.weights import FITTED, TEMPERATURE
from kvmwhy.diagnosis.origin import evidence_of, shares_of
from kvmwhy.pipeline import order
from kvmwhy.readers import read
from kvmwhy.record import Failure

FIGURES: Final = Path(__file__).parent.parent / "docs" / "accuracy.json"
NOTHING: Final = Mechanism("not-shown", "nothing was found", "possible")
BINS: Final = 5
EMULATION: Final = frozenset({"emulation-no-handler", "emulation-gives-up", "emulation-failed", "fetch-not-ram"})


class Answered(NamedTuple):
    """What the program says about one report."""

    report: corpus.Report
    facts: Facts
    mechanism: Mechanism

    @property
    def mechanism_right(self) -> bool:
        """A bare suberror 1 may be any of the emulation slugs."""
        wanted = self.report.mechanism
        either = wanted == "emulation-failed" and self.mechanism.id in EMULATION
        return self.mechanism.id == wanted or either


class Guess(NamedTuple):
    """The shares of the origins of one report, under part way of leaving it out."""

    report: corpus.Report
    shares: dict[str, float]

    @property
    def order(self) -> list[str]:
        return sorted(ORIGINS, key=lambda origin: -self.shares[origin])

    @property
    def first(self) -> bool:
        return self.order[0] == self.report.origin

    @property
    def among_three(self) -> bool:
        return self.report.origin in self.order[:3]

    @property
    def brier(self) -> float:
        return sum((self.shares[origin] - (origin == self.report.origin)) ** 2 for origin in ORIGINS)


def answers(reports: Sequence[corpus.Report]) -> list[Answered]:
    out = []
    for report in reports:
        failures = sorted(read(report.evidence).failures, key=order)
        failure = failures[0] if failures else Failure(kind="unread")
        mechanism = diagnose(failure).mechanism if failures else None
        out.append(Answered(report, gather(failure), mechanism or NOTHING))
    return out


def guesses(answered: Sequence[Answered]) -> dict[str, list[Guess]]:
    """By the way of leaving out: as shipped, honest, unseen, and the priors alone."""
    named = {answer.report.id: answer.mechanism.id for answer in answered}
    cases = [
        fit_origins.Case(answer.report, answer.facts, evidence_of(answer.facts, answer.mechanism.id))
        for answer in answered
    ]
    out: dict[str, list[Guess]] = {"shipped": [], "honest": [], "unseen": [], "priors": []}
    for case in cases:
        if case.report.known:
            out["shipped"].append(Guess(case.report, shares_of(named[case.report.id], case.evidence)))
    for way, keep in (("honest", False), ("unseen", True)):
        for left_out in fit_origins.leave_one_out(cases, keep_expert=keep):
            mechanism = named[left_out.case.report.id]
            out[way].append(Guess(left_out.case.report, left_out.shares(mechanism, TEMPERATURE)))
            if way == "honest":
                out["priors"].append(Guess(left_out.case.report, left_out._replace(evidence=()).shares(mechanism, 1)))
    return out


def share(part: int, whole: int) -> str:
    return f"{part:>3} of {whole:>3} {part / whole:>5.0%}" if whole else "  none"


SETS: Final[tuple[tuple[str, Callable[[corpus.Report], bool]], ...]] = (
    ("yes", lambda report: report.decidable == "yes"),
    ("yes+candidate", lambda report: report.decidable != "no"),
    ("all", lambda _: True),
)


def print_mechanisms(answered: Sequence[Answered], *, wrong: bool) -> None:
    right = sum(answer.mechanism_right for answer in answered)
    print(f"mechanism   first {share(right, len(answered))}")
    for certainty in ("certain", "likely", "possible"):
        part = [answer for answer in answered if answer.mechanism.certainty == certainty]
        print(f"    {certainty:<9} {share(sum(answer.mechanism_right for answer in part), len(part))}")
    for answer in answered:
        if not answer.mechanism_right and (wrong or answer.mechanism.certainty == "certain"):
            stated = f"{answer.mechanism.id} ({answer.mechanism.certainty})"
            print(f"    {answer.report.id}: {stated}, label {answer.report.mechanism}")


def print_origins(ways: dict[str, list[Guess]], *, wrong: bool) -> None:
    print("\norigin              " + "".join(f"{name:^38}" for name, _ in SETS))
    print("                    " + "      first         among three     " * len(SETS))
    for way, every in ways.items():
        cells = []
        for _, wanted in SETS:
            part = [guess for guess in every if wanted(guess.report)]
            first, three = sum(guess.first for guess in part), sum(guess.among_three for guess in part)
            cells.append(f"{share(first, len(part))}   {share(three, len(part))}  ")
        brier = sum(guess.brier for guess in every) / len(every)
        print(f"{way:<18}  {'  '.join(cells)}  Brier {brier:.3f}")
    if wrong:
        for guess in ways["unseen"]:
            if not guess.first:
                best = " ".join(f"{origin} {guess.shares[origin]:.2f}" for origin in guess.order[:3])
                print(f"    {guess.report.id} [{guess.report.decidable}]: {guess.report.origin}; answered {best}")


def calibration(part: Sequence[Guess]) -> list[tuple[float, float, int]]:
    """Bins of as many first answers each: the share stated, the share that was right, how many."""
    ordered = sorted(part, key=lambda guess: max(guess.shares.values()))
    size = math.ceil(len(ordered) / BINS)
    out = []
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        stated = sum(max(guess.shares.values()) for guess in part) / len(part)
        out.append((stated, sum(guess.first for guess in part) / len(part), len(part)))
    return out


def print_calibration(ways: dict[str, list[Guess]]) -> None:
    for way in ("honest", "unseen"):
        print(f"\ncalibration of the first answer, {way}: stated, right, reports")
        for stated, right, count in calibration(ways[way]):
            error = math.sqrt(stated * (1 - stated) / count)
            mark = "" if abs(right - stated) <= 2 * error else "  beyond two standard errors"
            print(f"    {stated:.2f}  {right:.2f}  {count:>3}{mark}")


def print_fires(answered: Sequence[Answered]) -> None:
    """Each sign and known bug: on how many reports it is there, and how often what it favours most is the truth."""
    fires: dict[str, list[bool]] = {}
    bugs: dict[str, set[str]] = {}
    for answer in answered:
        if not answer.report.known:
            continue
        for evidence in evidence_of(answer.facts, answer.mechanism.id):
            favoured = max(evidence.weights, key=lambda origin: evidence.weights[origin])
            fires.setdefault(evidence.id, []).append(favoured == answer.report.origin)
            bugs.setdefault(evidence.id, set()).add(answer.report.bug)
    print("\nsign or entry                          reports  as labelled  bugs  weights")
    for name, right in sorted(fires.items(), key=lambda item: (-len(item[1]), item[0])):
        weights = "fitted" if name in FITTED else "expert" if any(sign.id == name for sign in SIGNS) else "entry"
        print(f"{name:<40} {len(right):>5} {sum(right):>8} {len(bugs[name]):>9}   {weights}")
    silent = sorted(sign.id for sign in SIGNS if sign.id not in fires)
    print(f"on none of these reports: {len(silent)} signs: {' '.join(silent)}")


def figures(answered: Sequence[Answered], ways: dict[str, list[Guess]]) -> dict[str, Any]:
    """What is recorded: counts, so that they can be compared to the report."""

    def origin(way: str) -> dict[str, Any]:
        part = ways[way]
        return {
            **{
                name: {
                    "first": sum(guess.first for guess in part if wanted(guess.report)),
                    "among_three": sum(guess.among_three for guess in part if wanted(guess.report)),
                    "of": sum(wanted(guess.report) for guess in part),
                }
                for name, wanted in SETS
            },
            "brier": round(sum(guess.brier for guess in part) / len(part), 3),
        }

    certain = Counter(answer.mechanism_right for answer in answered if answer.mechanism.certainty == "certain")
    return {
        "corpus": corpus.digest(answer.report for answer in answered),
        "reports": len(answered),
        "mechanism": {
            "first": sum(answer.mechanism_right for answer in answered),
            "of": len(answered),
            "certain_but_wrong": certain[False],
        },
        "origin": {way: origin(way) for way in ways},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT)
    parser.add_argument("--wrong", action="store_true", help="name the reports that are answered wrongly")
    parser.add_argument("--record", action="store_true", help="write the figures to docs/accuracy.json")
    options = parser.parse_args()
    reports = corpus.load(options.corpus)
    if not reports:
        raise SystemExit(f"no labelled reports below {options.corpus}")
    answered = answers(reports)
    ways = guesses(answered)
    print(f"{len(reports)} reports, corpus {corpus.digest(reports)}\n")
    print_mechanisms(answered, wrong=options.wrong)
    print_origins(ways, wrong=options.wrong)
    print_calibration(ways)
    print_fires(answered)
    if options.record:
        today = dt.datetime.now(dt.UTC).date().isoformat()
        FIGURES.write_text(json.dumps({"date": today, **figures(answered, ways)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
