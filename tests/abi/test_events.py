"""Interruption-information words, exceptions, page-fault error codes."""

from __future__ import annotations

import pytest

from kvmwhy.abi.x86.exceptions import PUSHES_ERROR_CODE, describe_vector, mnemonic
from kvmwhy.abi.x86.intr_info import decode_event, describe_event, looks_like_event
from kvmwhy.abi.x86.page_fault import describe_page_fault_error, kind_of_access


def test_the_fields_sit_where_the_manual_puts_them() -> None:
    """SDM 25.9.2: vector 7:0, type 10:8, error code 11, NMI unblocking 12, valid 31."""
    event = decode_event(0x80000B0E, vendor="vmx")
    assert (event.valid, event.vector, event.type, event.has_error_code) == (True, 14, 3, True)
    assert event.mnemonic == "#PF"
    assert not event.nmi_unblocking
    assert decode_event(0x80001B0E, vendor="vmx").nmi_unblocking
    assert not decode_event(0x80001B0E, vendor="svm").nmi_unblocking


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0x80000B0E, "#PF (vector 14, hardware exception, with error code)"),
        (0x80000306, "#UD (vector 6, hardware exception)"),
        (0x80000603, "#BP (vector 3, software exception)"),
        (0x80000501, "#DB (vector 1, privileged software exception)"),
        (0x80000202, "NMI (vector 2)"),
        (0x8000002F, "external interrupt, vector 47 (0x2f)"),
        (0x80000480, "software interrupt (INT 0x80), vector 128"),
        (0, "not valid"),
    ],
)
def test_vmx_events_are_named(word: int, text: str) -> None:
    """Each VMX event type reads as the SDM names it."""
    assert describe_event(word, "vmx") == text


def test_svm_has_fewer_types() -> None:
    """APM 15.20: types 0, 2, 3 and 4 only; 5 and 6 are reserved, bit 12 too."""
    assert describe_event(0x8000030D, "svm") == "#GP (vector 13, exception)"
    assert "reserved type 6" in describe_event(0x80000603, "svm")
    assert "0x1000" in describe_event(0x8000130D, "svm")


def test_reserved_bits_are_shown() -> None:
    """Bits 30:13 are reserved in every form; one that is set must not vanish."""
    assert "reserved bits 0x40000000 set" in describe_event(0xC0000B0E, "vmx")


def test_an_invalid_word_is_not_read() -> None:
    """Without bit 31 the other fields mean nothing, but are kept."""
    text = describe_event(0x30E, "vmx")
    assert text.startswith("not valid")
    assert "0x30e" in text
    assert "#PF" not in text


@pytest.mark.parametrize("word", [0, 0x31, 0x80000106, 0x80000320, 0x80000203, 0xD0000060, 0x180000B0E])
def test_words_that_cannot_be_events(word: int) -> None:
    """No valid bit, type 1, an exception past vector 31, an NMI other than 2, or reserved bits."""
    assert not looks_like_event(word)


def test_which_vectors_push_an_error_code() -> None:
    """SDM table 6-1 and APM table 8-1."""
    assert sorted(PUSHES_ERROR_CODE) == [8, 10, 11, 12, 13, 14, 17, 21, 29, 30]


def test_vectors_without_a_name_stay_numbers() -> None:
    """15 is reserved, 9 has a name but no mnemonic."""
    assert mnemonic(15) is None
    assert describe_vector(15) == "vector 15"
    assert describe_vector(9) == "vector 9 (coprocessor segment overrun)"
    assert describe_vector(6) == "#UD (invalid opcode)"


def test_npf_of_a_known_mmio_page() -> None:
    """0x10000000f: P, W, U, RSVD and bit 32 (final address)."""
    text = describe_page_fault_error(0x10000000F, nested=True)
    assert text.startswith("write; ")
    assert "reserved bit" in text
    assert "final guest physical address" in text
    assert "page tables" not in text.replace("page table entry", "")


def test_npf_bit_33_is_a_page_walk() -> None:
    """APM 15.25.6: bit 33 is set for a fault while walking the guest's tables."""
    assert "walking the guest's own page tables" in describe_page_fault_error(0x200000006, nested=True)


def test_a_plain_page_fault() -> None:
    """0x10 is a supervisor fetch from a page that is not there; 0x9 a read that met a reserved bit."""
    assert describe_page_fault_error(0x10, nested=False) == (
        "instruction fetch; supervisor mode; the page is not present"
    )
    assert describe_page_fault_error(9, nested=False) == (
        "read; supervisor mode; the page is present; a reserved bit is set in the page tables"
    )


def test_bits_of_the_other_kind_stay_raw() -> None:
    """Bit 32 is no page-fault bit, bit 50 nobody's."""
    assert "0x100000000" in describe_page_fault_error(0x100000000, nested=False)
    assert "0x4000000000000" in describe_page_fault_error(1 << 50, nested=True)


def test_a_fetch_wins_over_the_write_bit() -> None:
    """The bit for a fetch is set for nothing else."""
    assert [kind_of_access(code) for code in (0, 2, 0x10, 0x12)] == ["read", "write", "fetch", "fetch"]
