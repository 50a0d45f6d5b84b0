"""Which words of A64 carry a syndrome, against Arm's manual and against a sweep of a CPU model under real KVM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.arm64.load_store import LoadStore, load_store

SAMPLES = Path(os.environ.get("KVMWHY_SAMPLES", Path(__file__).parents[4] / "shared" / "samples"))
SWEEP = SAMPLES / "arm64-isv-4000-7.3.4.tsv"

# Assembled by hand from the encodings of the manual; the text is GNU as's.
KNOWN = {
    0xF9400003: ("ldr x3,[x0]", "one register", True),
    0x79000003: ("strh w3,[x0]", "one register", True),
    0xF8626803: ("ldr x3,[x0,x2]", "one register", True),
    0xF8401003: ("ldur x3,[x0,#1]", "one register", True),
    0xF8400803: ("ldtr x3,[x0]", "one register", True),
    0xC8DFFC03: ("ldar x3,[x0]", "acquire or release", True),
    0xF8BFC003: ("ldapr x3,[x0]", "acquire or release", True),
    0xF8408403: ("ldr x3,[x0],#8", "write-back", False),
    0x38001403: ("strb w3,[x0],#1", "write-back", False),
    0xA9401003: ("ldp x3,x4,[x0]", "pair", False),
    0xA8C17BFD: ("ldp x29,x30,[sp],#16", "pair", False),
    0x3DC00000: ("ldr q0,[x0]", "SIMD and FP register", False),
    0x4C407000: ("ld1 {v0.16b},[x0]", "SIMD structure", False),
    0xC85F7C03: ("ldxr x3,[x0]", "exclusive", False),
    0xC8A37C04: ("cas x3,x4,[x0]", "compare and swap", False),
    0x48247C06: ("casp x4,x5,x6,x7,[x0]", "compare and swap", False),
    0xF8230004: ("ldadd x3,x4,[x0]", "atomic", False),
    0xB8238004: ("swp w3,w4,[x0]", "atomic", False),
}


@pytest.mark.parametrize("word", KNOWN, ids=[text for text, *_ in KNOWN.values()])
def test_known_instructions(word: int) -> None:
    """One register without write-back, and nothing else."""
    _, form, described = KNOWN[word]
    found = load_store(word)
    assert isinstance(found, LoadStore)
    assert (found.form, found.described) == (form, described)


@given(st.integers(0, (1 << 32) - 1))
def test_every_word_has_an_answer(word: int) -> None:
    """Total: a load or store, undefined, or something else."""
    found = load_store(word)
    assert (found is None) is (word >> 27 & 1 == 0 or word >> 25 & 1 == 1)


@pytest.mark.skipif(not SWEEP.exists(), reason="no sweep beside the checkout: KVMWHY_SAMPLES names where it is")
def test_the_sweep_agrees() -> None:
    """4,000 random words, each executed at an address without RAM: what came to the VMM came with a syndrome."""
    differ = []
    for line in SWEEP.read_text().splitlines()[1:]:
        word, text, seen, esr = line.split("\t")
        found = load_store(int(word, 16))
        wanted = {"mmio": True, "no-syndrome": False}.get(seen)
        if wanted is not None and (not isinstance(found, LoadStore) or found.described is not wanted):
            differ.append((word, text, seen, found))
        if seen == "exception" and esr == "0x2000000" and isinstance(found, LoadStore) and found.form in PLAIN:
            differ.append((word, text, seen, found))  # an undefined instruction, and no extension's
    assert not differ


PLAIN = {"one register", "write-back", "pair", "SIMD and FP register", "literal", "exclusive"}
