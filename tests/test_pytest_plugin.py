"""`pytest -p kvmwhy.pytest`: what a failed test left behind is explained, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guests import boot
from guests.qemu import CPU, QEMU, unavailable
from needs import missing

LOG = Path(__file__).parent.parent / "examples" / "avx-move-on-mmio.log"
ANSWER = "KVM's emulator has no handler for `vmovdqu ymm0,[rbx]`"


def outcome(where: Path, test: str, *args: str, **environment: str) -> str:
    """What pytest prints of a file with this test in it."""
    (where / "test_it.py").write_text(f"LOG = {str(LOG)!r}\n{test}")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "kvmwhy.pytest", "-p", "no:cacheprovider", *args, "test_it.py"],
        cwd=where,
        capture_output=True,
        text=True,
        env={**os.environ, "GITHUB_ACTIONS": "", "COLUMNS": "120", **environment},
        check=False,
        timeout=120,
    )
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    return result.stdout


PRINTS = "def test_it():\n    print(open(LOG).read())\n    assert False\n"
TO_STDERR = """
import os
def test_it():
    os.system(f"cat {LOG} >&2")
    assert False
"""
RAISES = """
def test_it():
    raise RuntimeError("qemu died:\\n" + open(LOG).read())
"""
WRITES = """
import shutil
def test_it(tmp_path):
    shutil.copyfile(LOG, tmp_path / "vm.log")
    assert False
"""
IN_FIXTURE = """
import pytest
@pytest.fixture
def vm():
    print(open(LOG).read())
    raise OSError
def test_it(vm):
    pass
"""
STARTS = """
import subprocess
def test_it(tmp_path):
    with open(tmp_path / "qemu.log", "w") as log:
        vm = subprocess.Popen(COMMAND, stderr=log)
        try:
            vm.wait(timeout=3)
        except subprocess.TimeoutExpired:
            vm.kill()
            vm.wait()
    assert False, "the guest did not answer"
"""


@pytest.mark.parametrize("test", [PRINTS, TO_STDERR, RAISES, WRITES, IN_FIXTURE])
def test_a_failed_test_gets_the_answer(test: str, tmp_path: Path) -> None:
    """Wherever the VMM's log went: a section with the screen, and a line in the summary."""
    out = outcome(tmp_path, test)
    assert "kvmwhy: why KVM gave up on the guest" in out
    assert out.count(ANSWER) >= 2
    assert "KVM gave up on a guest" in out


def test_files_of_the_ini_option(tmp_path: Path) -> None:
    """Only those that were written while the test ran."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nkvmwhy_logs = logs/*.log\n")
    (tmp_path / "logs").mkdir()
    old = tmp_path / "logs" / "old.log"
    old.write_bytes(LOG.read_bytes())
    os.utime(old, (1e9, 1e9))
    assert ANSWER not in outcome(tmp_path, "def test_it():\n    assert False\n")
    writes = "import shutil\ndef test_it():\n    shutil.copyfile(LOG, 'logs/new.log')\n    assert False\n"
    assert ANSWER in outcome(tmp_path, writes)


def test_what_passes_or_fails_for_itself_is_left_alone(tmp_path: Path) -> None:
    """A passing test is not looked at, and a failure without a VM gets no section."""
    for test in ("def test_it():\n    print(open(LOG).read())\n", "def test_it():\n    assert 1 == 2\n"):
        assert "kvmwhy" not in outcome(tmp_path, test).partition("test session starts")[2].partition("\n\n")[2]


def test_on_github_there_is_an_annotation(tmp_path: Path) -> None:
    """One command line, whose text cannot end it."""
    out = outcome(tmp_path, PRINTS, "-n", "2", GITHUB_ACTIONS="true")
    (line,) = (line for line in out.splitlines() if line.startswith("::error "))
    assert ANSWER in line
    report = tmp_path / "junit.xml"
    outcome(tmp_path, PRINTS, f"--junitxml={report}")
    assert 'name="kvmwhy"' in report.read_text()


@pytest.mark.live
def test_a_real_vm(tmp_path: Path) -> None:
    """A test that starts QEMU on /dev/kvm, whose guest fails, and that says no more than that it did not answer."""
    if why := unavailable():
        missing("live", why)
    guest = boot.GUESTS["long64-flds"]
    (tmp_path / "image.bin").write_bytes(guest.image)
    command = [QEMU, "-accel", "kvm", "-cpu", CPU, "-m", guest.memory, "-nodefaults", "-display", "none"]
    command += ["-no-reboot", "-bios", str(tmp_path / "image.bin")]
    out = outcome(tmp_path, f"COMMAND = {command!r}\n{STARTS}", f"--basetemp={tmp_path / 'base'}")
    if "KVM internal error" not in (tmp_path / "base" / "test_it0" / "qemu.log").read_text():
        pytest.skip("this KVM lets the guest end otherwise")
    assert "kvmwhy: why KVM gave up on the guest" in out
    assert "emulator has no handler for `fld dword ptr [rbx]`" in " ".join(out.split())
