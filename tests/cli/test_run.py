"""`kvmwhy run` and `kvmwhy demo`: guests from the command line."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from guests.qemu import unavailable
from needs import missing


def needs_kvm() -> None:
    """Skip, with the reason named, unless this run promises that guests can be started."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        reason = unavailable() or "no /dev/kvm"
        missing("live", reason)


def kvmwhy(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvmwhy", *args], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """mov eax,[rbx]; flds [rbx]: an MMIO read that KVM can do, then one that it cannot."""
    path = tmp_path / "guest.bin"
    path.write_bytes(bytes.fromhex("8b03 d903"))
    return path


@pytest.mark.live
@pytest.mark.parametrize("mode", ["prot32", "long64"])
def test_a_failing_guest_is_shown_and_explained(image: Path, tmp_path: Path, mode: str) -> None:
    """The MMIO read, the failure, the explanation; and the page that is kept explains itself."""
    needs_kvm()
    page = tmp_path / "kvm_run.page"
    result = kvmwhy("run", str(image), "--mode", mode, "--reg", "rbx=0xd0000000", "--cap204", "--page", str(page))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"On this host's KVM (Linux {os.uname().release}).\nMMIO read of 4 at 0xd0000000")
    assert "no handler for `fld dword ptr" in result.stdout
    again = kvmwhy("explain", "--json", str(page))
    assert json.loads(again.stdout)["instruction"]["bytes"] == "d9 03"


@pytest.mark.live
def test_exits_as_json(image: Path) -> None:
    """One object per exit, and the explanation last."""
    needs_kvm()
    result = kvmwhy("run", str(image), "--reg", "rbx=0xd0000000", "--cap204", "--json")
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert [o.get("exit") for o in objects[:2]] == ["KVM_EXIT_MMIO", "KVM_EXIT_INTERNAL_ERROR"]
    assert objects[0]["phys_addr"] == "0xd0000000"
    assert (objects[0]["len"], objects[0]["is_write"]) == (4, False)  # u32 in linux/kvm.h: a number, as in records
    assert (objects[1]["suberror"], objects[1]["ndata"]) == (1, objects[-1]["ndata"])
    assert objects[1]["data"] == objects[-1]["data"]
    assert objects[0]["on"] == "kvm"
    assert objects[-1]["machine"]["kernel"] == os.uname().release
    assert objects[-1]["causes"][0]["family"] == "emulator-gap"


def test_a_model_is_never_taken_silently(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rights on /dev/kvm: that a model ran, which one and why, on stderr, in the text and in the JSON."""
    pytest.importorskip("unicorn", reason="the model needs Unicorn")
    from kvmwhy.cli import run, what_runs
    from kvmwhy.cli.main import kvmwhy as command
    from kvmwhy.machine import NotPermittedError

    class Refused:
        def __init__(self) -> None:
            raise NotPermittedError("open", errno.EACCES)

    monkeypatch.setattr(run, "KvmMachine", Refused)
    monkeypatch.setattr(what_runs, "KvmMachine", Refused)
    text = CliRunner().invoke(command, ["run", str(image), "--reg", "rbx=0xd0000000"])
    assert text.stdout.startswith("On a model of KVM (Linux ")
    assert "On a model of KVM (Linux " in text.stderr
    assert "Permission denied" in text.stderr
    as_json = CliRunner().invoke(command, ["run", str(image), "--reg", "rbx=0xd0000000", "--json"])
    objects = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert {o["on"] for o in objects[:-1]} == {"model"}
    assert objects[-1]["machine"]["on"] == "model"
    assert objects[-1]["machine"]["kernel"]
    assert "Permission denied" in objects[-1]["machine"]["why"]


@pytest.mark.live
def test_a_guest_that_ends_well(tmp_path: Path) -> None:
    """A port write and the end of the code are said; a guest that loops ends at its timeout."""
    needs_kvm()
    good = tmp_path / "good.bin"
    good.write_bytes(bytes.fromhex("b041e680"))
    result = kvmwhy("run", str(good), "--mode", "real16")
    assert "port 0x80 written: 41" in result.stdout
    assert "The guest ran to the end of its code." in result.stdout
    endless = tmp_path / "endless.bin"
    endless.write_bytes(bytes.fromhex("ebfe"))
    assert "did not exit within 0.2 s" in kvmwhy("run", str(endless), "--timeout", "0.2").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mem", "3K"], "not whole pages"),
        (["--mem", "lots"], "--mem takes a number"),
        (["--reg", "xyz=1"], "no register 'xyz'"),
        (["--reg", "rax"], "NAME=VALUE"),
        (["--mode", "prot32", "--reg", "rax=0x100000000"], "rax"),
        (["--mode", "real16", "--cpl", "3"], "real mode has no CPL 3"),
        (["--mmio", "0x1234"], "not made of whole pages"),
        (["--mem", "64K"], "give the guest more memory"),
        (["--on", "kvm", "--kernel", "5.10"], "--on model"),
    ],
)
def test_bad_wishes_end_before_the_guest_runs(image: Path, arguments: list[str], said: str) -> None:
    """One sentence that names what is wrong, status 2, no traceback."""
    result = kvmwhy("run", str(image), *arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_images_that_are_none(tmp_path: Path) -> None:
    """A missing file, a directory and an empty file each get their sentence."""
    empty = tmp_path / "empty.bin"
    empty.touch()
    for path, said in ((tmp_path / "nowhere", "no such file"), (tmp_path, "is a directory"), (empty, "is empty")):
        result = kvmwhy("run", str(path))
        assert result.returncode == 2
        assert said in result.stderr


def test_the_demo_tells_the_story_on_any_machine() -> None:
    """Guest, exits, page and meaning, with or without KVM and the model."""
    result = kvmwhy("demo")
    assert result.returncode == 0, result.stderr
    for part in ("1. The guest", "2. KVM returns", "3. What it left", "4. What that means", "fld dword ptr [rbx]"):
        assert part in result.stdout


def test_a_machine_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for by name, a missing machine ends with status 3 and what to do."""
    from kvmwhy.cli import demo, run
    from kvmwhy.machine import MachineError

    def absent(*_: object, **__: object) -> None:
        raise MachineError("the model needs Unicorn", "pip install it")

    monkeypatch.setattr(run, "open_machine", absent)
    assert demo.run("model") == 3
    assert capsys.readouterr().err == "kvmwhy: the model needs Unicorn: pip install it\n"
    assert demo.run("auto") == 0
    assert "on paper" in capsys.readouterr().out
