"""Whose numbers are these? Certain only where the numbers decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.abi.x86.vendor_guess import (
    VendorGuess,
    vendor_of_delivery,
    vendor_of_entry_failure,
    vendor_of_reason,
    vendor_of_simultaneous,
    vendor_of_unexpected,
)

u64 = st.integers(0, 2**64 - 1)


def guess(*words: int) -> str | None:
    reason, info1, info2, intr_info = (*words, 0, 0, 0)[:4]
    return vendor_of_reason(reason, info1=info1, info2=info2, intr_info=intr_info).vendor


@pytest.mark.parametrize(
    ("words", "vendor"),
    [
        ((0x31,), "vmx"),  # public report: XSAVE on emulated CXL memory
        ((0x30, 0x584), "vmx"),  # public report: jump to 0xb0000
        ((0x30, 0x1AA), "vmx"),  # lab: read-only memslot
        ((0x30, 0x181, 0x80000306), "vmx"),  # lab: #UD with the IDT in the hole
        ((0, 0xD0000000, 0, 0x80000B0E), "vmx"),  # lab: ept=0
        ((0, 0xD0000060, 0x80000306, 0x80000B0E), "vmx"),  # lab: ept=0, IDT in the hole
        ((0x80000021,), "vmx"),  # lab: big real mode
        ((0x1B,), "vmx"),  # lab: vmxon operand in the hole; AMD has no CR11
        ((0x3A,), "vmx"),  # lab: invpcid, ept=0; AMD has no DR10
        ((0xDEAD,), "vmx"),
        ((0x04000030, 0x181), "vmx"),
        ((0x400, 0x10000000F, 0x4A0003140), "svm"),  # public report: XSAVEC on AMD
        ((0x4E, 2, 0xD0000000), "svm"),  # lab: npt=0
        ((0x72,), "svm"),
        ((0x80000010,), "svm"),
        ((0xFFFFFFFF,), "svm"),
        ((0xFFFFFFFFFFFFFFFF,), "svm"),
        ((0x00, 0x8000000000000003), "svm"),
        ((0x1000,), "pvm"),  # measured on this module
        ((0x20000,), "pvm"),
        ((0x0E, 0x0E, 2, 0x0E), "pvm"),
        ((0xE000060400000000,), "tdx"),
    ],
)
def test_numbers_that_decide(words: tuple[int, ...], vendor: str) -> None:
    """Public reports and lab measurements whose vendor is known otherwise."""
    assert guess(*words) == vendor


@pytest.mark.parametrize(
    "words",
    [
        (0,),
        (0x30,),
        (0x30, 0x3),  # a register number or a qualification
        (0x46,),  # ENCLV or #UD
        (0x55,),
        (0x56,),  # not assigned by either when this was written
        (0x4E, 0, 0),
        (0x33,),
        (0xA7,),
        (0x404,),
        (0x100000030,),
        (0x7FFFFFFF,),
    ],
)
def test_numbers_that_do_not_decide(words: tuple[int, ...]) -> None:
    """Where both vendors, or neither, have the number, nobody is named."""
    assert guess(*words) is None


def test_an_all_zero_record_says_no_entry() -> None:
    """Lab: five zero words mean that no VM entry had happened."""
    assert "no VM entry" in vendor_of_reason(0).why


@pytest.mark.parametrize(
    ("data", "vendor"),
    [
        ((0x80000B0E, 0x31, 0x683, 0x7F809000, 0x26), "vmx"),
        ((0x8000002F, 0x20, 0x582, 6), "vmx"),
        ((0x80000B0E, 0x31, 0x981, 0x2B570), "vmx"),
        ((0x800000FD, 0x31), "vmx"),
        ((0x80000306, 0, 0xD0000060, 0xD0000060, 0), "vmx"),
        ((0xD0000060, 0x400, 0x100000004, 0xD0000060, 3), "svm"),
        ((0xD0000060, 0x4E, 0, 0xD0000060, 3), "svm"),
        ((0xD0000060, 0x30, 0x181, 0xD0000060, 3), None),
        ((0x80000B0E,), None),
        ((), None),
    ],
)
def test_delivery(data: tuple[int, ...], vendor: str | None) -> None:
    """Suberror 3 by the first word: Intel stores the event, AMD (6.14 on) EXITINFO2."""
    assert vendor_of_delivery(data).vendor == vendor


@pytest.mark.parametrize(
    ("data", "vendor"),
    [
        ((0xE000060400000000, 0x31), "tdx"),
        ((0x33, 2), "vmx"),  # RDTSCP; AMD's write to DR3 is always handled
        ((0x75, 2), "svm"),  # INT n
        ((0x42,), None),  # UMWAIT has 0x43; 0x42 is Intel's SPP event or AMD's NMI vector
        ((0x30, 1), None),
        ((0,), None),
        ((), None),
    ],
)
def test_unexpected(data: tuple[int, ...], vendor: str | None) -> None:
    """Suberror 4: a reason with a handler cannot be what had none."""
    assert vendor_of_unexpected(data).vendor == vendor


def test_simultaneous_is_vmx() -> None:
    """Only vmx.c raises suberror 2."""
    assert vendor_of_simultaneous((0x80000008, 0x80000B08)).vendor == "vmx"


@pytest.mark.parametrize(
    ("code", "vendor"),
    [(7, "vmx"), (0x80000021, "vmx"), (0xFFFFFFFF, "svm"), (0, None), (1, None), (0xFFFFFFFFFFFFFFEA, None)],
)
def test_entry_failure(code: int, vendor: str | None) -> None:
    """KVM_EXIT_FAIL_ENTRY by its numbering."""
    assert vendor_of_entry_failure(code).vendor == vendor


@given(u64, u64, u64, u64)
def test_any_words_give_a_guess_with_a_reason(reason: int, info1: int, info2: int, intr_info: int) -> None:
    """No word crashes a guess, and none is without its why."""
    guesses: list[VendorGuess] = [
        vendor_of_reason(reason, info1=info1, info2=info2, intr_info=intr_info),
        vendor_of_delivery((reason, info1, info2, intr_info, reason)),
        vendor_of_unexpected((reason, info1)),
        vendor_of_entry_failure(reason),
    ]
    for each in guesses:
        assert each.vendor in (None, "vmx", "svm", "tdx", "pvm")
        assert each.why.isprintable()
        assert each.why
