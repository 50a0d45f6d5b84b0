"""The format-ignorant dump, written and read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.abi.hexdump import read_dump, write_dump

u64 = st.integers(0, 2**64 - 1)


@given(st.integers(0, 4), st.lists(u64, max_size=16))
def test_what_is_written_is_read_back(suberror: int, words: list[int]) -> None:
    """No word is interpreted, so none can be lost."""
    dump = read_dump(write_dump(suberror, tuple(words)))
    assert dump is not None
    assert (dump.suberror, dump.ndata, dump.data, dump.damage) == (suberror, len(words), tuple(words), ())


@given(st.text())
def test_any_text_is_read_or_is_no_dump(text: str) -> None:
    """No text crashes the reader."""
    dump = read_dump(text)
    assert dump is None or len(dump.data) <= 16


def test_a_gap_ends_the_words_and_is_named() -> None:
    """Words behind a missing one have no certain place in a layout."""
    dump = read_dump("data[0] = 0x1\ndata[2] = 0x3\n")
    assert dump is not None
    assert dump.data == (1,)
    assert "data[1] is missing" in dump.damage[0]


def test_a_word_given_twice_and_an_index_too_high_are_named() -> None:
    """The first value stays, the contradiction is told."""
    dump = read_dump("data[0] = 0x1\ndata[0] = 0x2\ndata[16] = 0x3")
    assert dump is not None
    assert dump.data == (1,)
    assert len(dump.damage) == 2
