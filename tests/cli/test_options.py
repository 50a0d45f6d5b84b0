"""No option is silently ignored, and no status contradicts the table in --help."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kvmwhy.cli.main import kvmwhy
from kvmwhy.machine.access import BARE

ROOT = Path(__file__).parents[2]
GOOD = str(ROOT / "examples" / "idt-not-in-ram.log")


def run(*args: str) -> Result:
    return CliRunner().invoke(kvmwhy, list(args))


@pytest.mark.parametrize(
    "line",
    [
        "reproduce LOG --export c --json",
        "reproduce LOG --matrix model --on kvm",
        "atlas --diff 6.1 7.3 mov",
        "atlas --diff 6.1 7.3 --kernel 6.1",
        "atlas --since --diff 6.1 7.3",
        "atlas mov --since --json",
        "atlas --arch arm64 ldr --since",
        "atlas --arch riscv64 lw --mode prot32",
        "atlas --arch arm64 ldr --mode prot32",
        "probe --bytes 90 --instruction nop",
        "probe --all --bytes 90",
        "scan LOG --jobs 2",
        "scan LOG --fresh",
        "scan LOG --out x.jsonl --cluster tcp://x --jobs 2",
        "watch --keep 3",
        "watch --max-size 1M",
        "attach 1 --json --full",
        "cause --by origin smm",
    ],
)
def test_what_would_be_ignored_is_refused(line: str) -> None:
    """Options that exclude each other, or that mean nothing here, are a usage error that names them."""
    result = run(*line.replace("LOG", GOOD).split())
    assert (type(result.exception).__name__, result.exit_code) == ("SystemExit", 2)
    named = re.findall(r"--[a-z-]+", line)
    assert any(option in result.stderr for option in named), result.stderr


def test_no_option_takes_another_for_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--html --help` is a mistake in each command, and no file named --help comes of it."""
    monkeypatch.chdir(tmp_path)
    asked = 0
    for name, command in kvmwhy.commands.items():
        for option in command.params:
            takes_a_value = isinstance(option, click.Option) and not option.is_flag and not option.count
            if takes_a_value and not isinstance(getattr(option, "flag_value", None), str):  # it may stand alone
                ending = run(name, option.opts[0], "--help")
                assert ending.exit_code == 2, (name, option.opts, ending.output)
                asked += isinstance(option.type, click.types.StringParamType | click.Path)
    assert asked > 20
    assert list(tmp_path.iterdir()) == []


def test_devices_are_no_files() -> None:
    """explain and reproduce say the same of one, and read nothing of it."""
    for command in ("explain", "reproduce"):
        result = subprocess.run(
            [sys.executable, "-m", "kvmwhy", command, "/dev/zero"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 2
        assert "is a device, not a file" in result.stderr


def test_damage_that_changes_nothing_is_no_failure(tmp_path: Path) -> None:
    """Status 4 only where what was lost leaves the answer open."""
    text = Path(GOOD).read_text()
    cut = tmp_path / "cut.log"
    cut.write_text(text[: text.index("RIP=")])  # the words alone say what happened, not at which instruction
    torn = tmp_path / "torn.log"
    torn.write_text(text.replace("GS =0000", "GS =00~0"))
    short = tmp_path / "short.log.gz"
    short.write_bytes(gzip.compress(text.encode())[:-40])
    for command in ("explain", "redact"):
        for path in (cut, torn, short):
            result = run(command, "--json", str(path))
            is_open = '"certainty":"certain"' not in result.stdout
            damaged = '"torn":[]' not in result.stdout
            assert result.exit_code == (4 if (damaged and is_open) or path is short else 0), (command, path)


def test_an_inventory_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    """The sentence names the file, and not DuckDB's error."""
    pytest.importorskip("duckdb", reason="triage needs the extra `fleet`")
    rows = tmp_path / "rows.jsonl"
    assert run("scan", GOOD, "--out", str(rows)).exit_code == 0
    result = run("triage", str(rows), "--inventory", "none.csv")
    assert (result.exit_code, result.stderr) == (2, "kvmwhy: none.csv: there is no such file\n")


def test_help_of_other_architectures() -> None:
    """Where a guest's RAM is, and how an instruction is named there; a kernel can differ, and --diff shows it."""
    helped = {name: " ".join(run(name, "--help").output.split()) for name in ("run", "probe")}
    for arch, bare in BARE.items():
        assert f"{arch}: {bare.isa.ram:#x}" in helped["run"]
    assert "of arm64 and riscv64 in GNU as's" in helped["probe"]
    result = run("atlas", "--arch", "riscv64", "ld", "--since")
    assert result.exit_code == 2
    assert "--diff compares two" in result.output
