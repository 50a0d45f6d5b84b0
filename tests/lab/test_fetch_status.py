"""What a mirror has not is told from what goes wrong here; CI passes over the first, and over nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import kernels

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")

# What apt 2.6 prints, and what it means.
SAID = {
    "E: Unable to locate package linux-source-6.12": kernels.MISSING,
    "E: Failed to fetch http://deb.debian.org/x.deb  404  Not Found": kernels.MISSING,
    "W: Failed to fetch http://deb.debian.org/x  Could not connect to 127.0.0.1:9": kernels.MISSING,
    "E: The repository 'http://deb.debian.org/debian x' is not signed.": kernels.FAILED,
    "E: Could not open lock file /var/lib/apt/lists/lock": kernels.FAILED,
}


@pytest.fixture
def apt(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """An environment whose apt-get fails with these words."""
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{request.param}\nEND\nexit 100\n")
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("apt", "status"), SAID.items(), indirect=["apt"])
def test_kernel_tree(apt: dict[str, str], status: int, tmp_path: Path) -> None:
    """tools/kernel_tree.sh ends with 4 for a mirror that has it not, else with 1, and shows what apt said."""
    command = ["sh", str(ROOT / "tools" / "kernel_tree.sh"), str(tmp_path / "tree")]
    ran = subprocess.run(command, env=apt, capture_output=True, text=True, check=False)
    assert ran.returncode == status
    assert ran.stderr


@pytest.mark.parametrize(("apt", "status"), SAID.items(), indirect=["apt"])
def test_kernels(apt: dict[str, str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the fetch of kernels."""
    monkeypatch.setenv("PATH", apt["PATH"])
    assert kernels.status_of(kernels.fetch(tmp_path, ["6.1"])) == status


@pytest.mark.parametrize(
    ("status", "ends", "words"), [(0, 0, "checked"), (4, 0, "NOT CHECKED: it"), (1, 1, "FAILED"), (3, 1, "FAILED")]
)
def test_what_ci_makes_of_it(status: int, ends: int, words: str) -> None:
    """Its function goes on after status 4, and says so; after any other it ends the run."""
    match = re.search(r"^fetch\(\) \{$.*?^\}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL)
    assert match
    script = f"set -eu\n{match[0]}\nif fetch it sh -c 'exit {status}'; then echo checked; fi"
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == ends
    assert words in ran.stdout + ran.stderr
