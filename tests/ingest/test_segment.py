"""Gigabytes in any pieces give what one reading gives, and never fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumps import Printed, reports
from kvmwhy import pipeline
from kvmwhy.ingest import repeats, segment, tape, window
from kvmwhy.ingest.segment import windows
from kvmwhy.ingest.window import WHOLE, Part
from kvmwhy.pipeline import records, records_of
from kvmwhy.readers import read
from kvmwhy.readers.anchors.qemu import REPORT
from kvmwhy.readers.registry import search
from kvmwhy.record import Failure, Host

FILLER = "2026-01-02T03:04:05Z some daemon: all is well, request served\n"

# An input is either one report or so many lines of something else.
blocks = st.lists(st.one_of(reports(), st.integers(0, 400)), max_size=6)


def text_of(parts: list[Printed | int]) -> bytes:
    return "".join(FILLER * part if isinstance(part, int) else part.text for part in parts).encode()


def chunks_of(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def without_host(failures: list[Failure]) -> list[Failure]:
    """What a log says of the host is taken from near the failure, and so may differ."""
    return [msgspec.structs.replace(f, host=Host()) for f in failures]


def without_far_writers(wanted: list[Failure], found: list[Failure]) -> list[Failure]:
    """Lines without a prefix are the last named writer's; a window does not see a name that stands far before it."""
    pairs = zip(wanted, found, strict=True)
    return [
        w if f.source.writer else msgspec.structs.replace(w, source=msgspec.structs.replace(w.source, writer=None))
        for w, f in pairs
    ]


def through(data: bytes, size: int, part: Part = WHOLE) -> list[Failure]:
    chunks = chunks_of(data[part.read_from : part.read_to], size)
    return without_host([record.failure for record in records_of(chunks, part=part)])


def small(patch: pytest.MonkeyPatch, longest: int = 0) -> None:
    """The same proportions, a hundred times smaller; a report is about two thousand bytes.

    ``longest``: up to that size, those that repeat are counted.
    """
    sizes = {
        "BLOCK": 9000, "SMALL": 1000, "MARGIN": 3000, "_LINES": 1, "_FAR": 4000, "_HISTORY": 3000, "NEAR": 500,
        "LONGEST": longest,
    }  # fmt: skip
    for module in (segment, tape, window, repeats, pipeline):
        for name, value in sizes.items():
            if hasattr(module, name):
                patch.setattr(module, name, value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(blocks, st.integers(100, 5000))
def test_windows_lose_and_add_nothing(parts: list[Printed | int], size: int) -> None:
    """The failures are those of one reading of the whole, on the same lines, however it is chunked."""
    data = text_of(parts)
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        found, wanted = through(data, size), without_host(list(read(data).failures))
        assert len(found) == len(wanted)
        assert found == without_far_writers(wanted, found)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reports(), reports(), st.integers(0, 60))
def test_byte_by_byte(first: Printed, second: Printed, lines: int) -> None:
    """No anchor is missed because it came in pieces."""
    data = text_of([lines, first, lines, second])
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        assert through(data, 1) == without_host(list(read(data).failures))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(reports(), min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 9))
def test_parts_have_each_failure_once(parts: list[Printed], first: int, times: int) -> None:
    """A log full of failures, by blocks: each failure is in one part, and all are those of the whole."""
    data = text_of([*parts]) * times
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        wanted = without_host(list(read(data).failures))
        borders = [0, first, first + 1, 99]
        found = [f for a, b in pairwise(borders) for f in through(data, 700, Part(a, b))]
        numberless = [msgspec.structs.replace(f, source=msgspec.structs.replace(f.source, line=None)) for f in found]
        assert numberless == [
            msgspec.structs.replace(f, source=msgspec.structs.replace(f.source, line=None)) for f in wanted
        ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=3000), st.sampled_from((b"EFER=" * 500, b"KVM: \n" * 900))), max_size=12))
def test_memory_is_bounded(pieces: list[bytes]) -> None:
    """Nothing that an input does makes a window larger than a block and what is read on either side."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        for one in windows(chunks_of(b"".join(pieces), 700), search(), REPORT):
            assert len(one.data) <= 9000 + 2 * (4000 + 3000)


def test_what_is_held_is_bounded() -> None:
    """An endless run of anchors, without one line end, is handed out block by block."""
    size, blocks_in_all = 1 << 16, 100 * 65_535 / window.BLOCK
    for n, one in enumerate(windows((b"EFER=" * (size // 5) for _ in range(100)), search(), REPORT)):
        assert len(one.data) <= window.BLOCK + 2 * (tape._FAR + tape.MARGIN)
        assert n < blocks_in_all


def test_context_comes_with_the_failure() -> None:
    """The host's kernel stands in libvirt's header, near before the failure or a good deal before it."""
    start = (
        b"2026-01-02 03:04:05.678+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.13, kernel: 6.12.8\n"
    )
    for between in (0, 9000):
        failing = FILLER.encode() * between + b"KVM: entry failed, hardware error 0x7\n" + FILLER.encode() * 1000
        data = FILLER.encode() * 200000 + start + failing
        (record,) = records(chunks_of(data, 1 << 20))
        assert record.failure.host.kernel == "6.12.8"
        assert record.failure.source.line == 200002 + between
        assert data[record.offset :].startswith(b"KVM: entry failed")


def test_nothing_of_nothing() -> None:
    """No input, no window."""
    assert list(windows([], search(), REPORT)) == []
    assert list(windows([b"", b""], search(), REPORT)) == []


@pytest.mark.parametrize(
    "line",
    [
        b"vmx: unexpected exit reason 0x33",
        b"set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.",
        b"KVM: entry failed, hardware error 0x7",
        b"KVM: entry\nfailed, hardware error 0x7",
        b"vmread failed: field=6c00",
        b"KVM internal\r\nerror. Suberror: 1\nEFER=3D0000000000000500",
        b'{"MESSAGE":"KVM: entry failed, hardware error 0x7"}',
        b'{"MESSAGE":"\\u004bVM: entry failed, hardware error 0x7"}',
        b'{"MESSAGE":' + str(list(b"KVM: entry failed, hardware error 0x7")).replace(" ", "").encode() + b"}",
    ],
)
def test_a_big_input_is_searched_for_what_a_small_one_is_read_for(line: bytes) -> None:
    """What the readers know in a few lines is found among megabytes of others, too."""
    alone = read(line + b"\n").failures
    assert alone
    noise = b"systemd[1]: Started a unit.\n" * 250_000
    found = [record.failure for record in records([noise, line + b"\n", noise])]
    assert [failure.kind for failure in found] == [failure.kind for failure in alone]
