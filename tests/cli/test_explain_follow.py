"""`kvmwhy explain -f`: each failure of a log once, as it is written, through rotation and truncation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmwhy.cli import explain_follow
from kvmwhy.cli.explain_follow import Followed, Tail
from kvmwhy.record import Failure

FIXTURES = Path(__file__).parent.parent / "fixtures"
LOG = (FIXTURES / "long64-flds" / "qemu.log").read_bytes()
OTHER = (FIXTURES / "real16-jump" / "qemu.log").read_bytes()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_follow, "_WRITTEN", 0.02)
    monkeypatch.setattr(explain_follow, "_OVER", 0.06)


def write(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


def told(log: Followed, seconds: float = 0.15) -> list[Failure]:
    """All that it tells within a while that is long enough."""
    out, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        out += log.failures()
        time.sleep(0.005)
    return out


def test_each_failure_once_with_its_line(tmp_path: Path) -> None:
    """What is there, what comes, and the same again; lines are those of the file."""
    path = tmp_path / "log"
    path.write_bytes(b"starting\n" * 7 + LOG)
    log = Followed(Tail(str(path)))
    (first,) = told(log)
    assert (first.suberror, first.source.line) == (1, 8)
    assert told(log) == []
    before = path.read_bytes().count(b"\n")
    write(path, b"another line\n" + LOG)
    (second,) = told(log)
    assert second.source.line == before + 2
    assert second.data == first.data


@pytest.mark.parametrize("size", [7, 60, 400])
def test_a_dump_that_comes_in_pieces_is_read_whole(tmp_path: Path, size: int) -> None:
    """Written a few bytes at a time, with pauses: one failure, and nothing of it is missing."""
    path = tmp_path / "log"
    path.touch()
    log = Followed(Tail(str(path)))
    out: list[Failure] = []
    for at in range(0, len(LOG), size):
        write(path, LOG[at : at + size])
        out += log.failures()
    out += told(log)
    (failure,) = out
    assert failure.damage == ()
    assert failure.cpu is not None
    assert failure.cpu.get("rip")


def test_rotated_and_cut_off(tmp_path: Path) -> None:
    """A file that is renamed away and made anew, and one that is emptied: nothing is missed, lines begin anew."""
    path = tmp_path / "log"
    path.write_bytes(LOG)
    log = Followed(Tail(str(path)))
    assert len(told(log)) == 1
    path.rename(tmp_path / "log.1")
    write(tmp_path / "log.1", OTHER)  # who writes has it open still
    path.write_bytes(b"\n\n" + LOG)
    out = told(log)
    assert [failure.source.line for failure in out][-1] == 3
    assert len(out) == 2
    path.write_bytes(b"\n" + OTHER)
    os.truncate(path, len(OTHER) + 1)
    (again,) = told(log)
    assert again.source.line == 2


def test_a_flood_is_read_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than is held at once, without a pause: every failure once, in order."""
    monkeypatch.setattr(explain_follow, "_MOST_HELD", 1 << 16)
    monkeypatch.setattr(explain_follow, "_CONTEXT", 1 << 12)
    monkeypatch.setattr(explain_follow, "_CHUNK", 1 << 14)
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"a line of noise\n" * 40 + LOG for _ in range(60)))
    log = Followed(Tail(str(path)))
    lines = [failure.source.line or 0 for failure in told(log, 2.0)]
    assert len(lines) == 60
    assert lines == sorted(set(lines))


def test_the_command_follows_a_pipe_to_its_end() -> None:
    """Like `journalctl -f | kvmwhy explain -f`: JSON as it comes; the end of the pipe is the end."""
    command = [sys.executable, "-m", "kvmwhy", "explain", "-f", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as following:
        assert following.stdin is not None
        assert following.stdout is not None
        following.stdin.write(LOG)
        following.stdin.flush()
        assert json.loads(following.stdout.readline())["suberror"] == 1
        following.stdin.write(OTHER)
        following.stdin.close()
        assert json.loads(following.stdout.readline())["suberror"] == 1
        assert following.wait(20) == 0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One sentence, status 2."""
    command = [sys.executable, "-m", "kvmwhy", "explain", "-f", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "no such file" in done.stderr) == (2, True)
