"""Rows and signatures: what is kept of a failure, and what makes two of them the same."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.logs import BLOCK, KNOWN, NOISE
from kvmwhy import fleet
from kvmwhy.diagnosis import diagnose
from kvmwhy.fleet.extract import Place, Sighting, sightings
from kvmwhy.fleet.row import COLUMNS, SCHEMA, Row, from_json, rows, to_json, what
from kvmwhy.fleet.store import read_rows, write_rows
from kvmwhy.ingest.times import instant
from kvmwhy.readers import read

texts = st.text(max_size=12).filter(lambda t: t.isprintable())
words = st.integers(0, (1 << 64) - 1)
times = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis adds it
some = st.builds(
    Row,
    path=texts,
    offset=words,
    count=st.integers(1, 1 << 40),
    host=st.none() | texts,
    time=st.none() | times,
    rip=st.none() | words,
    gpa=st.none() | words,
    suberror=st.none() | st.integers(0, (1 << 32) - 1),
    cpl=st.none() | st.integers(0, 3),
    damaged=st.booleans(),
    answer=texts,
)


@given(st.lists(some, max_size=5))
def test_rows_come_back_as_they_were(rows: list[Row]) -> None:
    """From a line of JSON and from Parquet; numbers of 64 bits are hexadecimal text in JSON, as everywhere."""
    assert [from_json(to_json(row)) for row in rows] == rows
    for row in rows:
        told = msgspec.json.decode(to_json(row))
        assert told["row"] == SCHEMA
        assert isinstance(told.get("rip", "0x0"), str)


def test_parquet_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every column, the widest numbers, microseconds."""
    time = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    rows = [
        Row(path="a", offset=0),
        Row(path="b", offset=1, rip=(1 << 64) - 1, time=time, suberror=1, cpl=3, damaged=True),
    ]
    path = tmp_path / "r.parquet"
    with path.open("wb") as sink:
        assert write_rows(sink, rows, ".parquet") == 2
    assert list(read_rows(str(path))) == rows


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[1]",
        b'{"row": 1}',
        b'{"row":1,"rip":"x"}',
        b'{"row": 4, "path": "", "offset": 0}',
        b'{"row": true, "path": "", "offset": 0}',
        b'{"row": [1], "path": "", "offset": 0}',
    ],
)
def test_other_lines_are_refused(line: bytes) -> None:
    """What is no row of this schema raises ValueError, of which msgspec's errors are kinds."""
    with pytest.raises(ValueError):  # noqa: PT011 -- many words
        from_json(line)


def test_columns_are_those_of_the_explanation() -> None:
    """The words of a known failure: which, where, what lives there."""
    (failure,) = read(BLOCK).failures
    told = what(diagnose(failure))
    assert set(told) < set(COLUMNS)
    wanted = {
        "kind": "internal-error", "suberror": 1, "mode": "long64", "cpl": 0, "rip": 0x8086, "vendor": "svm",
        "instruction": "vmovdqu ymm0,[rbx]", "bytes": "c5 fe 6f 03", "access": "read", "gpa": 0xD0000000,
        "cause": "emulator-no-handler", "family": "emulator-gap", "damaged": False,
    }  # fmt: skip
    assert {name: told[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("prefix", "host", "writer", "time"),
    [
        (b"Nov 22 10:11:12 pve1 QEMU[2043]: ", "pve1", "QEMU[2043]", "2025-11-22T10:11:12+00:00"),
        (
            b"2026-02-03T04:05:06.789+01:00 node7 qemu-kvm[9]: ",
            "node7",
            "qemu-kvm[9]",
            "2026-02-03T03:05:06.789000+00:00",
        ),
        (b"<30>1 2026-02-03T04:05:06Z n8 qemu 12 - - ", "n8", "qemu[12]", "2026-02-03T04:05:06+00:00"),
        (b"2026-02-03T04:05:06Z ", "", "", "2026-02-03T04:05:06+00:00"),
        (b"", "", "", None),
    ],
)
def test_what_collectors_put_before_lines_is_taken_off(prefix: bytes, host: str, writer: str, time: str | None) -> None:
    """Host, writer and time of the first line; without them equal failures are equal."""
    near = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    text = b"".join(prefix + line for line in BLOCK.splitlines(keepends=True))
    (bare,) = sightings((BLOCK,), KNOWN, Place())
    (seen,) = sightings((text,), KNOWN, Place(near=near))
    assert (seen.key, seen.host, seen.writer) == (bare.key, host, writer)
    assert (seen.time and seen.time.isoformat()) == time


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_no_time_is_too_strange(time: str, near: float) -> None:
    """A time is an instant in UTC or none."""
    made = instant(time, near=near)
    assert made is None or made.tzinfo is UTC


def test_rows_say_where_and_when(tmp_path: Path) -> None:
    """Two hosts in one journal and two hours: a row for each host and hour, with its count."""
    lines: list[bytes] = []
    for hour, host in ((1, "pve1"), (1, "pve1"), (2, "pve1"), (2, "pve2")):
        prefix = b"2026-02-03T%02d:00:0%dZ %s QEMU[1]: " % (hour, len(lines) % 10, host.encode())
        lines.append(b"".join(prefix + line for line in BLOCK.splitlines(keepends=True)) + NOISE * 300)
    (tmp_path / "journal").write_bytes(NOISE * 12_000 + b"".join(lines))
    rows = list(fleet.records([str(tmp_path / "journal")]))
    assert [(r.host, r.count, r.time and r.time.hour) for r in rows] == [("pve1", 2, 1), ("pve1", 1, 2), ("pve2", 1, 2)]
    assert rows[0].writer == "QEMU[1]"


@pytest.mark.parametrize("size", [0, 1 << 21])
def test_libvirts_header_names_host_kernel_and_vmm(tmp_path: Path, size: int) -> None:
    """In a small file, which is read as a whole, and behind it in a large one."""
    header = (
        b"2026-01-02 03:04:05.678+0000: starting up libvirt version: 10.0.0, qemu version: 8.2.2,"
        b" kernel: 6.8.0-31-generic, hostname: kvm07.example\nLC_ALL=C \\\n/usr/bin/qemu-system-x86_64 \\\n"
        b"-m size=262144k \\\n-msg timestamp=on\n"
    )
    (tmp_path / "guest.log").write_bytes(header + b"char device redirected\n" + BLOCK + b"x" * 99 + b"\n" * size)
    (row,) = fleet.records([str(tmp_path / "guest.log")])
    assert (row.host, row.kernel, row.qemu) == ("kvm07.example", "6.8.0-31-generic", "8.2.2")
    assert row.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "revision"),
    [
        ("microcode: microcode updated early to revision 0xf4, date = 2023-02-22", "0xf4"),
        ("microcode: Current revision: 0x2b000661\nmicrocode: Updated early from: 0x2b000111", "0x2b000661"),
        ("microcode: sig=0x806f8, pf=0x10, revision=0x2b000590", "0x2b000590"),
        ("microcode: CPU3: patch_level=0x0a201016", "0x0a201016"),
        ("microcode\t: 0x2b000590", "0x2b000590"),
        ("microcode: CPU0: patch_level=0x0a201016\nmicrocode: CPU1: patch_level=0x0a201009", None),
    ],
)
def test_microcode_and_kernel_of_a_boot_log(tmp_path: Path, line: str, revision: str | None) -> None:
    """A host's log that begins with its boot; two revisions are none."""
    boot = f"Linux version 6.1.0-18-amd64 (debian) #1 SMP\n{line}\n"
    (tmp_path / "boot.log").write_bytes(boot.encode() + BLOCK)
    (row,) = fleet.records([str(tmp_path / "boot.log")])
    assert (row.kernel, row.microcode) == ("6.1.0-18-amd64", revision)


def test_own_records_are_read_back(tmp_path: Path) -> None:
    """What kvmwhy watch keeps is scanned; what a scan wrote is not scanned again."""
    from kvmwhy.render.json import to_json as explained

    (failure,) = read(BLOCK).failures
    (tmp_path / "watch.jsonl").write_bytes((explained(diagnose(failure)) + b"\n") * 3)
    found = list(fleet.records([str(tmp_path)]))
    assert sum(row.count for row in found) == 3
    with (tmp_path / "rows.jsonl").open("wb") as sink:
        write_rows(sink, found, ".jsonl")
    sink2 = io.BytesIO()
    write_rows(sink2, found, ".parquet")
    (tmp_path / "rows.parquet").write_bytes(sink2.getvalue())
    assert sum(row.count for row in fleet.records([str(tmp_path)])) == 3


def test_the_microcode_is_that_of_whichever_failure_has_it() -> None:
    """Of equal failures only some stand near the line that names it: the row has it all the same."""
    seen = [Sighting(b"k", {"kind": "other"}, n, 1, "h", "w", None, code) for n, code in enumerate((None, "0x1", None))]
    (row,) = rows(seen, "path")
    assert (row.count, row.offset, row.microcode) == (3, 0, "0x1")
