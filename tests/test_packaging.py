"""What installers get: pages and completions that are current, and a source archive with all that its tests need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = PROJECT["tool"]["hatch"]["build"]["targets"]


def test_completions_are_current() -> None:
    """tools/make_completions.py would write contrib/completions as it is."""
    sys.path.insert(0, str(ROOT / "tools"))
    from make_completions import FOLDER, files

    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == files()


def test_the_wheel_puts_pages_and_completions_where_they_are_looked_for() -> None:
    """share/man/man1, and the directories that bash-completion, zsh and fish search."""
    shared = BUILD["wheel"]["shared-data"]
    assert all((ROOT / source).exists() for source in shared)
    assert shared["docs/man"] == "share/man/man1"
    assert shared["contrib/completions/kvmwhy.bash"] == "share/bash-completion/completions/kvmwhy"
    assert {path.suffix for path in (ROOT / "docs" / "man").iterdir()} == {".1"}


def test_bash_completes_with_the_installed_script(tmp_path: Path) -> None:
    """The file that is installed makes bash ask kvmwhy."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    program = tmp_path / "kvmwhy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kvmwhy "$@"\n')
    program.chmod(0o755)
    script = (
        f". '{ROOT / 'contrib' / 'completions' / 'kvmwhy.bash'}'\n"
        "COMP_WORDS=(kvmwhy expl); COMP_CWORD=1\n_kvmwhy_completion kvmwhy\necho ${COMPREPLY[@]}\n"
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    out = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}, check=True
    )
    assert out.stdout.split() == ["explain"]


def test_the_source_archive_has_what_the_checkout_has() -> None:
    """Every file that git knows is under one of the names that go into it, but for git's own."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no checkout of git")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = {name.strip("/") for name in BUILD["sdist"]["include"]}
    assert {name.split("/")[0] for name in tracked} - names <= {".gitignore", ".gitattributes"}


def test_the_debian_package_names_what_it_is_made_of() -> None:
    """Its control file has all fields that are filled in, and its service runs the program where the package has it."""
    text = (ROOT / "contrib" / "debian" / "control.in").read_text()
    build = (ROOT / "contrib" / "debian" / "build").read_text()
    assert all(f"@{name}@" in text for name in ("VERSION", "SIZE", "PYTHON", "NEXT"))
    assert "usr/bin/kvmwhy" in build
    assert "ExecStart=/usr/bin/kvmwhy watch" in (ROOT / "contrib" / "kvmwhy-watch.service").read_text()
