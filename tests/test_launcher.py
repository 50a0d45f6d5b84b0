"""`./kvmwhy` of a checkout: through links, and only once set up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is a shell script")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One that is set up, whose kvmwhy says which environment it is of, and with what it was called."""
    root = tmp_path / "a checkout"
    (root / "tools").mkdir(parents=True)
    for name in ("kvmwhy", "tools/env.sh", "uv.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    program = root / ".venv" / "bin" / "kvmwhy"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    (program.parent / "python").symlink_to(sys.executable)
    for stamp in (".ready", ".ready-model", ".ready-fleet", ".ready-cluster"):
        (root / ".venv" / stamp).touch()
        os.utime(root / ".venv" / stamp, (2e9, 2e9))
    return root


def test_through_links(checkout: Path, tmp_path: Path) -> None:
    """A link, relative or not, and a link to a link, run the checkout that they lead to."""
    (tmp_path / "absolute").symlink_to(checkout / "kvmwhy")
    (tmp_path / "relative").symlink_to(Path("a checkout") / "kvmwhy")
    (tmp_path / "twice").symlink_to("relative")
    for name in ("absolute", "relative", "twice"):
        result = subprocess.run([tmp_path / name, "explain", "a b"], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout, result.stderr) == (0, "explain|a b|", "")


@pytest.mark.parametrize(
    ("arguments", "stamp"),
    [
        (("explain", "x"), ".ready"),
        (("run", "x"), ".ready-model"),
        (("scan", "x"), ".ready-fleet"),
        (("scan", "x", "--cluster", "tcp://y"), ".ready-cluster"),
    ],
)
def test_what_a_command_needs_is_what_is_fetched(checkout: Path, arguments: tuple[str, ...], stamp: str) -> None:
    """Without the command's own stamp, uv would be asked; with it alone, nothing is."""
    for other in (checkout / ".venv").glob(".ready*"):
        if other.name != stamp:
            other.unlink()
    result = subprocess.run([checkout / "kvmwhy", *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(("host", "is_musl"), [("x86_64-pc-linux-gnu", False), ("x86_64-alpine-linux-musl", True)])
@pytest.mark.parametrize("command", ["explain", "scan"])
def test_nothing_is_compiled_for_musl(checkout: Path, tmp_path: Path, command: str, host: str, is_musl: bool) -> None:
    """What has no wheel for the C library of the Python that is used is left out; nothing else is."""
    programs = tmp_path / "programs"
    programs.mkdir()
    asked = tmp_path / "asked"
    uv = f"""#!/bin/sh\necho "$@" >{asked}\n"""
    # Asked for itself, for uv, and for the system that it was built for.
    python = f"""#!/bin/sh
case "$*" in
    *sys.executable*) echo "$0" ;;
    *get_uv.py) echo {programs}/uv ;;
    *HOST_GNU_TYPE*) echo {host} ;;
esac
"""
    for name, script in (("uv", uv), ("python3", python)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    for stamp in (checkout / ".venv").glob(".ready*"):
        stamp.unlink()
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([checkout / "kvmwhy", command, "x"], env=environment, capture_output=True, check=True)
    arguments = asked.read_text()
    # Which have none: the lists of files that the index has for ahocorasick-rs 1.0.3 and duckdb 2.0.0.
    for package in ("ahocorasick-rs", "duckdb"):
        assert (f"--no-install-package {package}" in arguments) == is_musl
    assert "--extra fast" in arguments
    assert ("--extra fleet" in arguments) == (command == "scan")
