"""Whatever a collector puts around lines, what is counted is what the lines themselves show."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.logs import BLOCK, KNOWN, NOISE, chunked, distinct
from kvmwhy import fleet
from kvmwhy.fleet import stamped
from kvmwhy.fleet.block_dedup import Counted, counted
from kvmwhy.fleet.extract import Known, Place, sightings
from kvmwhy.fleet.marks import HEADS, find
from kvmwhy.fleet.row import Row, columns, rows
from kvmwhy.fleet.shorten import Shortened, short
from kvmwhy.fleet.wrapped import instant, take_off, unwrap
from kvmwhy.ingest.log_prefix import peel
from kvmwhy.ingest.marks import LOOSE

Wrap = Callable[[str, int, int], str]  # a line, its writer's number, seconds
BASE = 1767323045  # 2026-01-02 03:04:05
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
    for second in range(400):
        kind, n = rng.randrange(len(kinds)), rng.randrange(100, 103)
        out += [wrapped(WRAPS[name], kinds[kind], n, second), NOISE * (noise // len(NOISE))]
        wanted.setdefault((kind, n), []).append(second)
    found = rows_of(b"".join(out))
    assert sum(row.count for row in found) == 400
    told = sorted((r.writer, r.count, r.time, r.last_time) for r in found)
    times = {s: instant(f"2026-01-02T{clock(s)}Z", near=0) for s in range(400)}
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


names = st.sampled_from(list(WRAPS))
pieces = st.lists(st.tuples(names, st.integers(0, 5), st.integers(7, 9), st.integers(0, 40)), min_size=1, max_size=5)


def made(parts: list[tuple[str, int, int, int]], seed: int) -> bytes:
    """Runs of failures in several wrappings, whole, torn and two at once, with lines between them."""
    rng = random.Random(seed)
    out: list[bytes] = []
    for name, kind, n, second in parts:
        for _ in range(rng.choice((1, 12, 30))):
            lines = wrapped(WRAPS[name], distinct(rng.randrange(3)), n, second + rng.randrange(9)).splitlines(True)
            if kind == 1 and rng.random() < 0.2:
                del lines[rng.randrange(len(lines)) :]
            if kind == 2 and rng.random() < 0.2:
                other = wrapped(WRAPS[name], distinct(1), n + 1, second).splitlines(True)
                lines = [line for pair in zip(lines, other, strict=False) for line in pair]
            if kind == 3 and rng.random() < 0.5:
                lines += [NOISE, b"host kernel: microcode: revision 0x1\n"][: rng.randrange(3)]
            if kind == 4 and rng.random() < 0.2:
                lines.insert(rng.randrange(len(lines) + 1), rng.choice((*HEADS, *LOOSE, b"Code=")) + b"\n")
            if kind == 5 and rng.random() < 0.2:
                at = rng.randrange(len(lines))
                lines[at] = lines[at].replace(b" ", b"\t", 3)
            out += lines
    return b"".join(out)


@settings(max_examples=40, deadline=None)
@given(pieces, st.integers(0, 99))
def test_the_short_cut_gives_what_the_long_way_gives(parts: list[tuple[str, int, int, int]], seed: int) -> None:
    """Blocks that are cut and unwrapped in one go are those that are cut one by one and unwrapped each."""
    data = made(parts, seed)
    fast = list(counted((data,)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamped, "_DENSE", 1 << 30)
        slow = list(counted((data,)))

    def plain(block: Counted) -> Counted:
        return block._replace(told=unwrap(block.text))

    assert [block._replace(told=(block.told or unwrap(block.text))._replace(digest=b"")) for block in fast] == [
        plain(block) for block in slow
    ]
    assert all(block.told is None for block in slow)


PREFIX = b"Jan  2 03:04:05 pve1 QEMU[%d]: "
ODD = {
    "code bytes between two": BLOCK + b"Code=00\n",
    "a mark in the host's name": BLOCK,
    "another prefix inside": BLOCK.replace(b"Suberror: 1", b"Suberror: 1\tx\t2026-01-02T03:04:05Z y", 1),
    "a mark in the first line": BLOCK.replace(b"Suberror: 1", b"Suberror: 1 KVM_RUN", 1),
}


@pytest.mark.parametrize("name", ODD)
def test_the_short_cut_leaves_what_is_odd(name: str) -> None:
    """Among failures that it takes; the same blocks as without it, and the same is told of each."""
    prefix = PREFIX.replace(b"pve1", b"KVM_RUN") if "host's" in name else PREFIX
    runs = [
        b"".join(prefix % n + line for line in text.splitlines(keepends=True))
        for n in range(10, 30)
        for text in (BLOCK, ODD[name])
    ]
    data = b"".join(runs)
    fast = [(b.text, b.before, (b.told or unwrap(b.text))._replace(digest=b"")) for b in counted((data,))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamped, "_DENSE", 1 << 30)
        slow = [(b.text, b.before, unwrap(b.text)) for b in counted((data,))]
    assert fast == slow


@pytest.mark.parametrize("name", WRAPS)
def test_two_writers_lines_are_not_taken_for_ones(name: str) -> None:
    """Their lines alternate in a large log: two failures, each its writer's, and neither damaged."""
    both = zip(*(wrapped(WRAPS[name], distinct(n), n, 3).splitlines(keepends=True) for n in (41, 42)), strict=True)
    filler = WRAPS[name]("all is well", 7, 0).encode() * 12_000
    found = rows_of(filler + b"".join(line for pair in both for line in pair) + filler)
    assert [(r.writer, r.count, r.damaged) for r in found] == [("QEMU[41]", 1, False), ("QEMU[42]", 1, False)]


def test_records_that_go_on_are_left_to_readers() -> None:
    """docker cuts a long line: what has no end is no line, and the block stays as it is."""
    lines = [json.dumps({"log": f"{line}\n", "stream": "stderr", "time": "x"}) for line in BLOCK.decode().splitlines()]
    whole = "\n".join(lines).encode()
    assert unwrap(whole).text == BLOCK.rstrip(b"\n")
    torn = "\n".join(lines).replace("Suberror: 1\\n", "Suberror: 1").encode()
    assert unwrap(torn).text == torn


def test_the_short_cut_is_taken() -> None:
    """Behind prefixes of one shape, nearly all are."""
    data = b"".join(wrapped(WRAPS["syslog"], distinct(n % 9), 100 + n % 7, n % 50) for n in range(300))
    assert sum(block.told is not None for block in counted((data,))) > 290


@given(st.lists(st.sampled_from(["12:1 a: ", "12:2 a: ", "9:12 a: ", "13:1 b: ", "", "x"]), max_size=8), st.booleans())
def test_prefixes_are_taken_off_all_lines_or_none(prefixes: list[str], end: bool) -> None:
    """Line by line, as the definition says: the time may differ in its digits, and nothing else may."""
    lines = [f"{prefix}{'line' * (n % 3)}".encode() for n, prefix in enumerate(["12:7 a: ", *prefixes])]
    block = b"\n".join(lines) + b"\n" * end
    alike = all(not line or re.match(rb"\d\d:\d a: ", line) for line in block.split(b"\n"))
    bare = b"\n".join(line[len("12:7 a: ") :] for line in block.split(b"\n"))
    assert take_off(block, b"12:7 a: ", len("12:7")) == (bare if alike else None)


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 300) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "host", "log"]), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.dictionaries(
    st.sampled_from(
        [
            "MESSAGE",
            "log",
            "msg",
            "_HOSTNAME",
            "_PID",
            "kubernetes",
            "_source",
            "fields",
            "time",
            "stream",
            "pod",
            "x",
            "y",
        ]
    ),
    values,
    max_size=9,
)


@given(fields)
def test_a_shortened_record_says_what_it_said(record: dict[str, Any]) -> None:
    """Message, writer and time of a line; what is no record with a message is left alone, and none becomes longer."""
    line = json.dumps(record).encode()
    made = short(line)
    assert len(made) <= len(line)
    assert b"\n" not in made
    before, after = peel(line.decode()), peel(made.decode())
    assert (before and (before.text, before.who, before.time, before.goes_on)) == (
        after and (after.text, after.who, after.time, after.goes_on)
    )


@given(st.binary(max_size=200))
def test_any_line_can_be_shortened(line: bytes) -> None:
    """Nothing raises."""
    assert len(short(b'{"MESSAGE":' + line)) <= len(line) + 11


def test_shortened_logs_do_not_depend_on_how_they_come() -> None:
    """In any chunks the same comes out, and each place in it is that of the same line in the input."""
    rng = random.Random(4)
    parts = [record("nothing to see", 1, 2, **JOURNAL).encode() * 1000]
    for n in range(30):
        parts.append(wrapped(WRAPS[rng.choice(list(WRAPS)[4:])], distinct(n), n, n))
        parts.append(record("well", 1, 2).encode() * rng.choice((1, 1, 1, 9000)))
    data = b"".join(parts)
    whole = Shortened((data,))
    text = b"".join(whole)
    assert len(text) < len(data) - 500_000
    for sizes in ([1 << 20] * 99, [70_001] * 999):
        assert b"".join(Shortened(chunked(data, sizes))) == text
    for found in re.finditer(rb'"MESSAGE":"KVM internal error', text):
        line = text.rfind(b"\n", 0, found.start()) + 1
        place = whole.place(line)
        assert place == 0 or data[place - 1 : place] == b"\n"
        theirs, ours = (peel(t[at : t.find(b"\n", at)].decode()) for t, at in ((data, place), (text, line)))
        assert theirs == ours
        assert theirs


def test_what_is_no_log_of_records_passes_untouched() -> None:
    """Not even copied."""
    chunks = [NOISE * 3, BLOCK, b"{}"]
    assert all(a is b for a, b in zip(Shortened(chunks), chunks, strict=True))


def test_marks_with_digits_are_known_to_the_short_cut() -> None:
    """A prefix of a shape that was seen can only differ in digits: a mark that has some must not come of that."""
    assert all(b"0x" in mark or b"efail-" in mark for mark in (*HEADS, *LOOSE) if re.search(rb"\d", mark))
    assert find(b"efail-2")


def test_several_failures_of_one_block_have_their_own_times() -> None:
    """Two vCPUs' announcements, a second apart, stay in one block: each failure has the time of its own line."""
    head, rest = BLOCK.split(b"\n", 1)
    lines = [(head, 0), *((line, 1) for line in (head + b"\n" + rest + rest).splitlines())]
    mixed = "".join(record(line.decode(), 5, second) for line, second in lines).encode()
    filler = record("nothing", 5, 0).encode() * 9000
    times = [s.time and s.time.second for s in sightings((filler + mixed + filler,), KNOWN, Place())]
    assert times == [5, 6]
