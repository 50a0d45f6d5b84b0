"""Genuine failures explained: what the guest was made to do is what the explanation must say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.readers import read

FIXTURES = Path(__file__).parent.parent / "fixtures"
CONFIDENT = {"certain", "likely"}


def cases() -> list[Any]:
    """(case, directory, what the guest does), for every captured log that tells of a failure."""
    found = []
    for provenance in sorted(FIXTURES.glob("*/provenance.json")):
        content = json.loads(provenance.read_text())
        if "expected" in content:
            found.append((provenance.parent.name, provenance.parent, content))
    for provenance in sorted(FIXTURES.glob("lab-svm/qemu-*/provenance.json")):
        content = json.loads(provenance.read_text())
        for name, case in content["cases"].items():
            found.append((f"{provenance.parent.name}-{name}", provenance.parent / name, case | content["bench"]))
    return [pytest.param(d, c, id=i) for i, d, c in found if (d / "qemu.log").stat().st_size]


def explain(path: Path) -> list[Diagnosis]:
    return [diagnose(failure) for failure in read(path.read_bytes()).failures]


@pytest.mark.parametrize(("directory", "case"), cases())
def test_the_explanation_says_what_the_guest_did(directory: Path, case: dict[str, Any]) -> None:
    """Mode, address, bytes and accessed GPA of the explanation are those of the guest's own code."""
    expected = case["expected"]
    for diagnosis in explain(directory / "qemu.log"):
        facts = diagnosis.facts
        assert facts.mode is not None
        assert facts.mode.name == expected["mode"]
        assert facts.linear_rip == int(expected["address"], 16)
        if expected["bytes"] and facts.instruction:
            assert facts.instruction.bytes.hex().startswith(expected["bytes"][: 2 * facts.instruction.length])
        if facts.access and facts.access.gpa is not None and expected["gpa"]:
            # An event touches its own entry of the IDT, which starts at the address of the case.
            assert 0 <= facts.access.gpa - int(expected["gpa"], 16) < 0x1000
        if facts.access and facts.access.kind in {"fetch", "read", "write"} and expected["kind"] in {"fetch", "read"}:
            assert facts.access.kind == expected["kind"]


FAMILY = {
    "flds": "emulator-gap",
    "fsts": "emulator-gap",
    "xsave": "emulator-gap",
    "xsave64": "emulator-gap",
    "vmovdqu": "emulator-gap",
    "jump": "fetch-non-ram",
}


@pytest.mark.parametrize(("directory", "case"), cases())
def test_the_cause_is_the_one_that_was_made(directory: Path, case: dict[str, Any]) -> None:
    """A gap in the emulator, a jump into a hole and an IDT in a hole are told apart, confidently."""
    del case
    kind = directory.name.rsplit("-", 1)[1]
    for diagnosis in explain(directory / "qemu.log"):
        best = diagnosis.findings[0]
        if kind in FAMILY:
            assert (best.cause.family, best.confidence in CONFIDENT) == (FAMILY[kind], True)
        elif "-idt-" in directory.name and diagnosis.facts.vendor.vendor == "svm":
            assert best.cause.family == "event-delivery"


MECHANISM = {
    **dict.fromkeys(("flds", "fsts", "xsave", "xsave64", "vmovdqu", "ram"), "emulation-no-handler"),
    "jump": "fetch-not-ram",
    "fault": "triple-fault",
}


@pytest.mark.parametrize(("directory", "case"), cases())
def test_the_mechanism_is_the_one_that_was_made(directory: Path, case: dict[str, Any]) -> None:
    """Of each kernel and mode, with the words of its age: what the guest was made to do has one name."""
    del case
    kind = directory.name.rsplit("-", 1)[1]
    wanted = "event-delivery" if "-idt-" in directory.name else MECHANISM.get(kind)
    if wanted is None:
        return
    for diagnosis in explain(directory / "qemu.log"):
        if "-idt-" in directory.name and diagnosis.facts.vendor.vendor == "pvm":
            continue  # kvm_pvm runs ring 0 in the emulator: INT3 itself was emulated, and has no handler there
        assert diagnosis.mechanism is not None
        assert diagnosis.mechanism.id == wanted
        assert diagnosis.mechanism.certainty in CONFIDENT or "?? <??>" in (directory / "qemu.log").read_text()


def test_a_gap_on_ram_is_not_blamed_on_mmio() -> None:
    """kvm_pvm emulates ring 0 as a whole: `flds` on RAM fails too, and nothing may call that RAM a hole."""
    (diagnosis,) = explain(FIXTURES / "long64-flds-ram" / "qemu.log")
    best = diagnosis.findings[0]
    assert best.cause.id == "emulator-no-handler"
    said = " ".join((best.answer, *best.for_))
    assert "not RAM" not in said
    assert "kvm_pvm emulates" in said


def test_the_page_beside_a_log_has_the_same_words() -> None:
    """The page read from QEMU's memory and the words QEMU printed are one record."""
    for page in sorted(FIXTURES.glob("**/kvm_run.page")):
        log = page.parent / "qemu.log"
        (of_page,) = read(page.read_bytes()).failures
        of_log = read(log.read_bytes()).failures
        if of_log and of_page.kind == "internal-error":
            assert (of_page.suberror, of_page.ndata, of_page.data) == (
                of_log[-1].suberror,
                of_log[-1].ndata,
                of_log[-1].data,
            )


def test_a_shutdown_is_not_the_stale_record_behind_it() -> None:
    """After a triple fault the union still holds an older failure: exit_reason decides, not the union."""
    for name in ("prot32-triple-fault", "long64-triple-fault"):
        (failure,) = read((FIXTURES / name / "kvm_run.page").read_bytes()).failures
        assert (failure.kind, failure.suberror, failure.data) == ("shutdown", None, ())
