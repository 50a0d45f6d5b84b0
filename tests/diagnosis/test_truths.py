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
WARNINGS = 2  # with which QEMU may begin, about more vCPUs than the host has CPUs
MANY = 20
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


_FETCH = ({"fetch-not-ram"}, {"guest-code", "guest-firmware"})
_DELIVERY = ({"event-delivery"}, {"guest-code", "guest-firmware", "vmm"})
_SIMD = ({"emulation-no-handler"}, {"guest-code"})
_SHUTDOWN = ({"triple-fault"}, {"guest-code", "guest-firmware"})
_FIRST = ({"emulation-no-handler", "emulation-gives-up"}, {"guest-firmware"})  # ENDBR decodes since 5.8, and no more
# By the name of the guest of tests/guests/wild.py, or of what was done to the host: what that is.
_WILD: dict[str, tuple[set[str], set[str]]] = {
    **dict.fromkeys(("jump-beyond", "jump-vga", "off-the-end", "return-to-zeros"), _FETCH),
    **dict.fromkeys(("ap-astray", "ap-half-reset"), _FETCH),
    **dict.fromkeys(("slot-race-1", "slot-race-3"), ({"fetch-not-ram"}, {"vmm-race"})),
    **dict.fromkeys(("idt-beyond", "gdt-beyond", "stack-beyond", "tss-beyond"), _DELIVERY),
    **dict.fromkeys(("paddd-vga", "fld-vga"), _SIMD),
    # The handlers of both refuse what is no RAM (emulate.c: em_fxsave; em_cmpxchg8b has no 16-byte form).
    **dict.fromkeys(("fxsave-vga", "cmpxchg16b-vga"), ({"emulation-no-handler", "emulation-gives-up"}, {"guest-code"})),
    **dict.fromkeys(("endbr-first", "movd-first", "pxor-first"), _FIRST),
    **dict.fromkeys(("ram-truncated", "hugetlb-exhausted"), ({"run-errno"}, {"host-setup"})),
    "hugetlb-too-small": ({"setup-refused", "host-trouble"}, {"host-setup"}),
    "memory-limit": ({"host-trouble"}, {"host-setup"}),
    "cr3-beyond": ({"triple-fault", "event-delivery", "emulation-gives-up"}, {"guest-code", "guest-firmware"}),
    "smi-in-sti-shadow": ({"entry-refused-guest-state"}, {"host-kernel"}),
    **{
        f"triple-{kind}": _SHUTDOWN
        for kind in ("ud", "pf", "gp", "de", "int3", "cr3", "gate", "selector", "stack", "reserved")
    },
}


def _in_the_lab() -> list[Truth]:
    """lab/truths.py: QEMU in a kernel of the lab; each text by itself, the trace without QEMU's words too."""
    texts = sorted([*FIXTURES.glob("truths-lab/*/*/*.log"), *FIXTURES.glob("truths-lab/*/*/*.txt")])
    return [Truth(text, *map(frozenset, _WILD[text.parent.name])) for text in texts]


def _traces_here() -> list[Truth]:
    """The traces beside what was caused here."""
    of_logs = {truth.path.parent: truth for truth in _caused_here()}
    return [of_logs[path.parent]._replace(path=path) for path in sorted(FIXTURES.glob("truths/*/trace.txt"))]


TRUTHS = [*_caused_here(), *_traces_here(), *_guests(), *_in_the_lab()]


def _first(text: bytes) -> Diagnosis | None:
    failures = read(text).failures
    return diagnose(failures[0]) if failures else None


def _name(truth: Truth) -> str:
    return "-".join((*truth.path.parts[-3:-1], truth.path.stem))


@pytest.mark.parametrize("truth", TRUTHS, ids=_name)
def test_what_was_done_is_what_is_said(truth: Truth) -> None:
    """The mechanism is the one that was caused; whose doing it was is among the first three."""
    diagnosis = _first(truth.path.read_bytes())
    assert diagnosis is not None
    assert diagnosis.mechanism is not None
    assert diagnosis.mechanism.id in truth.mechanisms
    assert truth.origins & {origin.id for origin in diagnosis.origins[:3]}


@pytest.mark.parametrize("lines", CUTS)
@pytest.mark.parametrize("truth", TRUTHS, ids=_name)
def test_a_cut_text_says_less_and_nothing_else(truth: Truth, lines: int) -> None:
    """Of the first lines of a log, or the last of a trace: the same, or not shown; nothing else that is certain."""
    text = truth.path.read_bytes().splitlines(keepends=True)
    is_log = truth.path.suffix == ".log"
    diagnosis = _first(b"".join(text[:lines] if is_log else text[-lines:]))
    if diagnosis is None:
        announced = any(b"KVM" in line or b"vm run" in line for line in text[:lines])
        assert not (is_log and announced and lines > WARNINGS), "a failure is announced there"
        return
    assert diagnosis.mechanism is not None
    if diagnosis.mechanism.id not in truth.mechanisms | VAGUE:
        assert diagnosis.mechanism.certainty != "certain", diagnosis.mechanism


def test_a_log_and_its_trace_are_one_failure() -> None:
    """What QEMU printed and what the kernel traced of it say the same, and are told once."""
    logs = [path for path in FIXTURES.glob("truths-lab/*/*/vmm.log") if path.with_name("trace.txt").exists()]
    assert len(logs) > MANY
    for log in logs:
        alone, traced = _first(log.read_bytes()), _first(log.with_name("trace.txt").read_bytes())
        assert alone is not None, log
        assert traced is not None, log
        said = {diagnosis.mechanism.id for diagnosis in (alone, traced) if diagnosis.mechanism}
        assert said <= _WILD[log.parent.name][0], log


def test_there_are_enough_of_them() -> None:
    """A truth that vanishes with its fixture is missed."""
    assert len(TRUTHS) >= 150
    assert len({truth.path.parent.name for truth in TRUTHS}) >= 70
    assert len({origin for truth in TRUTHS for origin in truth.origins}) >= 7
