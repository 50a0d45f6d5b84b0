"""What the lab's traces are known to hold: the guests of tools/capture_traces.py, which fail in one way each."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.pipeline import records

FIXTURES = Path(__file__).parent.parent / "fixtures"
TRACES = sorted(path for path in FIXTURES.glob("trace*/*/*.txt.gz") if path.name != "formats.txt.gz")


@pytest.mark.parametrize("path", TRACES, ids=lambda path: str(path.relative_to(FIXTURES)))
def test_a_trace_tells_what_the_guest_did(path: Path) -> None:
    """The CPU refused the one state that KVM_EXIT_FAIL_ENTRY tells of; and nobody changed memory while a guest ran."""
    text = gzip.decompress(path.read_bytes())
    diagnoses = [diagnose(record.failure) for record in records([text], path.name)]
    refused = [d for d in diagnoses if d.failure.kind == "entry-failure"]
    assert {d.mechanism.id for d in refused if d.mechanism} == ({"entry-refused-guest-state"} if refused else set())
    assert all(d.mechanism for d in refused)
    assert b"KVM_EXIT_FAIL_ENTRY" not in text or refused
    assert "vmm-race" not in {d.origins[0].id for d in diagnoses if d.origins}
