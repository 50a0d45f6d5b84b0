"""lab.outcome and lab.compare, and the outcomes that are committed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lab import compare
from lab.cases import Case
from lab.catalogue import catalogue
from lab.outcome import FAIL_ENTRY, INTERNAL_ERROR, Exit, Failed, Outcome, Provenance, State, load

RESULTS = Path(__file__).parents[2] / "lab" / "results"
FILES = sorted(RESULTS.glob("*.jsonl*"))
N6 = "010000000600000000000000000000003000000000000000840100000000000000000000000000000000000000000000" + "00" * 8

STATE = State(rip="0x1", rflags="0x2", rsp="0x0", rax="0x0", rcx="0x0", rsi="0x0", rdi="0x0", cs="0x18", cr2="0x0")


def failure(payload: str, *, rip: str = "0x1") -> Outcome:
    state = msgspec.structs.replace(STATE, rip=rip)
    return Outcome("x", (Exit(INTERNAL_ERROR, payload=payload),), state=state)


def test_words_end_at_ndata() -> None:
    """What lies behind ndata words is left over from other exits, and no part of the exit."""
    end = Exit(INTERNAL_ERROR, payload=N6 + "ff" * 64)
    assert end.words == (1, 0, 0x30, 0x184, 0, 0, 0)
    assert end.significant == N6
    assert end.reduced() == Exit(INTERNAL_ERROR, payload=N6)


def test_left_over_bytes_are_no_difference() -> None:
    """Two outcomes agree if they agree in what KVM wrote."""
    assert compare.differences(failure(N6), failure(N6 + "ff" * 64)) == ()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (failure(N6.replace("8401", "8301")), "0x183"),
        (failure(N6, rip="0x5"), "rip 0x1 or 0x5"),
        (Outcome("x", (), "timeout", state=STATE), "1 or 0 exits"),
        (Outcome("x", (), "refused", Failed("KVM_SET_SREGS", 22)), "refused"),
        (Outcome("x", (Exit(8),), state=STATE), "SHUTDOWN"),
    ],
)
def test_differences_are_said(other: Outcome, said: str) -> None:
    """Every kind of difference is found and named."""
    assert any(said in line for line in compare.differences(failure(N6), other))


def test_interrupted_guests_have_no_place() -> None:
    """Where a guest stood when its time was up is chance."""
    moved = msgspec.structs.replace(STATE, rip="0x77")
    assert compare.differences(Outcome("x", (), "timeout", state=STATE), Outcome("x", (), "timeout", state=moved)) == ()


def test_report_and_table() -> None:
    """A model that errs in one case of twelve: the table counts it, the report says what the case does."""
    cases = catalogue()[:12]
    measured = {case.id: msgspec.structs.replace(failure(N6), id=case.id) for case in cases}

    def model(case: Case) -> Outcome:
        return failure(N6.replace("8401", "8301")) if case is cases[3] else measured[case.id]

    agreement = compare.compare(measured, model, cases)
    assert (agreement.total.total(), agreement.same.total(), agreement.complete) == (12, 11, False)
    assert agreement.table().splitlines()[-1].split() == ["all", "12", "11", "1"]
    said = compare.report(agreement)
    assert cases[3].id in said
    assert cases[3].facts is not None
    assert cases[3].facts.about in said


def test_absent_cases_are_named() -> None:
    """A case that one side lacks is no agreement."""
    agreement = compare.compare({}, lambda _: failure(N6), catalogue()[:2])
    assert agreement.absent == tuple(case.id for case in catalogue()[:2])
    assert not agreement.complete


@pytest.fixture
def results(tmp_path: Path) -> Callable[[str, list[Outcome]], Path]:
    def write(name: str, outcomes: list[Outcome]) -> Path:
        head = Provenance(
            *("svm", name, "v", "kvm_amd", "", {}, "bench", "cpu", "2026-01-01", len(outcomes), len(outcomes), "")
        )
        lines = [msgspec.json.encode(value) for value in (head, *outcomes)]
        path = tmp_path / f"svm-{name}.jsonl.gz"
        path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
        return path

    return write


def test_command(results: Callable[[str, list[Outcome]], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Two files that agree: exit status 0; two that do not: 1, and the case is named."""
    case = catalogue()[0]
    same = [msgspec.structs.replace(failure(N6), id=case.id)]
    other = [Outcome(case.id, (), "timeout")]
    first, second, third = results("6.1.0", same), results("6.1.1", same), results("6.1.2", other)
    assert compare.main([str(first), str(second)]) == 0
    assert compare.main([str(first), str(third)]) == 1
    assert case.id in capsys.readouterr().out
    said = compare.summary([third, first, second])
    assert "against 6.1.0: 1 of 1 byte-identical" in said
    assert "against 6.1.1: 0 of 1 byte-identical, 0 end the same way" in said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_committed_results_are_whole(path: Path) -> None:
    """At least 300 outcomes of cases that exist, with what they were measured on."""
    head, outcomes = load(path)
    known = {case.id for case in catalogue()}
    assert len(outcomes) == head.outcomes >= 300
    assert outcomes.keys() <= known
    assert head.release in path.name
    assert head.vendor in {"svm", "vmx"}
    assert head.parameters


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_committed_failures_have_a_payload(path: Path) -> None:
    """Internal errors and entry failures come with all their words; every run ends in one known way."""
    for outcome in load(path)[1].values():
        assert outcome.stop in {"exit", "timeout", "max-exits", "refused", "error"}
        assert (outcome.failed is not None) == (outcome.stop in {"refused", "error"})
        for end in outcome.exits:
            if end.reason in {INTERNAL_ERROR, FAIL_ENTRY}:
                assert len(end.payload) == 2 * 168
                assert end.reason == FAIL_ENTRY or end.words[0] in {1, 2, 3, 4}


@pytest.mark.skipif(not FILES, reason="no results here")
def test_both_vendors_are_committed() -> None:
    """kvm-amd and kvm-intel, each of at least two series."""
    series = {(path.name.split("-")[0], path.name.split("-")[1].rsplit(".", 1)[0]) for path in FILES}
    assert {vendor for vendor, _ in series} == {"svm", "vmx"}
    assert len(series) >= 4
