"""Gigabytes in any pieces give what one reading gives, and never fill the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumps import Printed, reports
from kvmwhy.ingest import segment
from kvmwhy.readers import read
from kvmwhy.readers.inputs import read_stream
from kvmwhy.record import Failure, Host

FILLER = "2026-01-02T03:04:05Z some daemon: all is well, request served\n"

# An input is either one report or so many lines of something else.
blocks = st.lists(st.one_of(reports(), st.integers(0, 400)), max_size=6)


def text_of(parts: list[Printed | int]) -> bytes:
    return "".join(FILLER * part if isinstance(part, int) else part.text for part in parts).encode()


def chunks_of(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def without_host(failures: Iterable[Failure]) -> list[Failure]:
    """What a log says of the host is taken from near the failure, and so may differ."""
    return [msgspec.structs.replace(f, host=Host()) for f in failures]


def through(data: bytes, size: int) -> list[Failure]:
    found: list[Failure] = []
    for window in segment.windows(chunks_of(data, size)):
        found += read(window.data, first_line=window.first_line).failures
    return without_host(found)


def small(patch: pytest.MonkeyPatch, *, most: int = 1 << 20) -> None:
    """The same proportions, a hundred times smaller; a report is about two thousand bytes."""
    for name, value in {"WHOLE": 1000, "BEFORE": 500, "AFTER": 3000, "MAX_WINDOW": most}.items():
        patch.setattr(segment, name, value)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(blocks, st.integers(100, 5000))
def test_windows_lose_and_add_nothing(parts: list[Printed | int], size: int) -> None:
    """The failures are those of one reading of the whole, on the same lines, however it is chunked."""
    data = text_of(parts)
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        assert through(data, size) == without_host(read(data).failures)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reports(), reports(), st.integers(0, 60))
def test_byte_by_byte(first: Printed, second: Printed, lines: int) -> None:
    """No anchor is missed because it came in pieces."""
    data = text_of([lines, first, lines, second])
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        assert through(data, 1) == without_host(read(data).failures)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(reports(), reports(), st.integers(6, 9), st.integers(100, 5000))
def test_a_log_full_of_failures_is_cut_between_two(first: Printed, second: Printed, count: int, size: int) -> None:
    """A window that would grow too big ends where a dump has ended and the next failure begins."""
    data = text_of([first, second] * count)
    with pytest.MonkeyPatch.context() as patch:
        small(patch, most=9000)
        found = list(segment.windows(chunks_of(data, size)))
        assert through(data, size) == without_host(read(data).failures)
    assert any(window.cut for window in found)
    assert b"".join(window.data for window in found) == data


@settings(max_examples=30)
@given(st.lists(st.one_of(st.binary(max_size=3000), st.sampled_from((b"EFER=" * 500, b"KVM: \n" * 900))), max_size=12))
def test_memory_is_bounded(pieces: list[bytes]) -> None:
    """Nothing that an input does makes more than a window, a chunk and some context be held."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch, most=6000)
        for window in segment.windows(chunks_of(b"".join(pieces), 700)):
            assert len(window.data) <= 6000 + 500 + 700


def test_what_is_held_is_bounded() -> None:
    """An endless run of anchors, without one line end, is handed out again and again."""
    size = 1 << 16
    given_out = 0
    for n, window in enumerate(segment.windows(b"EFER=" * (size // 5) for _ in range(100))):
        given_out += len(window.data)
        assert len(window.data) <= segment.MAX_WINDOW + segment.BEFORE + size
        assert n < 10
    assert given_out == 100 * (size // 5) * 5


def test_context_comes_with_the_failure() -> None:
    """The host's kernel stands some lines before the failure."""
    start = (
        b"2026-01-02 03:04:05.678+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.13, kernel: 6.12.8\n"
    )
    data = FILLER.encode() * 200000 + start + b"KVM: entry failed, hardware error 0x7\n" + FILLER.encode() * 1000
    (window,) = segment.windows(chunks_of(data, 1 << 20))
    (failure,) = read(window.data, first_line=window.first_line).failures
    assert failure.host.kernel == "6.12.8"
    assert failure.source.line == 200002


def test_nothing_of_nothing() -> None:
    """No input, no window."""
    assert list(segment.windows([])) == []
    assert list(segment.windows([b"", b""])) == []


@pytest.mark.parametrize(
    "line",
    [
        b"vmx: unexpected exit reason 0x33",
        b"set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.",
        b"KVM: entry failed, hardware error 0x7",
    ],
)
def test_a_big_input_is_searched_for_what_a_small_one_is_read_for(line: bytes) -> None:
    """What the readers know in a few lines is found among megabytes of others, too."""
    alone = read(line + b"\n").failures
    assert alone
    noise = b"systemd[1]: Started a unit.\n" * 250_000
    found = [failure for evidence in read_stream([noise, line + b"\n", noise]) for failure in evidence.failures]
    assert [failure.kind for failure in found] == [failure.kind for failure in alone]
