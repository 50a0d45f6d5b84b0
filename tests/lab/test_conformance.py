"""The model of KVM says what real kernels did, case by case, but for what lab.exceptions lists."""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import pytest

pytest.importorskip("unicorn")

from kvmwhy.machine import TimedOut, Vcpu
from kvmwhy.machine.exits import Exit as KvmExit
from lab import on_model
from lab.cases import Case
from lab.catalogue import catalogue
from lab.conformance import has_failure, page, read, run_of
from lab.exceptions import APART, KNOWN, Known, apart, known
from lab.on_model import held_to
from lab.outcome import load

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "lab" / "results").glob("*.jsonl.gz"))
RUNS = {path: run_of(load(path)[0]) for path in FILES}
# Each file is held to one case in so many of each class, and other ones than the next file.
STEP = 1 if os.environ.get("KVMWHY_LAB") else 14
LEAST_FAILURES = 300
MOST_EXCEPTED = 0.03

every_file = pytest.mark.parametrize("path", FILES, ids=RUNS.get)


def sample(path: Path) -> list[Case]:
    """Some of each class, and of each exception; everything if the lab was asked for."""
    run, offset = RUNS[path], FILES.index(path)
    by_class = sorted(catalogue(), key=lambda case: case.facts.group if case.facts else "")
    chosen = {
        case.id: case
        for _, group in groupby(by_class, key=lambda case: case.facts.group if case.facts else "")
        for n, case in enumerate(group)
        if n % STEP == offset % STEP or n == 0
    }
    listed: dict[str, list[Case]] = {}
    for case in catalogue():
        if (one := known(run, case.id)) is not None:
            listed.setdefault(one.ids, []).append(case)
    for cases in listed.values():
        chosen |= {case.id: case for case in cases[:: max(1, len(cases) - 1)]}
    return list(chosen.values())


@every_file
def test_the_model_says_what_the_kernel_did(path: Path) -> None:
    """Every exit and payload, byte for byte; what is listed as differing does differ."""
    held = held_to(path, sample(path))
    assert held.unlisted == ()
    assert held.unneeded == ()
    assert held.agreement.total.total() > 100


@every_file
def test_enough_failures_are_the_same(path: Path) -> None:
    """At least 300 cases with a failure's payload, and with nested paging 97 of 100 in all, are not excepted."""
    run = read(path)
    assert run.failures_same >= LEAST_FAILURES
    if "=" not in run.name:
        assert run.excepted.total() <= MOST_EXCEPTED * run.cases.total()


@pytest.mark.parametrize("one", KNOWN, ids=lambda one: one.ids)
def test_an_exception_is_narrow_and_used(one: Known) -> None:
    """It covers a case of each run that it names, that run exists, and not more than one case in thirty."""
    assert set(one.on) <= set(RUNS.values())
    for run in one.on:
        covered = [case.id for case in catalogue() if one.covers(run, case.id) and not apart(run, case.id)]
        assert 0 < len(covered) < len(catalogue()) / 30, run
    assert one.why.endswith(".")


def test_no_case_is_excepted_twice() -> None:
    """One reason per case, so that each entry can be seen to be needed."""
    for run in RUNS.values():
        for case in catalogue():
            assert sum(one.covers(run, case.id) for one in KNOWN) <= 1, (run, case.id)


def test_what_is_left_out_exists() -> None:
    """Each entry names a run, and leaves most of its cases in."""
    for run, _, why in APART:
        left = [case for case in catalogue() if not apart(run, case.id)]
        assert run in RUNS.values()
        assert len(catalogue()) / 2 < len(left) < len(catalogue())
        assert why.endswith(".")


def test_every_class_has_failures_that_are_compared() -> None:
    """The classes that lead to failures are in the samples with a failure of their own."""
    seen, there = set(), set()
    for path in FILES:
        outcomes = load(path)[1]
        there |= {case.facts.group for case in catalogue() if case.facts and has_failure(outcomes[case.id])}
        seen |= {case.facts.group for case in sample(path) if case.facts and has_failure(outcomes[case.id])}
    assert seen == there


def test_the_page_is_current() -> None:
    """docs/conformance.md is what the results files and the exceptions say."""
    assert (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8") == page(FILES)


@pytest.mark.parametrize("timeout", [0.0, 2e-5])
def test_an_interrupted_guest_has_the_same_exits(timeout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine, or a signal, ends KVM_RUN at any moment; what the emulator has begun it finishes."""
    run = on_model.modelled("svm", "6.1.0")
    cases = [case for case in catalogue() if "movntpd" in case.id or "fst" in case.id][:30]
    undisturbed = [run(case) for case in cases]

    def in_slices(vcpu: Vcpu) -> KvmExit:
        ends = (vcpu.run(timeout=timeout) for _ in range(3000))
        return next((end for end in ends if not isinstance(end, TimedOut)), TimedOut(timeout))

    monkeypatch.setattr(on_model, "_patiently", in_slices)
    assert [run(case) for case in cases] == undisturbed
