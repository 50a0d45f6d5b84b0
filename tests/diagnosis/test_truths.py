"""Failures whose cause is known, since they were caused on purpose here or in a lab: none comes from public text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.readers import read

FIXTURES = Path(__file__).parent.parent / "fixtures"
CUTS = (1, 3, 6)  # lines that are left of the text
VAGUE = {"emulation-failed", "not-shown"}


class Truth(NamedTuple):
    """What was done, by what is in the guest or the VMM: see the provenance beside each log."""

    path: Path
    mechanisms: frozenset[str]
    origins: frozenset[str]


def _caused_here() -> list[Truth]:
    """tools/capture_truths.py: refused set-ups, and guests with less RAM than they take for granted."""
    truths = []
    for path in sorted(FIXTURES.glob("truths/*/provenance.json")):
        provenance = json.loads(path.read_text())
        origins = frozenset(provenance["origins"])
        truths.append(Truth(path.with_name("vmm.log"), frozenset({provenance["mechanism"]}), origins))
    return truths


def _guests() -> list[Truth]:
    """tests/guests: what each guest does is in its name. It runs as firmware, with its own code and no other."""
    done = {
        "jump": {"fetch-not-ram"},
        "idt": {
            "event-delivery",
            "simultaneous-events",
            "triple-fault",
            "emulation-gives-up",
        },  # INT3 itself, by kvm_pvm
        "triple": {"triple-fault"},
        "flds": {"emulation-no-handler"},
        "fsts": {"emulation-no-handler"},
        "xsave": {"emulation-no-handler"},
        "xsave64": {"emulation-no-handler"},
        "vmovdqu": {"emulation-no-handler", "emulation-gives-up"},
    }
    truths = []
    for log in sorted([*FIXTURES.glob("*/qemu.log"), *FIXTURES.glob("lab-svm/qemu-*/*/qemu.log")]):
        words = log.parent.name.split("-")
        name = next((word for word in words if word in done), None)
        if name and "KVM internal error" in log.read_text(errors="replace") and "ram" not in words:
            mechanisms = frozenset(done[name])
            truths.append(Truth(log, mechanisms, frozenset({"guest-code", "guest-firmware", "host-kernel"})))
    return truths


TRUTHS = [*_caused_here(), *_guests()]


def _first(text: bytes) -> Diagnosis | None:
    failures = read(text).failures
    return diagnose(failures[0]) if failures else None


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: "-".join(truth.path.parts[-3:-1]))
def test_what_was_done_is_what_is_said(truth: Truth) -> None:
    """The mechanism is the one that was caused; whose doing it was is among the first three."""
    diagnosis = _first(truth.path.read_bytes())
    assert diagnosis is not None
    assert diagnosis.mechanism is not None
    assert diagnosis.mechanism.id in truth.mechanisms
    assert truth.origins & {origin.id for origin in diagnosis.origins[:3]}


@pytest.mark.parametrize("lines", CUTS)
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: "-".join(truth.path.parts[-3:-1]))
def test_a_cut_text_says_less_and_nothing_else(truth: Truth, lines: int) -> None:
    """Of the first lines alone: the same, or that it is not shown; never another mechanism that is certain."""
    diagnosis = _first(b"".join(truth.path.read_bytes().splitlines(keepends=True)[:lines]))
    assert diagnosis is not None, "a failure is announced in the first line of each"
    assert diagnosis.mechanism is not None
    if diagnosis.mechanism.id not in truth.mechanisms | VAGUE:
        assert diagnosis.mechanism.certainty != "certain", diagnosis.mechanism


def test_there_are_enough_of_them() -> None:
    """A truth that vanishes with its fixture is missed."""
    assert len(TRUTHS) >= 40
    assert len({origin for truth in TRUTHS for origin in truth.origins}) >= 5
