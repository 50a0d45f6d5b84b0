"""The command that scans: what it writes, what it says, how it ends."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleet.logs import BLOCK, NOISE
from kvmwhy.cli.main import kvmwhy
from kvmwhy.cli.scan import _Progress
from kvmwhy.fleet.checkpoint import Report
from kvmwhy.fleet.store import read_rows


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["scan", *arguments])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "guest.log"
    path.write_bytes(NOISE * 10 + BLOCK * 2)
    return path


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_it_writes_rows_and_says_how_many(tmp_path: Path, log: Path, name: str) -> None:
    """One row for two equal failures; the summary goes to stderr."""
    out = tmp_path / name
    result = run(str(log), "--out", str(out))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert f"2 failures in 1 row of {out}" in result.stderr
    assert [row.count for row in read_rows(str(out))] == [2]


def test_without_out_rows_go_to_stdout(log: Path) -> None:
    """As JSON lines."""
    result = run(str(log))
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["cause"] == "emulator-no-handler"


def test_exit_statuses(tmp_path: Path, log: Path) -> None:
    """Nothing found 1, nothing read 2, something of both 4."""
    empty = tmp_path / "empty.log"
    empty.write_bytes(NOISE)
    out = str(tmp_path / "o.jsonl")
    assert run(str(empty), "--out", out).exit_code == 1
    assert run(str(tmp_path / "missing"), "--out", out).exit_code == 2
    both = run(str(tmp_path / "missing"), str(log), "--out", out)
    assert both.exit_code == 4
    assert "missing: no such file or directory" in both.stderr
    assert run(str(log), "--out", str(tmp_path / "o.csv")).exit_code == 2
    assert run(str(log), "--out", str(tmp_path / "no" / "o.jsonl")).exit_code == 2


def test_many_that_cannot_be_read_are_listed_in_a_file(tmp_path: Path) -> None:
    """Twenty on stderr, all in a file beside the rows."""
    (tmp_path / "lake").mkdir()
    for n in range(30):
        (tmp_path / "lake" / f"{n}.log").symlink_to("nowhere")
    out = tmp_path / "o.jsonl"
    result = run(str(tmp_path / "lake"), "--out", str(out))
    assert result.exit_code == 2
    assert "10 more could not be read" in result.stderr
    assert len((tmp_path / "o.jsonl.unread").read_text().splitlines()) == 30


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet without pyarrow, a cluster without Dask, triage without DuckDB: one sentence each."""
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in {"pyarrow", "duckdb", "distributed"}:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in ("pyarrow", "duckdb", "distributed"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("kvmwhy.fleet.store.find_spec", lambda _: None)
    result = run(str(log), "--out", str(tmp_path / "o.parquet"))
    assert (result.exit_code, "install kvmwhy[fleet]" in result.stderr) == (2, True)
    result = run(str(log), "--out", str(tmp_path / "o.jsonl"), "--cluster", "tcp://127.0.0.1:9")
    assert (result.exit_code, "install kvmwhy[cluster]" in result.stderr) == (2, True)
    assert run(str(log), "--out", str(tmp_path / "o.jsonl")).exit_code == 0
    result = CliRunner().invoke(kvmwhy, ["triage", str(tmp_path / "o.jsonl")])
    assert (result.exit_code, "install kvmwhy[fleet]" in result.stderr) == (2, True)


def test_progress_says_rate_and_time_left() -> None:
    """A quarter in ten seconds: thirty more; what an earlier run did is no rate."""
    now = [0.0]
    progress = _Progress(total=8 << 30, before=4 << 30, clock=lambda: now[0])
    now[0] = 10.0
    progress.add(Report(0, 3, 1234, 1 << 30, ""))
    assert progress.line() == "5.0 GiB of 8.0 GiB, 102.4 MiB/s, 30 s left; 1,234 failures"
    progress.tick(2 << 30)
    assert progress.line() == "6.0 GiB of 8.0 GiB, 204.8 MiB/s, 10 s left; 1,234 failures"
    progress.add(Report(1, 0, 0, 1 << 29, ""))
    assert progress.line().startswith("6.0 GiB")
