"""`kvmwhy doctor` from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from kvmwhy.cli.doctor import brief
from kvmwhy.live.doctor import Checkup, Device, Finding
from kvmwhy.live.host import CpuInfo
from kvmwhy.render.page import to_plain
from needs import missing


def doctor(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvmwhy", "doctor", *args], capture_output=True, text=True, check=False, timeout=60
    )


def test_text_and_json_agree() -> None:
    """With -v, the same findings in both; the answer comes first and counts what is bad."""
    text, as_json = doctor("-v"), json.loads(doctor("--json").stdout)
    assert as_json["schema"] == 1
    assert f"Linux {os.uname().release}" in text.stdout
    flat = " ".join(text.stdout.split())
    for finding in as_json["findings"]:
        assert finding["grade"] in {"good", "note", "bad"}
        assert " ".join(finding["text"].split())[:60] in flat
    bad = [f for f in as_json["findings"] if f["grade"] == "bad"]
    first = text.stdout.splitlines()[0]
    assert first.startswith("Nothing stands in the way" if not bad else f"{len(bad)} things" if len(bad) > 1 else "One")


def test_it_is_brief() -> None:
    """Fifteen lines at most, in a pipe: what is bad with its fix, then what is worth knowing; the rest is counted."""
    for arguments in ((), ("--tracefs", "/nowhere")):
        assert len(doctor(*arguments).stdout.splitlines()) <= 15
    said = doctor("--tracefs", "/nowhere").stdout.splitlines()
    assert "in the way here" in said[0]
    assert any(line.startswith("  ! ") for line in said)


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("bad", [0, 1, 5, 40])
def test_however_much_is_wrong_it_stays_brief(columns: int, bad: int) -> None:
    """The worst are shown, the others counted, whatever the width."""
    findings = [Finding("a", "good", "fine"), Finding("b", "note", "worth knowing " * 12, "do this " * 9)]
    findings += [Finding("c", "bad", f"number {n} is bad " * 5, "and its remedy " * 8) for n in range(bad)]
    checkup = Checkup("6.18", CpuInfo(), None, (), Device(), tuple(findings))
    rows = to_plain(brief(checkup, columns), columns).splitlines()
    assert len(rows) <= 15
    text = " ".join(" ".join(rows).split())
    assert (f"and {bad + 1 - text.count('! ')} more" in text) or text.count("! ") == bad
    if bad:
        assert text.index("number 0 is bad") < text.index("kvmwhy doctor -v")


def test_the_status_says_whether_there_is_kvm() -> None:
    """0 where /dev/kvm can be asked, 3 where not."""
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    assert doctor().returncode == (0 if usable else 3)


@pytest.mark.live
def test_capabilities_are_those_of_this_kernel() -> None:
    """What it says of capability 204 is what the kernel says to anyone who asks."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        missing("live", "no /dev/kvm that may be used")
    from kvmwhy.machine import KvmMachine

    with KvmMachine() as machine:
        answer = machine.capability("KVM_CAP_EXIT_ON_EMULATION_FAILURE")
    found = json.loads(doctor("--json").stdout)
    assert found["kvm"]["capabilities"]["KVM_CAP_EXIT_ON_EMULATION_FAILURE"] == answer
    assert found["kvm"]["api_version"] == 12
