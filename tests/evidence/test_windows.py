"""Big inputs by windows: the same failures as in one piece, with the right lines, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.evidence import read, windows
from kvmwhy.record import Failure

LOG = (Path(__file__).parent.parent / "fixtures" / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log").read_bytes()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few kilobytes are already a big input."""
    for name, size in {"WHOLE": 4096, "BEFORE": 512, "AFTER": 4096, "MAX_WINDOW": 16384}.items():
        monkeypatch.setattr(windows, name, size)


def failures(data: bytes, chunks: list[int]) -> list[Failure]:
    def pieces() -> Iterator[bytes]:
        at = 0
        for size in chunks:
            yield data[at : at + size]
            at += size
        yield data[at:]

    return [
        failure
        for window in windows.windows(pieces())
        for failure in read(window.data, first_line=window.first_line).failures
    ]


filler = st.integers(0, 6000).map(lambda n: b"guest: all is well, line of the console\n" * (n // 40))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(filler, st.integers(0, 2**32)), max_size=12), filler, st.lists(st.integers(0, 9000), max_size=9)
)
def test_windows_lose_nothing(parts: list[tuple[bytes, int]], end: bytes, chunks: list[int]) -> None:
    """However the stream comes in pieces, each failure is found once, whole, on its own line."""
    data, lines = b"", []
    for before, number in parts:
        data += before
        lines.append(data.count(b"\n") + 1)
        data += LOG.replace(b"RCX=0000000000000000", b"RCX=%016x" % number)
    found = failures(data + end, chunks)
    assert [f.source.line for f in found] == lines
    assert [f.cpu.get("rcx") for f in found if f.cpu] == [number for _, number in parts]
    assert not any(f.damage for f in found)


def test_a_run_of_failures_longer_than_any_window() -> None:
    """Thousands of dumps without a line between them are cut between two failures, never within one."""
    data = b"".join(LOG.replace(b"RCX=0000000000000000", b"RCX=%016x" % n) for n in range(500))
    found = failures(data, [777] * 100)
    assert [f.cpu.get("rcx") for f in found if f.cpu] == list(range(500))
    assert not any(f.damage for f in found)


def test_one_anchor_after_another_keeps_memory_bounded() -> None:
    """A stream of anchors that are no failures never makes a window larger than it may be."""
    sizes = [len(w.data) for w in windows.windows(b"KVM: KVM: data[ EFER=" * 200 for _ in range(100))]
    assert sizes
    assert max(sizes) <= windows.MAX_WINDOW + 200 * 21 + windows.BEFORE
