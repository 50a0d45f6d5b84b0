"""ESR_EL2 in words, by the Arm ARM's tables; the values are those of labs and of public reports."""

from __future__ import annotations

import pytest

from kvmwhy.abi.arm64.esr import describe, exception_class, is_undescribed_access, sentences


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


def test_the_fields_of_a_described_access() -> None:
    """ISV, SAS=3 (64 bits), SRT=7, SF: a load of X7 (Arm ARM, ISS encoding for an exception from a Data Abort)."""
    number = 0x24 << 26 | 1 << 25 | 1 << 24 | 3 << 22 | 7 << 16 | 1 << 15 | 0b000110
    assert sentences(number) == ("64 bits, register X7",)
    assert not is_undescribed_access(number)


def test_a_system_register_by_its_name() -> None:
    """CNTP_CTL_EL0 is S3_3_C14_C2_1 (Arm ARM); direction 1 reads."""
    number = 0x18 << 26 | 1 << 25 | 3 << 20 | 1 << 17 | 3 << 14 | 14 << 10 | 5 << 5 | 2 << 1 | 1
    assert sentences(number) == ("read of CNTP_CTL_EL0 (S3_3_C14_C2_1), register X5",)


def test_only_an_address_without_memory_needs_a_syndrome() -> None:
    """An alignment fault (0x21) is the guest's own, described or not."""
    assert is_undescribed_access(0x92000045)
    assert not is_undescribed_access(0x92000061)
    assert "-mstrict-align" in sentences(0x92000061)[0]
