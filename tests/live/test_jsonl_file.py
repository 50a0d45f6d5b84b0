"""A file of records survives whoever writes it."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvmwhy.live import jsonl_file
from kvmwhy.live.errors import BusyError, NotPermittedError
from kvmwhy.live.jsonl_file import Records

WRITER = """
import json, sys
from kvmwhy.live.jsonl_file import Records
with Records(sys.argv[1], max_size=20_000, keep=10_000) as out:
    for number in range(int(sys.argv[2]), 1 << 30):
        out.write(json.dumps({"number": number, "filler": "x" * (number % 6000)}).encode())
        print(number, flush=True)
"""


def everything(path: Path) -> list[dict[str, int]]:
    """All records, the oldest first; every line must be whole."""
    rotated = sorted(path.parent.glob(f"{path.name}.*"), key=lambda p: -int(p.suffix[1:]))
    return [json.loads(line) for part in (*rotated, path) for line in part.read_bytes().splitlines()]


def test_records_come_back_in_order_through_rotations(tmp_path: Path) -> None:
    """No file grows beyond the limit, and none of a hundred records is lost, doubled or out of order."""
    path = tmp_path / "out"
    with Records(str(path), max_size=1000, keep=100) as out:
        for number in range(100):
            out.write(json.dumps({"number": number, "filler": "x" * 50}).encode())
    assert [r["number"] for r in everything(path)] == list(range(100))
    assert all(part.stat().st_size <= 1000 for part in tmp_path.iterdir())


def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    """The oldest goes, the newest stay."""
    path = tmp_path / "out"
    with Records(str(path), max_size=10, keep=3) as out:
        for number in range(10):
            out.write(b"%d" % (1_000_000 + number))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.1", "out.2", "out.3"]
    assert path.read_bytes() == b"1000009\n"


def test_a_killed_writer_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed at random moments: what it said was written is there, in order, and every line is whole."""
    path = tmp_path / "out"
    claimed: list[int] = []
    choose = random.Random(7)  # noqa: S311 -- moments, no secrets
    for _ in range(5):
        begin = claimed[-1] + 1 if claimed else 0
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(begin)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            claimed.append(int(writer.stdout.readline()))
            time.sleep(choose.random() / 20)
            writer.send_signal(signal.SIGKILL)
            claimed += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    with Records(str(path), max_size=20_000, keep=10_000):
        pass  # mends the last tear
    numbers = [r["number"] for r in everything(path)]
    # The writer may have been killed between the record and its claim: then the next one wrote it again.
    assert sorted(set(numbers)) == list(range(len(set(numbers))))
    assert set(claimed) <= set(numbers)
    assert len(numbers) - len(set(numbers)) <= 5


def test_torn_ends_are_cut_and_other_text_is_kept(tmp_path: Path) -> None:
    """Half a record goes; half a line of something else is not ours to take."""
    path = tmp_path / "out"
    for before, after in (
        (b'{"a":1}\n{"b":', b'{"a":1}\n{}\n'),
        (b'{"b":', b"{}\n"),
        (b"notes", b"notes\n{}\n"),
        (b"", b"{}\n"),
        (b'{"a":1}\n' + bytes(5000), b'{"a":1}\n{}\n'),
    ):
        path.write_bytes(before)
        with Records(str(path)) as out:
            out.write(b"{}")
        assert path.read_bytes() == after


def test_a_full_disk_holds_records_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that finds half the room leaves nothing behind; once there is room, all come, in order."""
    path, write = tmp_path / "out", os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 2:
            return write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Records(str(path)) as out:
        out.write(b'{"n":0}')
        monkeypatch.setattr(os, "write", full)
        for number in (1, 2, 3):
            out.write(b'{"n":%d}' % number)
        assert path.read_bytes() == b'{"n":0}\n'
        assert "no space left" in (out.flush() or "")
        monkeypatch.setattr(os, "write", write)
        assert out.flush() is None
    assert [r["n"] for r in everything(path)] == [0, 1, 2, 3]


def test_what_waits_is_bounded_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stays full costs the oldest records, and their number is known."""
    monkeypatch.setattr(jsonl_file, "MAX_WAITING", 5)
    with Records(str(tmp_path / "out")) as out:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda _fd, _data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            for number in range(8):
                out.write(b"%d" % number)
        assert (len(out.waiting), out.dropped) == (5, 3)
    assert (tmp_path / "out").read_bytes() == b"3\n4\n5\n6\n7\n"


def test_two_writers_do_not_share_a_file(tmp_path: Path) -> None:
    """They would rotate it from under each other."""
    with Records(str(tmp_path / "out")), pytest.raises(BusyError, match="another writer"):
        Records(str(tmp_path / "out"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """In a directory that others may write to, a link must not turn a record into a write elsewhere."""
    (tmp_path / "secret").write_bytes(b"x\n")
    (tmp_path / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(Exception, match="out"):
        Records(str(tmp_path / "out"))
    assert (tmp_path / "secret").read_bytes() == b"x\n"


def test_what_it_takes_is_said(tmp_path: Path) -> None:
    """Without the right to write, one sentence."""
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(NotPermittedError, match="write access"):
        Records(str(tmp_path / "out"))
