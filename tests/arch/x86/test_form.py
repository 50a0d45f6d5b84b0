"""Forms of instructions: what the manuals' operand columns say, and nothing that a compiler chooses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.x86.instruction import decode_first
from kvmwhy.arch.x86.instruction_form import form_of


def form(code: bytes, bitness: int = 64) -> str | None:
    found = decode_first(code, bitness=bitness, address=0x1000)
    assert found is not None
    return form_of(found, bitness=bitness)


@pytest.mark.parametrize(
    ("code", "bitness", "wanted"),
    [
        ("0f1003", 64, "movups xmm,m128"),
        ("0f1103", 64, "movups m128,xmm"),
        ("d903", 64, "fld m32"),
        ("dd03", 32, "fld m64"),
        ("d9c1", 64, "fld st"),
        ("f3a4", 64, "rep movsb m8,m8"),
        ("a4", 16, "movsb m8,m8"),
        ("f3c3", 64, "ret"),  # REP before RET means nothing
        ("ec", 64, "in al,dx"),
        ("e680", 64, "out imm,al"),
        ("0f22c0", 64, "mov cr0,r64"),
        ("0f20e3", 64, "mov r64,cr4"),
        ("0f23f8", 64, "mov dr7,r64"),
        ("8e18", 64, "mov ds,m16"),
        ("06", 32, "push es"),
        ("d323", 64, "shl m32,cl"),
        ("c12303", 64, "shl m32,imm"),
        ("f0480fc70b", 64, "lock cmpxchg16b m128"),
        ("480fae03", 64, "fxsave64 m512byte"),
        ("0fae23", 64, "xsave m"),  # how much it stores is in XCR0, not in its bytes
        ("c5fe6f03", 64, "vmovdqu ymm,m256"),
        ("c5f81003", 64, "vmovups xmm,m128"),
        ("62f17c081003", 64, "{evex} vmovups xmm,m128"),
        ("62f17cc91003", 64, "{evex} vmovups zmm{k}{z},m512"),
        ("62f17c585803", 64, "{evex} vaddps zmm,zmm,m32bcst"),
        ("62f27d0990040d00000000", 64, "{evex} vpgatherdd xmm{k},vm32"),
        ("e800000000", 64, "call rel"),
        ("9a00000000", 16, "call ptr"),
        ("ff2b", 64, "jmp m48"),
        ("c703", 64, "mov (cut off)"),
        ("c7", 64, None),
        ("ffff", 64, None),
    ],
)
def test_forms_are_those_of_the_manual(code: str, bitness: int, wanted: str | None) -> None:
    """The operation with the kinds and sizes of its operands, as SDM vol. 2 has them; LOCK and REP where they count."""
    assert form(bytes.fromhex(code), bitness) == wanted


memory = st.integers(0, 2).flatmap(
    lambda mod: st.tuples(st.integers(0, 7), st.integers(0, 7)).map(lambda r: mod << 6 | r[0] << 3 | r[1])
)
rest = st.binary(min_size=8, max_size=8)  # SIB and displacement, whatever they are


@given(st.sampled_from([0x40, 0x41, 0x42, 0x44, 0x47]), memory, rest)
def test_registers_and_addresses_are_not_in_a_form(rex: int, modrm: int, tail: bytes) -> None:
    """Every register and every address that MOVUPS can be encoded with: one form for loads, one for stores."""
    assert form(bytes((rex, 0x0F, 0x10, modrm)) + tail) == "movups xmm,m128"
    assert form(bytes((rex, 0x0F, 0x11, modrm)) + tail) == "movups m128,xmm"


@given(st.integers(0xC0, 0xFF), st.booleans())
def test_a_register_is_not_memory(modrm: int, wide: bool) -> None:
    """ADD with two registers is another form than ADD with memory, and 64 bits another than 32."""
    size = 64 if wide else 32
    assert form(bytes((0x48 if wide else 0x40, 0x01, modrm))) == f"add r{size},r{size}"


@given(st.binary(min_size=1, max_size=15), st.sampled_from([16, 32, 64]))
def test_any_bytes_have_a_form_or_none(code: bytes, bitness: int) -> None:
    """Nothing raises; what decodes has a form, without a number of an address or an immediate in it."""
    found = decode_first(code, bitness=bitness, address=0)
    assert found is not None
    made = form_of(found, bitness=bitness)
    assert (made is not None) >= (found.text is not None)
    assert "0x" not in (made or "")
    assert "?" not in (made or "")
