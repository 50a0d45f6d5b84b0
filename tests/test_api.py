"""kvmwhy as a library: the same answers as the command, a page that says what there is, and examples that run."""

from __future__ import annotations

import doctest
import errno
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import kvmwhy
from kvmwhy import api
from kvmwhy.cli.main import kvmwhy as command
from kvmwhy.testing import FAILURES

ROOT = Path(__file__).parent.parent
LOGS = sorted((ROOT / "examples").glob("*.log"))


def test_nothing_is_loaded_before_it_is_used() -> None:
    """`import kvmwhy` imports none of its own modules and none of its dependencies."""
    code = (
        "import sys; before = set(sys.modules); import kvmwhy; print(sorted(set(sys.modules) - before))\n"
        "assert set(kvmwhy.__all__) <= set(dir(kvmwhy)); kvmwhy.explain; print('kvmwhy.api' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "['kvmwhy']\nTrue\n"


def test_all_names_are_there_and_no_other() -> None:
    """``__all__`` is what api.py offers; a name that is none raises AttributeError."""
    assert set(kvmwhy.__all__) == {*api.__all__, "__version__"}
    for name in api.__all__:
        assert getattr(kvmwhy, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        getattr(kvmwhy, "explian")  # noqa: B009 -- a name that a type checker would refuse


@pytest.mark.parametrize("paths", [LOGS[:1], LOGS, [*LOGS, LOGS[0]]])
def test_the_answers_are_those_of_the_command(paths: list[Path]) -> None:
    """`kvmwhy explain --json` of the same files prints the same objects in the same order."""
    printed = CliRunner().invoke(command, ["explain", "--json", *map(str, paths)]).stdout_bytes
    assert printed.splitlines() == [kvmwhy.to_json(diagnosis) for diagnosis in kvmwhy.explain(*paths)]


def test_bytes_and_files_are_alike() -> None:
    """Content and path give the same failure, but for the file's name."""
    (of_path,) = kvmwhy.explain(str(LOGS[0]))
    (of_bytes,) = kvmwhy.explain(LOGS[0].read_bytes())
    assert of_path.answer == of_bytes.answer
    assert (of_path.failure.source.path, of_bytes.failure.source.path) == (str(LOGS[0]), None)
    text = kvmwhy.to_text(of_path, depth="screen")
    assert text == CliRunner().invoke(command, ["explain", str(LOGS[0])]).stdout
    assert len(kvmwhy.to_text(of_path)) > len(text) > len(kvmwhy.to_text(of_path, depth="brief"))


def test_what_cannot_be_opened_raises_and_what_is_broken_does_not(tmp_path: Path) -> None:
    """OSError for a file that is not there; remarks, never an exception, for what is in one."""
    with pytest.raises(FileNotFoundError):
        kvmwhy.explain(tmp_path / "none.log")
    dice = random.Random(7)  # noqa: S311 -- the same bytes each time
    for size in (0, 1, 4096, 100_000):
        assert kvmwhy.explain(dice.randbytes(size)) == []
    remarks: list[str] = []
    assert kvmwhy.explain(b"\x1f\x8b\x08\x00" + bytes(40), remark=remarks.append) == []
    assert remarks


@pytest.mark.parametrize("name", FAILURES)
def test_a_page_is_decoded_and_diagnosed(name: str) -> None:
    """Every kind of page gives a failure with its writer's name; with errno, the call that failed."""
    failure = kvmwhy.decode_page(FAILURES[name], vmm="my-vmm", vcpu=2)
    assert (failure.source.vmm, failure.source.vcpu) == ("my-vmm", 2)
    assert kvmwhy.diagnose(failure).answer
    failed = kvmwhy.decode_page(FAILURES[name], error=errno.EFAULT)
    assert (failed.kind, failed.errno) == ("run-error", "EFAULT")
    with pytest.raises(ValueError, match="needs at least"):
        kvmwhy.decode_page(FAILURES[name][:100])


def test_the_docstrings_examples_hold() -> None:
    """What the docs show is what happens."""
    assert doctest.testmod(api).failed == 0
    assert doctest.testmod(kvmwhy).failed == 0


def test_the_page_is_current() -> None:
    """tools/make_api.py would write docs/api.md as it is."""
    sys.path.insert(0, str(ROOT / "tools"))
    from make_api import PAGE, page

    assert PAGE.read_text() == page()


def test_the_examples_run() -> None:
    """The VMM's author gets an answer and a record that kvmwhy reads; the fleet's, a line for each kind of failure."""
    vmm = subprocess.run([sys.executable, ROOT / "examples" / "vmm_error_path.py"], capture_output=True, check=True)
    (again,) = kvmwhy.explain(vmm.stdout)
    assert again.failure.source.vmm == "my-vmm"
    assert again.mechanism is not None
    assert again.mechanism.id == "fetch-not-ram"
    fleet = subprocess.run(
        [sys.executable, ROOT / "examples" / "fleet_report.py", *LOGS, "none.log"], capture_output=True, check=True
    )
    assert len(fleet.stdout.splitlines()) == len(LOGS)
    assert b"none.log" in fleet.stderr
