"""Whatever a collector puts around lines, what is counted is what the lines themselves show."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet.logs import BLOCK, KNOWN, NOISE, distinct
from kvmwhy import fleet
from kvmwhy.fleet.extract import Known, Place, sightings
from kvmwhy.fleet.row import Row, columns, rows
from kvmwhy.ingest.times import instant
from samples import EVERY_CASE

Wrap = Callable[[str, int, int], str]  # a line, its writer's number, seconds
BASE = 1767323045  # 2026-01-02 03:04:05
SECONDS = 400 if EVERY_CASE else 80  # each with a failure
JOURNAL = {f"_FIELD_{n}": f"what nobody asks for {n}" for n in range(20)}


def record(line: Any, n: int, second: int, **more: str) -> str:
    fields = {"__REALTIME_TIMESTAMP": str((BASE + second) * 1_000_000), **more, "_HOSTNAME": "pve1", "_PID": str(n)}
    return json.dumps({**fields, "SYSLOG_IDENTIFIER": "QEMU", "MESSAGE": line}) + "\n"


def clock(second: int) -> str:
    return f"03:{4 + (5 + second) // 60:02}:{(5 + second) % 60:02}"


# Each names host, writer and time alike.
WRAPS: dict[str, Wrap] = {
    "syslog": lambda line, n, s: f"Jan  2 {clock(s)} pve1 QEMU[{n}]: {line}\n",
    "rsyslog": lambda line, n, s: f"2026-01-02T{clock(s)}+00:00 pve1 QEMU[{n}]: {line}\n",
    "RFC 5424": lambda line, n, s: f"<30>1 2026-01-02T{clock(s)}Z pve1 QEMU {n} - - {line}\n",
    "short-unix": lambda line, n, s: f"{BASE + s}.000000 pve1 QEMU[{n}]: {line}\n",
    "journal": record,
    "journal, all fields": lambda line, n, s: record(line, n, s, **JOURNAL),
    "journal, lines of 300 to 450 bytes": lambda line, n, s: record(line, n, s, _FIELD="x" * 170),
    "journal, a line of bytes": lambda line, n, s: record(
        list(line.encode()) if line.startswith("CR0") else line, n, s, _FIELD="x"
    ),
    "journal, bytes": lambda line, n, s: record(list(f"\x1b[1m{line}\r".encode()), n, s),
    "journal, bytes, all fields": lambda line, n, s: record([*line.encode(), 255], n, s, **JOURNAL),
}


def wrapped(wrap: Wrap, text: bytes, n: int, second: int) -> bytes:
    return "".join(wrap(line, n, second) for line in text.decode().splitlines()).encode()


def rows_of(data: bytes) -> list[Row]:
    return list(rows(sightings((data,), Known(columns), Place(near=BASE + 1e6)), "in"))


def seen(found: list[Row]) -> list[tuple[object, ...]]:
    return sorted(
        (r.writer or "", str(r.rip), str(r.bytes), r.count, str(r.time), str(r.last_time), r.host, r.damaged)
        for r in found
    )


@pytest.mark.parametrize("name", WRAPS)
@pytest.mark.parametrize("noise", [0, 2_000])
def test_a_collectors_lines_are_counted_as_bare_ones(name: str, noise: int) -> None:
    """Three writers' failures of four kinds, each behind its own time: the rows are known from how the log was made.

    With noise between them, and without.
    """
    rng = random.Random(name)
    kinds = [
        BLOCK,
        BLOCK.replace(b"RIP=0000000000008086", b"RIP=000000000000a086"),
        BLOCK.replace(b"<c5> fe 6f 03", b"<c5> fe 6f 04").replace(b"6f03", b"6f04"),
        distinct(9),
    ]
    out: list[bytes] = []
    wanted: dict[tuple[int, int], list[int]] = {}
    for second in range(SECONDS):
        kind, n = rng.randrange(len(kinds)), rng.randrange(100, 103)
        out += [wrapped(WRAPS[name], kinds[kind], n, second), NOISE * (noise // len(NOISE))]
        wanted.setdefault((kind, n), []).append(second)
    found = rows_of(b"".join(out))
    assert sum(row.count for row in found) == SECONDS
    told = sorted((r.writer, r.count, r.time, r.last_time) for r in found)
    times = {s: instant(f"2026-01-02T{clock(s)}Z", near=0) for s in range(SECONDS)}
    assert told == sorted((f"QEMU[{n}]", len(s), times[s[0]], times[s[-1]]) for (_, n), s in wanted.items())
    assert {(r.host, r.damaged, r.cause) for r in found} == {("pve1", False, "emulator-no-handler")}


@pytest.mark.parametrize("name", ["journal, bytes", "journal, all fields"])
def test_small_files_and_large_show_the_same(tmp_path: Path, name: str) -> None:
    """One failure in a file that is read as a whole, and in one that is searched; its place is that in the file."""
    noise = record("nothing", 1, 0).encode()
    for number, times in enumerate((5, 20_000)):
        (tmp_path / f"{number}.json").write_bytes(noise * times + wrapped(WRAPS[name], BLOCK, 77, 3) + noise * times)
    small, large = fleet.records([str(tmp_path)])
    assert (small.offset, large.offset) == (5 * len(noise), 20_000 * len(noise))
    assert (large.writer, large.time, large.signature) == (small.writer, small.time, small.signature)
    assert not large.damaged


@pytest.mark.parametrize("name", WRAPS)
def test_two_writers_lines_are_not_taken_for_ones(name: str) -> None:
    """Their lines alternate in a large log: two failures, each its writer's, and neither damaged."""
    both = zip(*(wrapped(WRAPS[name], distinct(n), n, 3).splitlines(keepends=True) for n in (41, 42)), strict=True)
    filler = WRAPS[name]("all is well", 7, 0).encode() * 12_000
    found = rows_of(filler + b"".join(line for pair in both for line in pair) + filler)
    assert [(r.writer, r.count, r.damaged) for r in found] == [("QEMU[41]", 1, False), ("QEMU[42]", 1, False)]


def test_several_failures_of_one_block_have_their_own_times() -> None:
    """Two vCPUs' announcements, a second apart, stay in one block: each failure has the time of its own line."""
    head, rest = BLOCK.split(b"\n", 1)
    lines = [(head, 0), *((line, 1) for line in (head + b"\n" + rest + rest).splitlines())]
    mixed = "".join(record(line.decode(), 5, second) for line, second in lines).encode()
    filler = record("nothing", 5, 0).encode() * 9000
    times = [s.time and s.time.second for s in sightings((filler + mixed + filler,), KNOWN, Place())]
    assert times == [5, 6]
