"""PSTATE in words, by the layout of SPSR in Arm's manual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.arm64.pstate import level, mode, words


@pytest.mark.parametrize(
    ("pstate", "shown"),
    [
        (0x3C5, ["EL1h", "all interrupts masked"]),
        (0x600003C5, ["EL1h", "all interrupts masked"]),
        (0x80000005, ["EL1h"]),
        (0x3C9, ["EL2h", "all interrupts masked"]),
        (0x1D3, ["AArch32 Supervisor, A32", "SError, IRQ, FIQ masked"]),
        (0x30, ["AArch32 User, Thumb"]),
        (0x1003C5, ["EL1h", "all interrupts masked", "illegal execution state"]),
        (0x200000, ["EL0", "single step"]),
        (0x85, ["EL1h", "IRQ masked"]),
    ],
)
def test_words(pstate: int, shown: list[str]) -> None:
    """The mode first, then what is out of the ordinary."""
    assert words(pstate) == shown


@given(st.integers(0, (1 << 64) - 1))
def test_any_value(pstate: int) -> None:
    """Every value has a mode."""
    assert mode(pstate)
    assert level(pstate) in {None, 0, 1, 2, 3}
