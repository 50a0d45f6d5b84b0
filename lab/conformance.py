"""The page docs/conformance.md: how the model compares with each kernel, class by class.

The page follows from the results files and the list of exceptions alone, provided that the model differs
just where the list says. ``lab.on_model --table`` runs everything to see that, and then writes the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lab.catalogue import catalogue
from lab.exceptions import APART, KNOWN, apart, known
from lab.outcome import FAIL_ENTRY, INTERNAL_ERROR, Outcome, Provenance, load

_ACCOUNTS: Final = {
    "bench": "The bench's CPU is not silicon",
    "unicorn": "The model's own CPU, Unicorn",
    "model": "Not modelled, or not explained",
}
_HEAD: Final = """\
# The model of KVM, held to real kernels

`kvmwhy.machine.model` says what KVM would do with a guest. Here it was given the {cases} guests of the
[lab](lab.md), and every exit of every guest was set against what the real modules did with it: payload byte for
byte, the vendor's words included, and the events that are left to be delivered. Whatever differs is listed below,
with the reason; nothing else differs. Registers are not compared.

    python -m lab.on_model --table docs/conformance.md {pattern}

runs all of it and writes this page. `tests/lab/test_conformance.py` runs a part of it with every test run.
"""


class Run(NamedTuple):
    """One results file, as what of it is listed as differing."""

    name: str
    release: str
    date: str
    cases: Counter[str]  # by class
    excepted: Counter[str]
    failures: int  # cases that end with a failure's payload
    failures_same: int

    @property
    def same(self) -> int:
        return self.cases.total() - self.excepted.total()


def series(release: str) -> str:
    """``6.1`` of ``6.1.0-56-cloud-amd64``."""
    return ".".join(release.split(".")[:2])


def run_of(provenance: Provenance) -> str:
    """The name by which exceptions refer to a results file: ``svm-6.1``, ``vmx-6.1-ept=0``."""
    return "-".join(filter(None, (provenance.vendor, series(provenance.release), provenance.module_args)))


def has_failure(outcome: Outcome) -> bool:
    """Whether it has an exit with a failure's payload: an internal error, or a failed VM entry."""
    return any(end.reason in {INTERNAL_ERROR, FAIL_ENTRY} for end in outcome.exits)


def read(path: Path) -> Run:
    provenance, outcomes = load(path)
    name = run_of(provenance)
    cases, excepted = Counter[str](), Counter[str]()
    failures = same = 0
    for case in catalogue():
        outcome = outcomes.get(case.id)
        if outcome is None or apart(name, case.id):
            continue
        group = case.facts.group if case.facts else ""
        listed = known(name, case.id) is not None
        cases[group] += 1
        excepted[group] += listed
        failures += has_failure(outcome)
        same += has_failure(outcome) and not listed
    return Run(name, provenance.release, provenance.date, cases, excepted, failures, same)


def page(paths: Sequence[Path]) -> str:
    """The page, of these results files."""
    runs = sorted(map(read, paths), key=lambda run: (run.name.count("="), run.name[:3], _version(run.release)))
    parts = [
        _HEAD.format(cases=len(catalogue()), pattern="lab/results/*.gz"),
        "## In all\n\n" + _totals(runs),
        "## By class\n\nHow many cases are the same, and after the stroke how many are listed as differing.\n\n"
        + _classes(runs),
        "## What differs\n" + "".join(_account(account, runs) for account in _ACCOUNTS),
        "## What is left out\n\n" + _apart(runs),
    ]
    return "\n".join(parts)


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in series(release).split("."))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _totals(runs: Sequence[Run]) -> str:
    head = ("kernel", "cases", "the same", "", "listed", "failure payloads, the same")
    rows = [
        (
            f"`{run.name}` ({run.release})",
            *(str(run.cases.total()), str(run.same), f"{100 * run.same / run.cases.total():.1f} %"),
            *(str(run.excepted.total()), f"{run.failures_same} of {run.failures}"),
        )
        for run in runs
    ]
    return _row(head) + _row(["---"] + ["---:"] * 5) + "".join(map(_row, rows))


def _classes(runs: Sequence[Run]) -> str:
    groups = list(dict.fromkeys(group for run in runs for group in run.cases))
    rows = [(f"`{group}`", *(_cell(run.cases[group], run.excepted[group]) for run in runs)) for group in groups]
    head = ("class", *(f"`{run.name}`" for run in runs))
    return _row(head) + _row(["---"] + ["---:"] * len(runs)) + "".join(map(_row, rows))


def _cell(cases: int, excepted: int) -> str:
    return f"{cases - excepted}" + (f" / {excepted}" if excepted else "")


def _account(account: str, runs: Sequence[Run]) -> str:
    names = {run.name for run in runs}
    rows = [
        _row((_escape(one.why), ", ".join(f"`{run}`" for run in one.on if run in names), f"`{_escape(one.ids)}`"))
        for one in KNOWN
        if one.account == account and names.intersection(one.on)
    ]
    head = _row(("why", "where", "cases (a regular expression of ids)")) + _row(["---"] * 3)
    return f"\n### {_ACCOUNTS[account]}\n\n{head}{''.join(rows)}" if rows else ""


def _apart(runs: Sequence[Run]) -> str:
    names = {run.name for run in runs}
    return "".join(f"* `{run}`: `{ids}`. {why}\n" for run, ids, why in APART if run in names) or "Nothing.\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
