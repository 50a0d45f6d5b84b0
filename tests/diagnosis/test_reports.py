"""Public reports with labels, where they lie beside this checkout: no surer than their threads were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read

CORPUS = Path(__file__).parent.parent.parent.parent / "shared" / "corpus"
CASES = sorted(CORPUS.glob("*/case.json"))
VENDORS = {"intel": {"vmx", "tdx", None}, "amd": {"svm", None}, "unknown": {"vmx", "svm", "tdx", None}}
# Where thread and record differ: the record shows where the guest ended, the thread found out who sent it there.
ENDED_THERE = {
    "018-ubuntu-1404-amd-nested-zeros": "fetch-non-ram",
    "035-edk2-23-ap-zeros": "fetch-non-ram",
    "078-edk2-80-penryn-no-ept": "invalid-guest-state",
}

pytestmark = pytest.mark.skipif(not CASES, reason="no corpus of reports beside this checkout")


def load(path: Path) -> tuple[dict[str, Any], bytes]:
    return json.loads(path.read_text()), path.with_name("evidence.txt").read_bytes()


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.parent.name)
def test_the_numbers_are_read(path: Path) -> None:
    """Suberror, hardware error, errno's kind, RIP and vendor are the label's, in one of the failures found."""
    case, evidence = load(path)
    failures = read(evidence).failures
    if not failures:
        assert not any(mark in evidence for mark in (b"KVM internal error. S", b"KVM: entry failed"))
        return
    assert case["suberror"] in {f.suberror for f in failures}
    if case["hardware_error"]:
        assert int(case["hardware_error"], 16) in {f.hardware_error for f in failures}
    if case["rip"]:
        assert int(case["rip"], 16) in {f.cpu.get("rip") for f in failures if f.cpu}
    for failure in failures:
        assert diagnose(failure).facts.vendor.vendor in VENDORS[case["vendor"]]


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.parent.name)
def test_no_confident_wrong_answer(path: Path) -> None:
    """What is said to be certain or likely is what the thread established, or where the record itself ends."""
    case, evidence = load(path)
    allowed = {case["family"], ENDED_THERE.get(case["id"], case["family"])}
    if "multi-dump" in case["tags"] or "suberror3" in case["tags"]:
        allowed |= {"event-delivery"}
    for failure in read(evidence).failures:
        best = diagnose(failure).findings[0]
        if best.confidence in {"certain", "likely"}:
            assert best.cause.family in allowed, best.answer


def test_most_known_causes_are_found() -> None:
    """Of the reports that have a QEMU dump and a cause that the record can show, most get that family first."""
    found = wanted = 0
    for path in CASES:
        case, evidence = load(path)
        failures = read(evidence).failures
        if not failures or case["family"] in {"host-kernel-bug", "outer-hypervisor", "undecided"}:
            continue
        wanted += 1
        found += case["family"] in {diagnose(f).findings[0].cause.family for f in failures}
    assert found >= 0.8 * wanted, f"{found} of {wanted}"
