"""contrib/ci: a failing test is explained where its CI shows things, and its status is kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from guests import boot
from guests.qemu import CPU, QEMU, unavailable
from needs import missing

ROOT = Path(__file__).parent.parent
KIT = ROOT / "contrib" / "ci"
LOG = ROOT / "examples" / "avx-move-on-mmio.log"
ANSWER = "KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`"
pytestmark = pytest.mark.skipif(os.name != "posix", reason="shell scripts")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`kvmwhy` as a runner has it installed."""
    path = tmp_path / "runner temp" / "kvmwhy" / "bin" / "kvmwhy"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvmwhy "$@"\n')
    path.chmod(0o755)
    return path


def run(where: Path, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "GITLAB_", "CI"))}
    return subprocess.run(
        command, cwd=where, capture_output=True, text=True, env={**kept, **environment}, check=False, timeout=120
    )


def kit(where: Path, program: Path, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(where, [str(KIT / "kvmwhy-ci"), *args], KVMWHY=str(program), **environment)


def test_a_failing_command_is_explained_and_keeps_its_status(tmp_path: Path, program: Path) -> None:
    """The answer on the terminal; text, page, Markdown and JSON in the directory."""
    result = kit(tmp_path, program, "--", "sh", "-c", f"cat '{LOG}' >&2; exit 7")
    assert result.returncode == 7
    assert ANSWER in result.stdout
    made = {path.name for path in (tmp_path / "kvmwhy-ci").iterdir()}
    assert {"kvmwhy.txt", "kvmwhy.html", "kvmwhy.md", "kvmwhy.json", "output.log"} <= made
    assert json.loads((tmp_path / "kvmwhy-ci" / "kvmwhy.json").read_text())["suberror"] == 1


def test_a_passing_command_leaves_nothing(tmp_path: Path, program: Path) -> None:
    """Its output, status 0, and no directory."""
    result = kit(tmp_path, program, "--", "echo", "a b")
    assert (result.returncode, result.stdout) == (0, "a b\n")
    assert not (tmp_path / "kvmwhy-ci").exists()


def test_a_failure_without_a_vm_is_said_so(tmp_path: Path, program: Path) -> None:
    """The status stays the command's."""
    result = kit(tmp_path, program, "--", "false")
    assert result.returncode == 1
    assert "no failure of KVM" in result.stdout


def test_logs_that_were_written_meanwhile(tmp_path: Path, program: Path) -> None:
    """Patterns, with spaces in names; what is older is left out."""
    (tmp_path / "logs").mkdir()
    shutil.copyfile(ROOT / "examples" / "idt-not-in-ram.log", tmp_path / "logs" / "old.log")
    os.utime(tmp_path / "logs" / "old.log", (1e9, 1e9))
    command = ("sh", "-c", f"sleep 0.1; cat '{LOG}' >'logs/a b.log'; exit 1")
    result = kit(tmp_path, program, "--out", "o", "--logs", "logs/*.log", "--", *command)
    assert ANSWER in result.stdout
    assert "could not be delivered" not in result.stdout


def test_on_github(tmp_path: Path, program: Path) -> None:
    """The action's own step, as the runner calls it: a group, an annotation, a job summary."""
    action = yaml.safe_load((KIT / "action.yml").read_text())
    steps = {step["name"]: step for step in action["runs"]["steps"]}
    (tmp_path / "w").mkdir()
    values = {"run": f"echo first\ncat '{LOG}'\nfalse\necho never", "logs": "a/*.log\nb/*.log\n", "out": "out"}
    assert set(values) <= set(action["inputs"])
    result = run(
        tmp_path / "w",
        ["sh", "-e", "-c", steps["Run"]["run"]],
        **_step_environment(steps["Run"], values),
        RUNNER_TEMP=str(program.parents[2]),
        GITHUB_ACTION_PATH=str(KIT),
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"),
    )
    assert result.returncode == 1
    assert "never" not in result.stdout
    (annotation,) = (line for line in result.stdout.splitlines() if line.startswith("::error "))
    assert ANSWER in annotation
    assert "## Why KVM gave up on a guest" in (tmp_path / "summary.md").read_text()
    assert "vmovdqu" in (tmp_path / "summary.md").read_text()


def _step_environment(step: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
    def value(expression: str) -> str:
        return re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda found: values[found[1]], expression)

    return {name: value(text) for name, text in step["env"].items()}


def test_on_gitlab(tmp_path: Path, program: Path) -> None:
    """The template's last command, as a runner calls it: a section of the log that opens and closes."""
    job = yaml.safe_load((KIT / "gitlab.yml").read_text())[".kvmwhy"]
    variables = {**job["variables"], "KVMWHY_RUN": f"cat '{LOG}'; exit 3"}
    command = job["script"][-1].replace("/tmp/kvmwhy/contrib/ci", str(KIT))  # noqa: S108 -- the template's own path
    result = run(tmp_path, ["sh", "-ec", command], **variables, KVMWHY=str(program), GITLAB_CI="true")
    assert result.returncode == 3
    section = r"\x1b\[0Ksection_start:\d+:kvmwhy[\r\n]\x1b\[0K.*section_end:\d+:kvmwhy"
    assert re.search(section, result.stdout, re.DOTALL)
    assert ANSWER in result.stdout
    assert job["artifacts"]["paths"] == ["kvmwhy-ci/"]


@pytest.mark.live
def test_a_real_vm(tmp_path: Path, program: Path) -> None:
    """QEMU on /dev/kvm, whose guest fails, under a time-out: the status is the time-out's, the answer KVM's."""
    if why := unavailable():
        missing("live", why)
    guest = boot.GUESTS["long64-flds"]
    (tmp_path / "image.bin").write_bytes(guest.image)
    vm = [QEMU, "-accel", "kvm", "-cpu", CPU, "-m", guest.memory, "-nodefaults", "-display", "none"]
    result = kit(tmp_path, program, "--", "timeout", "3", *vm, "-bios", "image.bin")
    if "KVM internal error" not in result.stdout:
        pytest.skip("this KVM lets the guest end otherwise")
    assert result.returncode == 124
    assert "emulator has no handler for `fld dword ptr [rbx]`" in " ".join(result.stdout.split())
