"""ESR_EL2 in words, by the Arm ARM's tables; the values are those of labs and of public reports."""

from __future__ import annotations

import pytest

from kvmwhy.abi.arm64.esr import describe, exception_class


@pytest.mark.parametrize(
    ("esr", "words"),
    [
        (0x92000005, "data abort in the guest: translation fault, level 1, read, without a syndrome"),
        (0x92000045, "data abort in the guest: translation fault, level 1, write, without a syndrome"),
        (0x93C38005, "data abort in the guest: translation fault, level 1, read, with a syndrome"),
        (0x92000061, "data abort in the guest: alignment fault, write, without a syndrome"),
        (0x96000010, "data abort at EL2: synchronous external abort, read"),
        (0x82000005, "instruction abort in the guest: translation fault, level 1"),
        (0x3A000000, "illegal execution state"),
        (0xF2000800, "BRK"),
    ],
)
def test_describe(esr: int, words: str) -> None:
    """Class, fault, direction, and whether KVM could know the register."""
    assert describe(esr).startswith(words)


def test_every_value_has_words() -> None:
    """No class and no fault status is without."""
    assert all(describe(number << 26 | status) for number in range(64) for status in range(64))
    assert exception_class(0x92000045) == 0x24
