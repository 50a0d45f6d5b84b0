"""kvmwhy probe: its journal, and the command on this host's KVM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvmwhy.cli.main import kvmwhy
from kvmwhy.cli.output import require_writable
from kvmwhy.cli.probe_journal import BLOCK, Journal, read_measured, write_measured
from kvmwhy.emulator.measured import Measured
from kvmwhy.machine import KvmMachine, MachineError
from kvmwhy.machine.access import host_arch
from needs import missing

WORKS = Measured("emulated", accesses="r4", compared="wrong", wrong=("rax", "flags"))


@pytest.mark.parametrize("one", [WORKS, Measured("fails", 1, 8, 15), Measured("no-exit"), None])
def test_a_line(one: Measured | None) -> None:
    """A verdict is read as it was written."""
    assert read_measured(write_measured(one)) == one


def test_whole(tmp_path: Path) -> None:
    """Everything is asked once, in blocks, and a finished journal has nothing left to ask."""
    path = str(tmp_path / "journal")
    journal = Journal(path, "head")
    asked = []
    for block in journal.blocks(150):
        assert len(block) <= BLOCK
        for number in block:
            asked.append(number)
            journal.answer(number, WORKS)
    journal.close()
    assert asked == list(range(150))
    again = Journal(path, "head")
    assert list(again.blocks(150)) == []
    assert again.answers == dict.fromkeys(range(150), WORKS)
    again.close()


def test_interrupted(tmp_path: Path) -> None:
    """What was left of an interrupted block is asked one at a time; what is lost alone is left out and named."""
    path = str(tmp_path / "journal")
    first = Journal(path, "head")
    block = next(first.blocks(100))
    for number in block[:5]:
        first.answer(number, None)
    first.close()  # and the host is gone
    second = Journal(path, "head")
    assert second.suspects == set(block[5:])
    alone = second.blocks(100)
    assert next(alone) == range(5, 6)
    second.close()  # 5 it was
    third = Journal(path, "head")
    assert third.killers == {5}
    left = list(third.blocks(100))
    assert left[0] == range(6, 7)
    assert all(len(one) == 1 for one in left if one[0] < BLOCK)
    assert [number for one in left for number in one] == list(range(6, 100))
    third.close()


def test_another_question(tmp_path: Path) -> None:
    """A journal of something else, or a damaged one, is no obstacle."""
    path = tmp_path / "journal"
    path.write_text("# other\n= 1 nonsense\n")
    journal = Journal(str(path), "head")
    assert not journal.answers
    journal.close()
    assert path.read_text().startswith("# head")
    path.write_bytes(b"# head\n? 0 x\n= 0 emulated 0\n= 1 -\n\xff\x00\n= 2 emulated 0 0 0 r4 same .\n")
    journal = Journal(str(path), "head")
    assert journal.answers == {1: None, 2: Measured("emulated", accesses="r4", compared="same")}
    journal.close()


def probe(*arguments: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["probe", *arguments])


@pytest.fixture
def kvm() -> None:
    try:
        KvmMachine().close()
    except MachineError as error:
        missing("live", f"no KVM to ask: {error}")


@pytest.mark.usefixtures("kvm")
def test_one(tmp_path: Path) -> None:
    """One encoding: its verdict, and a row of the table."""
    out = tmp_path / "table"
    result = probe("--bytes", "d9 03", "--json", "--out", str(out))
    assert result.exit_code == 0
    found = json.loads(result.output)
    assert (found["verdict"], found["code"], found["differs_from_atlas"]) == ("fails", 1, False)
    assert out.read_text().splitlines()[1].split("\t")[:4] == ["long64", "d903", "fld dword ptr [rbx]", "fails"]


@pytest.mark.usefixtures("kvm")
def test_by_text() -> None:
    """A form by its text, in words."""
    result = probe("--instruction", "add [rdi], eax")
    assert result.exit_code == 0
    assert "carried out: reads 4, writes 4 bytes" in result.output


@pytest.mark.parametrize("arguments", [["--bytes", "zz"], ["--bytes", "00" * 16], ["--instruction", "%eax"]])
def test_refusals(arguments: list[str]) -> None:
    """What is no instruction is exit status 2, and no guest is started."""
    assert probe(*arguments).exit_code == 2


@pytest.mark.skipif(host_arch() != "x86", reason="of a host that is x86; test_probe_access has it of the others")
def test_a_table_that_cannot_be_written_is_refused_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence and status 2; no machine is made."""
    monkeypatch.setattr("kvmwhy.cli.probe.Prober", lambda: pytest.fail("asked"))
    result = CliRunner().invoke(kvmwhy, ["probe", "--bytes", "8b 03", "--out", str(tmp_path / "none" / "probe.tsv")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_what_is_kept_there_stays_until_there_is_something_new(tmp_path: Path) -> None:
    """A table of an earlier run is as it was, and a new one does not appear, while nothing was measured."""
    old, new = tmp_path / "old.tsv", tmp_path / "new.tsv"
    old.write_text("mode")
    for path in (old, new):
        require_writable(str(path))
    assert (old.read_text(), new.exists()) == ("mode", False)
