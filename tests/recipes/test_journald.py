"""journald.sh on real journals, which systemd-journal-remote makes of entries."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from fleet.logs import BLOCK, ROOT
from kvmwhy import fleet
from kvmwhy.fleet.row import Row
from needs import missing
from recipes.programs import Program

SCRIPT = ROOT / "contrib" / "fleet" / "journald.sh"
BEGIN = 1_770_091_506_000_000  # 2026-02-03 04:05:06 UTC, in microseconds
HOUR = 3_600_000_000
DUMP = BLOCK.rstrip(b"\n")


class Journal:
    """A directory of journal files, and the lake that the script makes of it."""

    def __init__(self, tmp: Path) -> None:
        for name in ("zstd", "journalctl", "flock", "awk"):
            if shutil.which(name) is None:
                missing("recipes", f"no {name} here")
        self.remote = Program("systemd-journal-remote")
        self.tmp, self.directory, self.lake = tmp, tmp / "journal", tmp / "lake"
        self.shims = tmp / "shims"
        self.directory.mkdir()
        self.shims.mkdir()
        self.entries = self.files = 0

    def add(self, *messages: tuple[bytes, dict[str, str]], at: int = BEGIN) -> None:
        """One more file with these messages, a millisecond apart."""
        out = []
        for message, fields in messages:
            self.entries += 1
            out.append(
                f"__REALTIME_TIMESTAMP={at + self.entries * 1000}\n__MONOTONIC_TIMESTAMP={self.entries * 1000}\n"
                f"_BOOT_ID={7:032x}\n_MACHINE_ID={9:032x}\n_HOSTNAME=pve1\n".encode()
                + b"".join(f"{name}={value}\n".encode() for name, value in fields.items())
                + b"MESSAGE\n%s%s\n\n" % (len(message).to_bytes(8, "little"), message)
            )
        self.files += 1
        source = self.tmp / f"{self.files}.export"
        source.write_bytes(b"".join(out))
        self.remote.run("-o", self.directory / f"{self.files}.journal", source)

    def shim(self, name: str, script: str) -> None:
        """A program of this name before the real one on the script's PATH, for its next run."""
        path = self.shims / name
        path.write_text(f"#!/bin/sh\n{script}\n".replace("REAL", shutil.which(name) or ""))
        path.chmod(stat.S_IRWXU)

    def run(self, *options: str, limit: str = "") -> subprocess.CompletedProcess[bytes]:
        path = os.pathsep.join([str(self.shims), os.environ["PATH"]])
        command = f'{limit} exec "$0" "$@"'
        done = subprocess.run(
            ["sh", "-c", command, SCRIPT, self.lake, "-D", self.directory, *options],
            env={**os.environ, "PATH": path, "NAME": "host"}, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        for file in self.shims.iterdir():
            file.unlink()
        return done

    def parts(self) -> list[str]:
        return sorted(path.name for path in (self.lake / "host").glob("*.zst"))

    def rows(self) -> list[Row]:
        return list(fleet.records([str(self.lake)]))

    def failures(self) -> int:
        return sum(row.count for row in self.rows())


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


def lines(identifier: str, pid: int) -> list[tuple[bytes, dict[str, str]]]:
    """A failure as a guest's QEMU writes it: an entry for each line."""
    return [(line, {"SYSLOG_IDENTIFIER": identifier, "_PID": str(pid)}) for line in DUMP.splitlines()]


def whole(unit: str, pid: int, message: bytes = DUMP) -> tuple[bytes, dict[str, str]]:
    return message, {"_SYSTEMD_UNIT": unit, "_PID": str(pid)}


def test_each_failure_is_found_with_host_time_and_writer(journal: Journal) -> None:
    """One line an entry, two guests at once; a dump in one entry, one that is no clean text (journalctl gives an array
    of its bytes), and one above 4096 bytes (journalctl gives null for it, unless told otherwise)."""
    mixed = [entry for pair in zip(lines("QEMU", 1), lines("QEMU", 2), strict=True) for entry in pair]
    binary = b'\x1b[31m"\xff\\ \xc3\xbc\n' + DUMP
    journal.add(
        *mixed, whole("vm@a.service", 3), whole("vm@b.service", 4, binary), whole("c", 5, DUMP + b"\n" + b"x" * 5000)
    )
    assert journal.run().returncode == 0
    rows = journal.rows()
    assert Counter(row.writer for row in rows) == {
        "QEMU[1]": 1, "QEMU[2]": 1, "vm@a.service[3]": 1, "vm@b.service[4]": 1, "c[5]": 1,
    }  # fmt: skip
    assert all(row.count == 1 for row in rows)
    assert {row.host for row in rows} == {"pve1"}
    entry = {"QEMU[1]": 1, "QEMU[2]": 2, "vm@a.service[3]": len(mixed) + 1, "vm@b.service[4]": len(mixed) + 2}
    for row in rows:
        if row.writer in entry:
            assert row.time is not None
            assert round(row.time.timestamp() * 1e6) == BEGIN + entry[row.writer] * 1000
    assert len({row.signature for row in rows}) == 1


def test_a_run_goes_on_where_the_last_one_ended(journal: Journal) -> None:
    """Nothing is lost, nothing is there twice, and nothing new makes no file."""
    journal.add(whole("a", 1))
    assert journal.run().returncode == 0
    assert (journal.parts(), journal.failures()) == (["start.jsonl.zst"], 1)
    assert journal.run().returncode == 0
    assert (len(journal.parts()), journal.failures()) == (1, 1)
    journal.add(whole("a", 1), whole("a", 1), at=BEGIN + HOUR)
    assert journal.run().returncode == 0
    assert (len(journal.parts()), journal.failures()) == (2, 3)
    assert journal.parts()[0].startswith("2026-02-03T040506.")
    journal.add(whole("a", 1), at=BEGIN + 2 * HOUR)
    assert journal.run().returncode == 0
    assert (len(journal.parts()), journal.failures()) == (3, 4)
    assert journal.parts()[1].startswith("2026-02-03T050506.")


def test_an_empty_journal_and_one_that_is_not_there(journal: Journal) -> None:
    """The first is fine, and begins at the start later; the second is an error, and leaves nothing behind."""
    journal.add((b"hello", {}))
    assert journal.run("-t", "nobody").returncode == 0
    assert journal.parts() == []
    shutil.rmtree(journal.directory)
    assert journal.run().returncode == 1
    assert journal.parts() == []


def test_options_go_to_journalctl(journal: Journal) -> None:
    """As --since does, which holds for the first run and hinders none after it."""
    journal.add(whole("old", 1))
    journal.add(whole("new", 1), at=BEGIN + HOUR)
    since = "--since=2026-02-03 04:30:00 UTC"
    assert journal.run(since).returncode == 0
    assert [row.writer for row in journal.rows()] == ["new[1]"]
    assert journal.run(since).returncode == 0
    journal.add(whole("newer", 1), at=BEGIN + 2 * HOUR)
    assert journal.run(since).returncode == 0
    assert sorted(str(row.writer) for row in journal.rows()) == ["new[1]", "newer[1]"]


@pytest.mark.parametrize(
    ("program", "script"),
    [
        ("zstd", "head -c 100 >/dev/null; exit 1"),
        ("awk", "head -n 1; exit 1"),
        ("journalctl", 'REAL "$@"; exit 1'),
        ("zstd", "kill -9 $PPID"),
        ("sync", "kill -9 $PPID"),
        ("mv", "kill -9 $PPID"),
        ("mv", 'REAL "$@"; kill -9 $PPID'),
    ],
)
def test_what_ends_in_the_middle_is_done_again(journal: Journal, program: str, script: str) -> None:
    """Whichever part of it fails or is killed, at whichever step: the next run loses nothing and doubles nothing."""
    journal.add(whole("a", 1))
    assert journal.run().returncode == 0
    journal.add(whole("a", 1), at=BEGIN + HOUR)
    journal.shim(program, script)
    assert journal.run().returncode in {1, -signal.SIGKILL}
    assert journal.failures() <= 2
    journal.add(whole("a", 1), at=BEGIN + 2 * HOUR)
    assert journal.run().returncode == 0
    assert (len(journal.parts()), journal.failures()) == (2, 3)
    assert sorted(path.name for path in (journal.lake / "host").iterdir() if path.suffix != ".zst") == [
        ".cursor",
        ".lock",
    ]


def test_no_room_is_an_error_and_not_the_end(journal: Journal) -> None:
    """A file may have 2 KiB only: nothing is published; with room the same is done again."""
    journal.add(whole("a", 1), (os.urandom(20_000).hex().encode(), {}))
    assert journal.run(limit="ulimit -f 4;").returncode != 0
    assert journal.parts() == []
    assert journal.run().returncode == 0
    assert journal.failures() == 1


def test_two_at_once_do_not_meet(journal: Journal) -> None:
    """The second says so, and leaves all to the first."""
    journal.add(whole("a", 1))
    assert journal.run().returncode == 0
    with (journal.lake / "host" / ".lock").open("w") as lock:
        subprocess.run(["flock", "-n", "0"], stdin=lock, check=True)
        done = journal.run()
    assert (done.returncode, b"another one" in done.stderr) == (1, True)
