"""contrib/insights, sos and lnav: each is loaded and run by the tool that it is for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from needs import missing
from recipes.programs import ROOT, TOOLS
from schemas import keeps_to, validator

CONTRIB = ROOT / "contrib"
LOGS = sorted((ROOT / "examples").glob("*.log"))
ANSWER = "KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """PATH with `kvmwhy` of this checkout in front."""
    program = tmp_path / "bin" / "kvmwhy"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvmwhy "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


def test_the_rule_of_insights(tmp_path: Path) -> None:
    """insights-run on a report of sos: one result with each failure, its log and what to do."""
    if find_spec("insights") is None:
        missing("recipes", "insights-core is not installed")
    logs = tmp_path / "report" / "var" / "log" / "libvirt" / "qemu"
    logs.mkdir(parents=True)
    kernel = tmp_path / "report" / "sos_commands" / "kernel"
    kernel.mkdir(parents=True)
    (kernel / "dmesg").write_text("[    1.000000] kvm: hello\n")
    for log in LOGS:
        shutil.copy(log, logs)
    command = [sys.executable, "-m", "insights", "-p", "kvmwhy_rule", "-f", "_json", str(tmp_path / "report")]
    environment = {**os.environ, "PYTHONPATH": str(CONTRIB / "insights"), "HOME": str(tmp_path)}
    out = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=120).stdout
    (result,) = json.loads(out)["reports"]
    failures = result["details"]["failures"]
    assert result["key"] == "KVM_GAVE_UP_ON_A_GUEST"
    assert [failure["log"] for failure in failures] == [f"var/log/libvirt/qemu/{log.name}:1" for log in LOGS]
    assert failures[0]["answer"].startswith(ANSWER)
    assert failures[0]["advice"]


def test_the_plugin_of_sos(tmp_path: Path) -> None:
    """`sos report` of Debian's own package loads it and runs its set-up.

    Where kvmwhy is on the PATH that sos sets for itself, /usr/local/bin among others, the report has what it says.
    """
    package = TOOLS / "usr" / "lib" / "python3" / "dist-packages" / "sos"
    if not package.is_dir():
        missing("recipes", "no sos here; tests/recipes/get-tools gets it")
    if os.geteuid() != 0:
        pytest.skip("sos is for root")
    shutil.copytree(package, tmp_path / "lib" / "sos")
    shutil.copy(CONTRIB / "sos" / "kvmwhy.py", tmp_path / "lib" / "sos" / "report" / "plugins")
    code = "import sys; sys.argv[0] = 'sos'; from sos import SoS; SoS(sys.argv[1:]).execute()"
    options = ["report", "--batch", "--build", "-e", "kvmwhy", "-o", "kvmwhy", "--tmp-dir", str(tmp_path)]
    command = [sys.executable, "-W", "ignore", "-c", code, *options]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib"), "LC_ALL": "C.UTF-8"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=200)
    assert "Starting 1/1   kvmwhy" in result.stdout
    assert "exception" not in (result.stdout + result.stderr).lower()
    for doctor in tmp_path.glob("sosreport-*/sos_commands/kvmwhy/kvmwhy_doctor_--json"):
        assert keeps_to("doctor", doctor.read_text())


def test_the_format_of_lnav_has_members_that_records_have() -> None:
    """Its fields are of the schema, and its sample is one of ours but for what it leaves out."""
    (log,) = (
        value
        for value in json.loads((CONTRIB / "lnav" / "kvmwhy.json").read_text()).values()
        if isinstance(value, dict)
    )
    schema = validator("watch").schema

    def has(member: str) -> bool:
        part: Any = schema
        for name in member.split("/"):
            part = part["properties"][name]
            for choice in [part, *part.get("anyOf", ())]:
                if "$ref" in choice:
                    part = schema["$defs"][choice["$ref"].rpartition("/")[2]]
        return bool(part)

    assert all(has(member) for member in log["value"])
    assert has(log["timestamp-field"])
    assert json.loads(log["sample"][0]["line"])["answer"].startswith(ANSWER)


def test_lnav_reads_and_annotates(tmp_path: Path, path: str) -> None:
    """The installed lnav, from 0.12 on, finds nothing wrong with the format, and a log's line gets the answer."""
    lnav = shutil.which("lnav")
    version = (
        subprocess.run([lnav, "-V"], capture_output=True, text=True, check=True).stdout.split()[1] if lnav else "0"
    )
    if lnav is None or tuple(map(int, version.split(".")[:2])) < (0, 12):
        pytest.skip("no lnav 0.12 here; Debian has it from 13 on")
    settings = tmp_path / ".config" / "lnav"
    (settings / "formats" / "kvmwhy").mkdir(parents=True)
    (settings / "configs" / "kvmwhy").mkdir(parents=True)
    shutil.copy(CONTRIB / "lnav" / "kvmwhy.json", settings / "formats" / "kvmwhy")
    for name in ("kvmwhy-annotate.json", "kvmwhy-annotate.sh"):
        shutil.copy(CONTRIB / "lnav" / name, settings / "configs" / "kvmwhy")
    log = tmp_path / "syslog"
    lines = enumerate(LOGS[0].read_text().splitlines())
    log.write_text("".join(f"2026-11-30T12:00:00.{n:06d}+00:00 host qemu[77]: {line}\n" for n, line in lines))
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path, "TERM": "xterm"}
    environment.pop("XDG_CONFIG_HOME", None)
    assert subprocess.run([lnav, "-C"], env=environment, check=False).returncode == 0
    commands = (":goto 0", ":annotate", ";SELECT log_annotations FROM all_logs WHERE log_annotations IS NOT NULL")
    given = [part for command in (*commands, ":write-json-to -") for part in ("-c", command)]
    out = subprocess.run([lnav, "-n", *given, log], env=environment, capture_output=True, text=True, check=True).stdout
    assert "has no handler for" in out
