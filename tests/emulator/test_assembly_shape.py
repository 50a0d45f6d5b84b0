"""The shape of an instruction's text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.emulator.assembly_shape import shape


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ldr x4, [x0]", "LDR X1,[X30, #8]"),
        ("ldr x4, [x0]", "ldr xzr, [sp]"),
        ("ldr x4, [x0, #16]!", "ldr x1, [x2, #-8]!"),
        ("ldr x4, [x0], #0", "ldr x1, [x2], #8"),
        ("ld2 {v4.16b-v5.16b}, [x0]", "ld2 {v1.16b, v2.16b}, [x3]"),
        ("ld1 {v4.b}[0], [x0]", "ld1 {v9.b}[15], [x1]"),
        ("prfm pldl3keep, [x0]", "prfm pstl1strm, [x7, #8]"),
        ("ldr x4, fffffffffffe8000 <.text>", "ldr x0, 0x1000"),
        ("dc civac, x0", "dc civac, x9"),
        ("ld1w {z4.s}, p0/z, [x0, #2, mul vl]", "ld1w {z0.s}, p7/z, [x3]"),
        ("ldaddl w2, w4, [x0]", "staddl w1, [x2]"),
        ("ldclr", "stclr"),
    ],
)
def test_alike_on_arm(one: str, other: str) -> None:
    """Registers, offsets and spelling do not matter."""
    assert shape(one, "arm64") == shape(other, "arm64")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ldr x4, [x0]", "ldr w4, [x0]"),
        ("ldr x4, [x0]", "ldr x4, [x0, #8]!"),
        ("ldr x4, [x0]", "ldr x4, [x0], #8"),
        ("ldr x4, [x0]", "ldr x4, [x0, x2]"),
        ("ldr d4, [x0]", "ldr s4, [x0]"),
        ("ld2 {v4.16b-v5.16b}, [x0]", "ld2 {v4.8b-v5.8b}, [x0]"),
        ("sys #1, c7, c11, #5, x0", "sys #1, c7, c11, #6, x0"),
        ("dc civac, x0", "dc zva, x0"),
    ],
)
def test_different_on_arm(one: str, other: str) -> None:
    """Width, write-back, index and operation do."""
    assert shape(one, "arm64") != shape(other, "arm64")


def test_riscv() -> None:
    """The same of RISC-V, where a register has two names."""
    assert shape("lw a2,0(a0)", "riscv64") == shape("LW x5, -4(x7)", "riscv64")
    assert shape("flw fa0,0(a0)", "riscv64") == shape("flw ft3, 8(sp)", "riscv64")
    assert shape("amoadd.w a2,a2,(a0)", "riscv64") == shape("amoadd.w t0, t1, 0(s1)", "riscv64")
    assert shape("vle8.v v8,(a0),v0.t", "riscv64") != shape("vle8.v v8,(a0)", "riscv64")
    assert shape("c.lw a2,0(a0)", "riscv64") != shape("lw a2,0(a0)", "riscv64")


@given(st.text(max_size=200), st.sampled_from(["arm64", "riscv64"]))
def test_any_text(text: str, arch: str) -> None:
    """What a person types never fails."""
    assert isinstance(shape(text, arch), str)
