"""`kvmwhy watch` where it cannot work, or is used wrongly: one sentence and a status. tests/live has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvmwhy.cli.watch import _Session, address, size
from kvmwhy.live.jsonl_file import Records
from kvmwhy.live.metrics import Metrics
from kvmwhy.live.watch import Seen
from kvmwhy.record import Failure


def watch(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvmwhy", "watch", "--duration", "0.1", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_tracefs(tmp_path: Path) -> None:
    """How to mount it is said; of a directory that is not there, that it is not."""
    for where, answer in ((str(tmp_path), f"mount -t tracefs nodev {tmp_path}"), ("/nowhere", "no directory /nowhere")):
        result = watch("--tracefs", where)
        assert result.returncode == 2
        assert answer in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_nothing_is_left_where_it_cannot_work(tmp_path: Path) -> None:
    """A watch that never watched leaves no spool beside its records."""
    assert watch("--tracefs", "/nowhere", "--out", str(tmp_path / "out")).returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Told:
    """A watch that only notes what it is told."""

    def __init__(self) -> None:
        self.telling_: list[Seen] = []
        self.records = 0

    def telling(self, seen: Seen, _place: tuple[int, int]) -> None:
        self.telling_.append(seen)

    def told(self, records: int) -> None:
        self.records += records

    def settle(self) -> None:
        pass


def test_a_record_that_waits_for_room_is_not_marked_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk only the first has a mark, whose place shows that it is not there; none counts as written."""
    session = _Session.__new__(_Session)
    session._is_for_people = False
    session.out, session.metrics, session._unwritten = Records(str(tmp_path / "out")), Metrics(), 0
    session.watch = noted = Told()  # type: ignore[assignment]
    session.wish = type("Wish", (), {"quiet": True, "symbols": None})()
    seen = [Seen(Failure(kind="shutdown"), 0.0, ((1, float(n)),)) for n in range(3)]

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        session._tell(seen)
    assert (noted.telling_, noted.records) == (seen[:1], 0)
    session.out.flush()
    session._acknowledge()
    assert noted.records == 3


def test_a_directory_that_is_no_tracefs(tmp_path: Path) -> None:
    """Something that looks alike ends in a sentence, and nothing is left behind in it."""
    for name in ("instances", "events", "per_cpu"):
        (tmp_path / name).mkdir()
    result = watch("--tracefs", str(tmp_path))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert list((tmp_path / "instances").iterdir()) == []


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    """Before any tracing is set up."""
    result = watch("--out", str(tmp_path / "nowhere" / "out"))
    assert result.returncode == 2
    assert "no such file" in result.stderr


@pytest.mark.parametrize("arguments", [["--max-size", "lots"], ["--listen", "here"], ["--listen", "127.0.0.1:99999"]])
def test_wrong_usage(arguments: list[str]) -> None:
    """Named, with status 2."""
    result = watch(*arguments)
    assert result.returncode == 2
    assert arguments[0] in result.stderr


def test_sizes_and_addresses() -> None:
    """Without a host, nobody else's network is listened on."""
    assert (size("64M"), size("500"), size("0"), size("2G")) == (64 << 20, 500, None, 2 << 30)
    assert address("9748") == ("127.0.0.1", 9748)
    assert address("[::1]:80") == ("::1", 80)
    assert address(None) is None


def test_a_missing_right_is_named(tmp_path: Path) -> None:
    """Without root's rights: status 3, and one sentence with the file and the right."""
    if os.geteuid() == 0:
        pytest.skip("root has the rights")
    if not any(os.path.isdir(root) for root in ("/sys/kernel/tracing",)):
        pytest.skip("no /sys/kernel/tracing here")
    result = watch("--out", str(tmp_path / "out"))
    assert result.returncode in {2, 3}
    assert "takes" in result.stderr or "mount" in result.stderr
