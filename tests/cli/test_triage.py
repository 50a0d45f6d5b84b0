"""The command that triages: text, JSON, and a page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet.logs import BLOCK
from kvmwhy.cli.main import kvmwhy
from kvmwhy.cli.triage import since_when


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kvmwhy, list(arguments))


@pytest.fixture
def records(tmp_path: Path) -> str:
    for host in ("a1", "b2"):
        prefix = f"2026-02-03T04:05:06Z {host} QEMU[1]: ".encode()
        (tmp_path / f"{host}.log").write_bytes(b"".join(prefix + line for line in BLOCK.splitlines(keepends=True)))
    out = tmp_path / "rows.parquet"
    assert run("scan", str(tmp_path / "*.log"), "--out", str(out)).exit_code == 0
    return str(out)


def test_text_says_how_many_where_when_and_why(records: str) -> None:
    """First the answer, then the evidence."""
    result = run("triage", records, "--by", "host")
    assert result.exit_code == 0
    first = result.stdout.splitlines()[0]
    assert first.startswith("2 failures in 1 group, on 2 hosts, from 2026-02-03 04:05 UTC")
    said = " ".join(result.stdout.split())
    for part in (
        "1. KVM's emulator has no handler for this instruction: vmovdqu ymm,m256",
        "Seen 2 times, on 2 hosts",
        "What to do host's operator: Update the host's kernel to 6.19 or newer",
        "emulator-no-handler (likely)",
        "host a1: 1; b2: 1",
        "Same in",
        f"kvmwhy explain {Path(records).parent}/a1.log",
    ):
        assert part in said


def test_it_ends_without_a_word_of_others(records: str) -> None:
    """DuckDB's binding counts what is left at the end of a process, and complains if nothing is freed."""
    triage = [sys.executable, "-m", "kvmwhy", "triage", records]
    result = subprocess.run(triage, capture_output=True, check=False, timeout=120)
    assert result.returncode == 0
    assert b"nanobind" not in result.stderr


def test_json_is_one_object(records: str) -> None:
    """For programs."""
    told = json.loads(run("triage", records, "--json").stdout)
    assert (told["schema"], told["count"], told["hosts"]) == (1, 2, 2)


def test_html_is_one_file_with_a_plot(records: str, tmp_path: Path) -> None:
    """Written where it is asked for, and nothing to stdout."""
    result = run("triage", records, "--html", str(tmp_path / "t.html"))
    assert (result.exit_code, result.stdout) == (0, "")
    page = (tmp_path / "t.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") >= 2
    assert "guest&#x27;s author</dt><dd>Access device memory" in page
    assert page.index("Start here") < page.index("Update the host&#x27;s kernel to 6.19") < page.index("<svg")


def test_ends(records: str, tmp_path: Path) -> None:
    """Nothing since then 1; a wrong column, no file, a wrong time 2."""
    assert run("triage", records, "--since", "2026-03-01").exit_code == 1
    for arguments in (("--by", "colour"), ("--since", "soon")):
        assert run("triage", records, *arguments).exit_code == 2
    missing = run("triage", str(tmp_path / "none.parquet"))
    assert missing.exit_code == 2
    assert "there is no such file" in missing.stderr
    (tmp_path / "foreign.parquet").write_bytes(b"PAR1 not")
    foreign = run("triage", str(tmp_path / "foreign.parquet"))
    assert (foreign.exit_code, foreign.stderr.count("\n")) == (2, 1)


def test_since_is_a_date_or_a_time_ago() -> None:
    """Both are moments in UTC."""
    week, day = since_when("7d"), since_when("1d")
    assert week is not None
    assert day is not None
    assert 5.9 < (day - week).total_seconds() / 86400 < 6.1
    date = since_when("2026-01-31T10:00+02:00")
    assert date is not None
    assert date.timestamp() == 1769846400
    assert since_when(None) is None


def test_a_group_leads_to_the_page_of_one_of_its_failures(records: str, tmp_path: Path) -> None:
    """--pages: beside the page, as explain --html makes it; a log that is gone is said, and has no link."""
    target = tmp_path / "triage.html"
    made = run("triage", records, "--html", str(target), "--pages")
    assert made.exit_code == 0, made.stderr
    assert 'href="triage-1.html"' in target.read_text()
    assert "vmovdqu" in (tmp_path / "triage-1.html").read_text()
    for log in tmp_path.glob("*.log"):
        log.unlink()
    again = run("triage", records, "--html", str(target), "--pages")
    assert again.exit_code == 0
    assert "no such file" in again.stderr
    assert "triage-1.html" not in target.read_text()
    assert run("triage", records, "--pages").exit_code == 2
