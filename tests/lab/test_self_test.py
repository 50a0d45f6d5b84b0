"""lab.self_test: kvmwhy's own tests on an emulated host of another architecture, and what is taken there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import benches, kernels, self_test, userland
from lab.architectures import ARCHITECTURES
from lab.ready import work_directory
from needs import missing

# A machine, an access of each kind, a VMM that is watched: half a minute with the boot.
SAMPLE = ("machine/test_bare_guest.py", "live/test_other_hosts.py::test_watch_sees_where_the_access_was")


def test_what_is_taken_is_the_sources_and_the_tests() -> None:
    """No bytecode, no fixture of another test, and what tests share."""
    names = {name for name, _ in self_test.checkout(("arch/arm64", "live/test_other_hosts.py::test_x"))}
    assert {"kvmwhy/src/kvmwhy/machine/arm64.py", "kvmwhy/tests/live/test_other_hosts.py", "kvmwhy/pytest.ini"} <= names
    assert any(name.startswith("kvmwhy/tests/arch/arm64/") for name in names)
    assert not any("__pycache__" in name or name.startswith("kvmwhy/tests/fleet") for name in names)


@pytest.mark.parametrize("architecture", sorted(self_test.TESTS))
def test_every_test_that_is_run_there_exists(architecture: str) -> None:
    """A test that moves takes its name along."""
    for name in self_test.TESTS[architecture]:
        assert (self_test.ROOT / "tests" / name).exists(), name


def test_without_anything_fetched_it_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 3, and the command that fetches; or what to install, where the emulator is missing."""
    assert self_test.main(["arm64", "--work", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert "python -m lab.self_test arm64 --fetch" in said or "apt-get install" in said


@pytest.mark.lab
@pytest.mark.parametrize("architecture", sorted(self_test.TESTS))
def test_kvmwhy_does_there_what_its_tests_say(architecture: str, capfd: pytest.CaptureFixture[str]) -> None:
    """On arm64 a sample; all of it, and riscv64, with KVMWHY_EVERY_SELF_TEST set."""
    every = "KVMWHY_EVERY_SELF_TEST" in os.environ
    if "KVMWHY_LAB" not in os.environ:
        pytest.skip("KVMWHY_LAB names no directory with fetched kernels")
    if architecture != "arm64" and not every:
        pytest.skip("without KVMWHY_EVERY_SELF_TEST, arm64 stands for both")
    if lacks := benches.missing(architecture):
        missing("lab", f"no {', '.join(lacks)}")
    work, known = work_directory(), ARCHITECTURES[architecture]
    if not kernels.fetched(work, known) or not userland.is_fetched(work, known):
        pytest.skip(f"nothing fetched: python -m lab.self_test {architecture} --fetch")
    status = self_test.main([architecture, *(() if every else SAMPLE)])
    output = capfd.readouterr().out
    assert status == 0, output
    assert " passed" in output
