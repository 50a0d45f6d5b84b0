"""A ``kvm_run`` page is told from a text, and says what the log beside it says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.readers import read, run_page

FIXTURES = Path(__file__).parents[1] / "fixtures"
PAGES = sorted(FIXTURES.rglob("kvm_run.page"))
INTERNAL_ERROR, SHUTDOWN = 17, 8


def name_of(path: Path) -> str:
    return str(path.parent.relative_to(FIXTURES))


def page(exit_reason: int, payload: bytes = b"", size: int = 4096) -> bytes:
    """kvm_run as in include/uapi/linux/kvm.h: exit_reason at 8, the union at 32."""
    return (bytes(8) + struct.pack("<I", exit_reason) + bytes(20) + payload).ljust(size, b"\0")


def test_there_are_fixtures() -> None:
    """The tests below would pass without any."""
    assert len(PAGES) > 50


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_genuine_page_says_what_its_log_says(path: Path) -> None:
    """KVM's numbers are the same, read from memory or from QEMU's print of them."""
    data = path.read_bytes()
    (reason,) = struct.unpack_from("<I", data, 8)
    (from_page,) = read(data).failures
    assert from_page.exit_reason == reason
    if reason != INTERNAL_ERROR:
        return
    logged = read((path.parent / "qemu.log").read_bytes()).failures
    assert (from_page.suberror, from_page.ndata, from_page.data) in {(f.suberror, f.ndata, f.data) for f in logged}


@pytest.mark.parametrize("path", [p for p in PAGES if "triple-fault" in str(p)], ids=name_of)
def test_a_stale_record_is_not_reported(path: Path) -> None:
    """A shutdown writes no payload: what lies in the union is of an earlier exit."""
    (failure,) = read(path.read_bytes()).failures
    assert failure.kind == "shutdown"
    assert (failure.suberror, failure.ndata, failure.data) == (None, None, ())


def test_stale_words_behind_ndata_are_not_reported() -> None:
    """The kernel clears nothing: words from ndata on are an older failure's."""
    words = struct.pack("<II16Q", 3, 2, *range(100, 116))
    (failure,) = read(page(INTERNAL_ERROR, words)).failures
    assert (failure.suberror, failure.ndata, failure.data) == (3, 2, (100, 101))


def test_a_count_that_no_page_can_hold_is_named() -> None:
    """ndata lies in memory that the VMM can write; there are sixteen words, whatever it says."""
    words = struct.pack("<II16Q", 1, 0xFFFFFFFF, *range(16))
    (failure,) = read(page(INTERNAL_ERROR, words)).failures
    assert failure.ndata == 0xFFFFFFFF
    assert failure.data == tuple(range(16))
    assert "16" in " ".join(failure.damage)


@pytest.mark.parametrize(
    ("reason", "payload", "kind", "field", "value"),
    [
        (9, struct.pack("<QI", 0x80000021, 3), "entry-failure", "hardware_error", 0x80000021),
        (0, struct.pack("<Q", 0x31), "unknown-exit", "hardware_reason", 0x31),
        (1, struct.pack("<II", 14, 2), "exception-exit", "exception", 14),
        (1, struct.pack("<II", 14, 2), "exception-exit", "exception_error_code", 2),
        (SHUTDOWN, b"", "shutdown", "exit_reason", 8),
        (2, b"", "other", "exit_reason", 2),
    ],
)
@pytest.mark.parametrize("size", [2352, 4096, 8192, 12288])
def test_other_exits(reason: int, payload: bytes, kind: str, field: str, value: int, *, size: int) -> None:
    """Each reason has its own payload; the size is that of the struct or of whole pages."""
    (failure,) = read(page(reason, payload, size)).failures
    assert failure.kind == kind
    assert getattr(failure, field) == value


@given(
    st.sampled_from((2352, 4096, 8192, 12288)), st.text(min_size=1), st.sampled_from(("utf-8", "utf-16-le", "utf-16"))
)
def test_a_text_of_a_page_s_size_is_no_page(size: int, text: str, encoding: str) -> None:
    """No text has six NUL bytes at 2 … 7."""
    printable = "".join(c for c in text if c.isprintable() and ord(c) < 0xD800) or "x"
    data = (printable * size).encode(encoding)[:size]
    assert not run_page.detect(data)


def test_a_log_of_a_page_s_size_is_read_as_a_log() -> None:
    """The size alone decides nothing."""
    log = (FIXTURES / "long64-flds" / "qemu.log").read_bytes().ljust(4096, b"\n")
    evidence = read(log)
    assert evidence.format == "QEMU log"
    assert len(evidence.failures) == 1


@given(st.integers(0, 5000))
def test_pages_of_other_sizes_are_none(size: int) -> None:
    """Half a page is not guessed at."""
    if size not in {2352, 4096}:
        assert not run_page.detect(bytes(size))


def test_the_fields_of_an_exit_of_another_kind_are_kept() -> None:
    """KVM_EXIT_SYSTEM_EVENT: type, ndata and as many words (linux/kvm.h)."""
    words = struct.pack("<II16Q", 7, 1, *range(100, 116))
    (failure,) = read(page(24, words)).failures
    assert failure.exit_fields == {"type": 7, "ndata": 1, "data[0]": 100}
