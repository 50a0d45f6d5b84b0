"""Assembly text is told as its encoding is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arch.arm64.test_load_store import KNOWN, SWEEP
from kvmwhy.arch.arm64.assembly import form_of
from kvmwhy.arch.arm64.load_store import LoadStore, load_store


@pytest.mark.parametrize("word", KNOWN, ids=[text for text, *_ in KNOWN.values()])
def test_known_instructions(word: int) -> None:
    """The text leads where the word does."""
    assert form_of(KNOWN[word][0]) == load_store(word)


@pytest.mark.parametrize("text", ["add x0, x1, x2", "mov x0, #1", "b 0x1000", "dc zva, x0", "", "[", "lddp x0"])
def test_what_is_no_load_or_store(text: str) -> None:
    """Nothing is said of what is not known."""
    assert form_of(text) is None


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Users' text: no answer, or one of the forms."""
    assert form_of(text) is None or isinstance(form_of(text), LoadStore)


@pytest.mark.skipif(not SWEEP.exists(), reason="no sweep beside the checkout: KVMWHY_SAMPLES names where it is")
def test_the_sweeps_texts() -> None:
    """A disassembler's text of 4,000 words says the same of their syndromes as the words do."""
    differ = []
    for line in SWEEP.read_text().splitlines()[1:]:
        word, text, *_ = line.split("\t")
        by_word, by_text = load_store(int(word, 16)), form_of(text)
        if isinstance(by_word, LoadStore) and (by_text is None or by_text != by_word):
            differ.append((word, text, by_word, by_text))
    assert not differ
