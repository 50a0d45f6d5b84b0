"""What the words say about the failing access."""

from __future__ import annotations

import pytest

from kvmwhy.abi.x86.memory_access import ExitWords, access_of_delivery, access_of_exit


@pytest.mark.parametrize(
    ("vendor", "words", "kind", "gpa", "gva"),
    [
        ("vmx", (0x30, 0x584, 0, 0, 0), "fetch", None, None),  # public: jump to 0xb0000
        ("vmx", (0x30, 0x182, 0, 0, 0), "write", None, None),  # lab: store
        ("vmx", (0x30, 0x181, 0, 0, 0), "read", None, None),  # lab: load
        ("vmx", (0x30, 0x82, 0, 0, 0), "page-walk", None, None),  # lab: page table in the hole
        ("vmx", (0x30, 0x181, 0x80000306, 0, 0), "event-delivery", None, None),  # lab: IDT in the hole
        ("vmx", (0x31, 0, 0, 0, 0), None, None, None),
        ("vmx", (0x2C, 0x10B0, 0, 0, 0), "write", None, None),  # APIC page
        ("vmx", (0, 0xD0000000, 0, 0x80000B0E, 2), "write", None, 0xD0000000),  # lab: ept=0 store
        ("vmx", (0, 0xD0000000, 0, 0x80000B0E, 0x19), "fetch", None, 0xD0000000),  # lab: ept=0 jump
        ("vmx", (0x80000021, 0, 0, 0, 0), None, None, None),
        ("vmx", (0, 0, 0, 0, 0), None, None, None),
        ("svm", (0x400, 0x10000000F, 0x4A0003140, 0, 0), "write", 0x4A0003140, None),  # public
        ("svm", (0x400, 0x10000000C, 0xD0000000, 0, 0), "read", 0xD0000000, None),  # lab
        ("svm", (0x400, 0x100000014, 0xD0000123, 0, 0), "fetch", 0xD0000123, None),
        ("svm", (0x400, 0x200000006, 0xD0000ABC, 0, 0), "page-walk", 0xD0000ABC, None),
        ("svm", (0x4E, 2, 0xD0000000, 0, 0), "write", None, 0xD0000000),
        ("svm", (0x72, 0, 0, 0, 0), None, None, None),
        ("pvm", (0x1000, 0, 0, 0, 0), None, None, None),
        ("tdx", (0x30, 0x184, 0x80000306, 0, 0), "fetch", None, None),  # info2 is no event on TDX
        (None, (0x400, 0x10000000F, 0x4A0003140, 0, 0), None, None, None),
    ],
)
def test_exit_words(
    vendor: str | None, words: tuple[int, int, int, int, int], kind: str | None, gpa: int | None, gva: int | None
) -> None:
    """VMX says how, never where; SVM says both; low bits of an address are kept."""
    access = access_of_exit(vendor, ExitWords(*words))
    assert (access.kind, access.gpa, access.gva) == (kind, gpa, gva)


@pytest.mark.parametrize(
    ("vendor", "data", "kind", "gpa", "gva"),
    [
        ("vmx", (0x80000B0E, 0x31, 0x683, 0x7F809000, 0x26), "event-delivery", 0x7F809000, None),
        ("vmx", (0x80000B0E, 0x31, 0x981, 0x2B570), "event-delivery", 0x2B570, None),
        ("vmx", (0x800000FD, 0x31), "event-delivery", None, None),
        ("vmx", (0x8000002F, 0x20, 0x582, 6), None, None, None),
        ("vmx", (0x80000306, 0x30, 0x181, 0xD0000060, 0), "event-delivery", 0xD0000060, None),
        ("vmx", (0x80000B0E, 0x30, 0x83, 0xD0000000, 0), "page-walk", 0xD0000000, None),
        ("vmx", (0x80000306, 0, 0xD0000060, 0xD0000060, 0), "event-delivery", None, 0xD0000060),
        ("vmx", (0x8000002F, 0x31, 0, 2**64 - 1, 0), "event-delivery", None, None),
        ("svm", (0xD0000060, 0x400, 0x100000004, 0xD0000060, 3), "event-delivery", 0xD0000060, None),
        ("svm", (0xD0000060, 0x4E, 0, 0xD0000060, 3), "event-delivery", None, 0xD0000060),
        (None, (0x80000B0E, 0x31, 0x683, 0x7F809000, 0x26), None, None, None),
        ("vmx", (0x80000B0E,), None, None, None),
    ],
)
def test_delivery_words(
    vendor: str | None, data: tuple[int, ...], kind: str | None, gpa: int | None, gva: int | None
) -> None:
    """The address is a GPA, with shadow paging a GVA, all ones not known; with four words it may be the CPU."""
    access = access_of_delivery(vendor, data)
    assert (access.kind, access.gpa, access.gva) == (kind, gpa, gva)


def test_a_stale_qualification_decides_nothing() -> None:
    """0x683 beside EPT_MISCONFIG looks like a page walk, but the word is undefined there."""
    access = access_of_delivery("vmx", (0x80000B0E, 0x31, 0x683, 0x7F809000, 0x26))
    assert access.kind == "event-delivery"


def test_no_linear_address_is_not_certain() -> None:
    """Bit 7 clear: no linear address stands behind the access."""
    assert not access_of_exit("vmx", ExitWords(0x30, 0x1, 0, 0, 0)).certain
