"""`kvmwhy reproduce` from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needs import missing

FIXTURES = Path(__file__).parents[1] / "fixtures"
FLDS = FIXTURES / "long64-flds" / "qemu.log"
AVX = FIXTURES / "long64-vmovdqu" / "qemu.log"

pytest.importorskip("unicorn", reason="the model needs the package unicorn")


def kvmwhy(*args: object, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "kvmwhy", "reproduce", *map(str, args)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=120,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_on_the_model() -> None:
    """The answer stands first; then the guest, the exits, what was compared, and what was assumed."""
    done = kvmwhy(FLDS, "--on", "model", "--kernel", "6.1", "--vendor", "svm")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Reproduced on the model of 6.1, svm: internal error, suberror 1.")
    assert "d9 03    fld dword ptr [rbx]" in done.stdout
    assert "no handler" in done.stdout


@pytest.mark.live
def test_on_this_host() -> None:
    """Without options it is /dev/kvm, if that can be used; the log was captured on such a host."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        missing("live", "no /dev/kvm")
    done = kvmwhy(FLDS, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = (json.loads(line) for line in done.stdout.splitlines())
    assert found["status"] == "reproduced"
    assert "/dev/kvm" in found["where"]["text"]


def test_json() -> None:
    """One object with verdict, evidence and the whole guest; numbers of 64 bits are 0x strings."""
    done = kvmwhy(FLDS, "--on", "model", "--json")
    found = json.loads(done.stdout)
    assert (found["schema"], found["status"]) == (1, "reproduced")
    assert found["guest"]["regs"]["rbx"] == "0xd0000000"
    assert found["guest"]["holes"][0]["what"] == "the operand"
    assert {row["what"] for row in found["rows"]} >= {"failure", "instruction bytes"}


def test_matrix() -> None:
    """One table over every modelled kernel, its answer first."""
    done = kvmwhy(AVX, "--matrix", "model", "--vendor", "vmx")
    assert done.returncode == 0, done.stderr
    assert "vmx: fails on 5.4–6.18, not on 6.19–7.3" in done.stdout


def test_minimise() -> None:
    """What the failure does not need is named."""
    done = kvmwhy(FLDS, "--on", "model", "--minimise")
    assert "things the failure does not need" in done.stdout
    assert done.stdout.startswith("Reproduced")


@pytest.mark.parametrize(
    ("form", "inside"),
    [
        ("c", "KVM_SET_SREGS"),
        ("selftest", "TEST_ASSERT"),
        ("kvm-unit-test", "report_summary"),
        ("report", "Subject:"),
    ],
)
def test_export(form: str, inside: str) -> None:
    """A whole file on standard output, and nothing beside it."""
    done = kvmwhy(FLDS, "--export", form, "--on", "model")
    assert done.returncode == 0, done.stderr
    assert inside in done.stdout
    assert not done.stderr


def test_exported_c_is_the_minimised_guest(tmp_path: Path) -> None:
    """--minimise and --export go together: the program is smaller, and compiles."""
    cc = shutil.which("gcc")
    if cc is None:
        missing("cc", "no C compiler")
    whole = kvmwhy(FLDS, "--export", "c").stdout
    small = kvmwhy(FLDS, "--export", "c", "--minimise", "--on", "model").stdout
    assert len(small) < len(whole)
    source = tmp_path / "small.c"
    source.write_text(small)
    flags = ("-Wall", "-Wextra", "-Werror", "-c", "-o", os.devnull)
    assert subprocess.run([cc, *flags, source], check=False).returncode == 0


def test_what_cannot_be_done_says_what_is_missing(tmp_path: Path) -> None:
    """A log without registers: one sentence, and exit status 1."""
    log = tmp_path / "short.log"
    log.write_text("KVM internal error. Suberror: 1\nemulation failure\n")
    done = kvmwhy(log, "--on", "model")
    assert done.returncode == 1
    assert done.stdout.startswith("Cannot be reproduced:")
    assert "missing from the report: the registers, the instruction bytes" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((os.devnull,), 2, "is a device, not a file"),
        (("/nonexistent/guest.log",), 2, "no such file"),
        (("/",), 2, "is a directory"),
        ((FLDS, "--number", "7"), 2, "1 distinct failures"),
        ((FLDS, "--on", "model", "--kernel", "3.2"), 2, "unknown kernel"),
    ],
)
def test_wrong_inputs(arguments: tuple[object, ...], status: int, said: str) -> None:
    """One sentence on standard error and the status of the table."""
    done = kvmwhy(*arguments)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_lab_without_kernels(tmp_path: Path) -> None:
    """Where the lab is not set up, that is said in a sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "kvmwhy", "reproduce", FLDS, "--lab"],
        env={**os.environ, "KVMWHY_LAB": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("kvmwhy: --lab ")
    assert done.stderr.count("\n") == 1


def test_a_hostile_log() -> None:
    """No byte of a log reaches the terminal unescaped."""
    log = FLDS.read_bytes().replace(b"KVM internal error", b"\x1b[31mhost kernel 6.1\x07\nKVM internal error")
    done = kvmwhy("-", "--on", "model", stdin=log)
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout
