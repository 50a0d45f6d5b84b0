"""Equal reports that follow each other are read once, and what is told of them is the same."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.test_segment import FILLER, chunks_of, small
from kvmwhy.ingest.window import WHOLE, Part
from kvmwhy.pipeline import identity, records_of
from kvmwhy.readers import read
from kvmwhy.record import Failure, Host

FIXTURE = Path(__file__).parent.parent / "fixtures" / "prot32-flds" / "qemu.log"
LOG = FIXTURE.read_bytes()[FIXTURE.read_bytes().index(b"KVM internal error") :]
DUMPS = [LOG.replace(b"ECX=00000000", b"ECX=%08x" % n) for n in range(4)]
OTHER = FILLER.encode()
TORN = LOG[: len(LOG) // 2] + b"\n"
STARTED = b"2026-01-02 03:04:05.678+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.13, kernel: 6.12.8\n"
LIMIT = 2048

# A log is runs of dumps, some with other lines between them, or torn.
runs = st.lists(st.sampled_from(DUMPS), min_size=20, max_size=40).map(b"".join)
pieces = st.lists(st.one_of(runs, st.sampled_from([OTHER, OTHER * 200, TORN, STARTED, b"\n"])), max_size=5)

Seen = dict[bytes, tuple[int, int | None, int | None]]


def seen(failures: Iterable[Failure], *, numbered: bool = True) -> Seen:
    """Of each distinct failure how often it was there, and the first and the last line."""
    out: Seen = {}
    for failure in failures:
        key = identity(replace(failure, host=Host()))
        source = failure.source
        first, last = (source.line, source.last_line or source.line) if numbered else (None, None)
        times, before, _ = out.get(key, (0, first, last))
        out[key] = times + source.count, before, last
    return out


def through(data: bytes, part: Part = WHOLE, *, numbered: bool = True) -> list[Failure]:
    chunks = chunks_of(data[part.read_from : part.read_to], 700)
    return [record.failure for record in records_of(chunks, part=part, numbered=numbered)]


@settings(max_examples=40, deadline=None)
@given(pieces)
def test_a_run_of_reports_tells_what_each_tells(parts: list[bytes]) -> None:
    """As often, first and last on the same lines as when every report is read; and a run is not read whole."""
    data = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        small(patch, LIMIT)
        assert seen(through(data)) == seen(read(data).failures)


@settings(max_examples=20, deadline=None)
@given(pieces, st.integers(1, 3), st.integers(1, 6))
def test_parts_share_a_run(parts: list[bytes], first: int, more: int) -> None:
    """Each report of it is one part's."""
    data = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        small(patch, LIMIT)
        borders = [0, first, first + more, 999]
        found = [f for a, b in pairwise(borders) for f in through(data, Part(a, b), numbered=False)]
        assert seen(found, numbered=False) == seen(read(data).failures, numbered=False)


def test_equal_reports_are_one_record() -> None:
    """Thousands of three kinds, in megabytes: three records with their numbers and places, but at the ends of them."""
    count = 3000
    data = OTHER * 20_000 + DUMPS[0] + OTHER * 20_000 + b"".join(DUMPS[1:]) * count
    records = list(records_of(chunks_of(data, 1 << 20)))
    assert sum(record.failure.source.count for record in records) == 3 * count + 1
    counted = [record for record in records if record.failure.source.count > 1]
    assert len(counted) == len(DUMPS) - 1
    for record in counted:
        assert data[record.offset :].startswith(b"KVM internal error")
        assert record.failure.source.line == data.count(b"\n", 0, record.offset) + 1
        assert record.failure.source.count > count // 2
