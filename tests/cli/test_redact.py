"""The command that redacts: a report to post, that kvmwhy reads back."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from fleet.logs import BLOCK
from kvmwhy.cli.main import kvmwhy


def test_a_report_says_what_was_removed_and_reads_back(tmp_path: Path) -> None:
    """Host, path and registers are gone; `kvmwhy explain` of the report gives the answer of the log."""
    log = tmp_path / "secret-guest.log"
    prefix = b"Nov 22 10:11:12 secret-host QEMU[2043]: "
    log.write_bytes(b"".join(prefix + line for line in BLOCK.splitlines(keepends=True)))
    made = CliRunner().invoke(kvmwhy, ["redact", str(log)])
    assert made.exit_code == 0
    assert "secret" not in made.stdout
    assert "2043" not in made.stdout
    for gone in ("host and process names", "file names", "code before and behind the failing instruction"):
        assert f"- {gone}" in made.stdout
    (tmp_path / "report.txt").write_text(made.stdout)
    again = CliRunner().invoke(kvmwhy, ["explain", str(tmp_path / "report.txt")])
    assert again.stdout.splitlines()[0] == made.stdout.splitlines()[0]


def test_json_is_what_explain_reads(tmp_path: Path) -> None:
    """One object for each distinct failure, what was removed on stderr."""
    made = CliRunner().invoke(kvmwhy, ["redact", "--json", "-"], input=BLOCK * 3)
    assert made.exit_code == 0
    assert len(made.stdout.splitlines()) == 1
    assert "removed: bytes behind the failing instruction" in made.stderr
    (tmp_path / "r.jsonl").write_text(made.stdout)
    assert CliRunner().invoke(kvmwhy, ["explain", str(tmp_path / "r.jsonl")]).exit_code == 0


def test_nothing_and_nowhere(tmp_path: Path) -> None:
    """A log without failures 1, no log 2."""
    (tmp_path / "a.log").write_text("all is well\n")
    assert CliRunner().invoke(kvmwhy, ["redact", str(tmp_path / "a.log")]).exit_code == 1
    assert CliRunner().invoke(kvmwhy, ["redact", str(tmp_path / "b.log")]).exit_code == 2
