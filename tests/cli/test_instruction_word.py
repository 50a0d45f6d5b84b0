"""--bytes on arm64 and riscv64: a word, or bytes in memory's order. Encodings are GNU as's."""

from __future__ import annotations

import pytest

from kvmwhy.cli.instruction_word import code_of, word_of


@pytest.mark.parametrize(
    ("arch", "text", "code"),
    [
        ("arm64", "a9401003", "031040a9"),  # ldp x3, x4, [x0]
        ("arm64", "0xA9401003", "031040a9"),
        ("arm64", "03 10 40 a9", "031040a9"),
        ("arm64", "0x03, 0x10, 0x40, 0xa9", "031040a9"),
        ("riscv64", "00053583", "83350500"),  # ld a1, 0(a0)
        ("riscv64", "83 35 05 00", "83350500"),
        ("riscv64", "610c", "0c61"),  # c.ld a1, 0(a0)
        ("riscv64", "0c 61", "0c61"),
    ],
)
def test_a_word_and_its_bytes(arch: str, text: str, code: str) -> None:
    """In one piece most significant digits first, as objdump prints it; in several as a hex dump of memory does."""
    assert code_of(word_of(text, arch), arch).hex() == code


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        ("arm64", "a9 40"),  # no instruction of A64 has two bytes
        ("arm64", "a940 1003"),
        ("arm64", "123456789"),
        ("arm64", "-1"),
        ("arm64", ""),
        ("riscv64", "83350500"),  # the bytes of ld a1, 0(a0) in memory: as a word its low bits are of a short one
        ("riscv64", "83 35"),
        ("riscv64", "0c 61 00 00"),
        ("riscv64", "610c_"),
    ],
)
def test_what_is_neither_is_refused(arch: str, text: str) -> None:
    """With both ways in the sentence."""
    with pytest.raises(ValueError, match=r"--bytes takes an instruction's word, such as .*, or its bytes in memory"):
        word_of(text, arch)
