"""The dump that knows no layout, read through the registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumps import words64
from kvmwhy.readers import read


@given(st.integers(1, 4), st.lists(words64, min_size=1, max_size=16))
def test_every_word_comes_back(suberror: int, words: list[int]) -> None:
    """One word a line, with the counts before them."""
    lines = [f"suberror = {suberror}", f"ndata = {len(words)}", *(f"data[{n}] = {w:#x}" for n, w in enumerate(words))]
    (failure,) = read("\n".join(lines).encode()).failures
    assert (failure.suberror, failure.ndata, failure.data) == (suberror, len(words), tuple(words))
    assert failure.damage == ()


def test_an_assumed_suberror_is_named() -> None:
    """The seed's own dumps are of suberror 1, and do not say so."""
    (failure,) = read(b"data[0] = 0x1\ndata[1] = 0x2\n").failures
    assert failure.suberror == 1
    assert "assumed" in failure.damage[0]


@pytest.mark.parametrize("piece", ["tra data[1]: 0", "a data[0]: 0x1", "data[3] = 0x2", "xtra data[0]: 0"])
def test_nothing_is_assumed_of_a_piece(piece: str) -> None:
    """One word may be any suberror's, and one of many: a log may have been cut inside QEMU's line."""
    (failure,) = read(piece.encode()).failures
    assert (failure.suberror, failure.ndata) == (None, None)
    assert any("suberror is missing" in remark for remark in failure.damage)


def test_a_remark_about_kvm_above_it_does_not_hide_it() -> None:
    """A word that a QEMU log would have is not yet a QEMU log."""
    (failure,) = read(b"KVM: my VMM says\nsuberror = 3\ndata[0] = 0x80000b0e\n").failures
    assert (failure.suberror, failure.data) == (3, (0x80000B0E,))


def test_a_text_without_words_is_none() -> None:
    """data[] of some program's source is no dump."""
    assert read(b"for (i = 0; i < n; i++) data[i] = 0;\n").failures == ()


WORDS = (1, 0x31, 0, 0xFFFFFFFF81000000)


@pytest.mark.parametrize(
    "text",
    [
        "$1 = {suberror = 1, ndata = 4, data = {1, 49, 0, 18446744071578845184, 0 <repeats 12 times>}}",
        "$2 = {suberror = 0x1, ndata = 0x4, data = {0x1, 0x31, 0x0, 0xffffffff81000000, 0x0 <repeats 12 times>}}",
        "InternalError { suberror: 1, ndata: 4, data: [1, 49, 0, 18446744071578845184, 0, 0, 0, 0] }",
        "{Suberror:1 Ndata:4 Data:[1 49 0 18446744071578845184 0 0 0 0]}",
        "{'suberror': 1, 'ndata': 4, 'data': [1, 49, 0, 18446744071578845184]}",
        '{"suberror": 1, "ndata": 4, "data": ["0x1", "0x31", "0x0", "0xffffffff81000000"]}',
    ],
    ids=["gdb print", "gdb print/x", "Rust Debug", "Go %+v", "Python", "JSON"],
)
def test_the_union_as_a_debugger_or_a_language_prints_it(text: str) -> None:
    """The array of the page has sixteen words; ndata says how many of them mean something."""
    (failure,) = read(f"vcpu 0: {text}\n".encode()).failures
    assert (failure.kind, failure.suberror, failure.ndata, failure.data) == ("internal-error", 1, 4, WORDS)
    assert failure.damage == ()


def test_words_behind_a_gap_are_kept() -> None:
    """A lost line loses one word."""
    (failure,) = read(b"suberror = 3\ndata[0] = 0x1\ndata[2] = 0x3\n").failures
    assert (failure.data, failure.data_apart, failure.ndata) == ((1,), {2: 3}, None)
