"""One field, several numberings."""

from __future__ import annotations

import pytest

from kvmwhy.abi.x86.entry_failure import describe_entry_failure
from kvmwhy.abi.x86.tdx import describe_slot, describe_status, looks_like_status


@pytest.mark.parametrize(
    ("code", "name", "vendor"),
    [
        (0x80000021, "INVALID_STATE", "vmx"),
        (0x80000022, "MSR_LOAD_FAIL", "vmx"),
        (0x80000029, "MCE_DURING_VMENTRY", "vmx"),
        (5, "VM-instruction error 5", "vmx"),
        (7, "VM-instruction error 7", "vmx"),
        (8, "VM-instruction error 8", "vmx"),
        (26, "VM-instruction error 26", "vmx"),
        (0xFFFFFFFF, "VMEXIT_INVALID", "svm"),
        (0xFFFFFFFFFFFFFFFF, "VMEXIT_INVALID", "svm"),
        (0xFFFFFFFFFFFFFFEA, "EINVAL", None),
        (0xFFFFFFEA, "EINVAL", None),
        (0, "none", None),
    ],
)
def test_codes(code: int, name: str, vendor: str | None) -> None:
    """The codes of public reports and of the lab, each under its own numbering."""
    failure = describe_entry_failure(code)
    assert (failure.name, failure.vendor) == (name, vendor)


def test_an_error_no_entry_can_give_is_not_claimed_for_intel() -> None:
    """1 is VMCALL in VMX root; arm64 and RISC-V use 1 for failures of their own."""
    failure = describe_entry_failure(1)
    assert failure.vendor is None
    assert "other architectures" in failure.sentence


def test_an_exit_reason_that_cannot_fail_an_entry_is_unknown() -> None:
    """Bit 31 comes with 33, 34 and 41 only."""
    assert describe_entry_failure(0x80000030).scheme == "unknown"


def test_a_poisoned_td() -> None:
    """0xe000060400000000: TDX_TD_FATAL with the error, non-recoverable and fatal bits."""
    text = describe_status(0xE000060400000000)
    assert text.startswith("TDX_TD_FATAL: ")
    for flag in ("error", "not recoverable", "fatal"):
        assert f"; {flag};" in text


def test_statuses_that_carry_an_exit_reason() -> None:
    """Linux reads the low half as a VMX reason for a few statuses only."""
    assert "EPT_VIOLATION" in describe_status(0x4000000200000030)
    assert "EPT_VIOLATION" not in describe_status(0xC000010000000030)
    assert "details 0x30" in describe_status(0xC000010000000030)


def test_the_reason_slot_of_a_td() -> None:
    """All ones, and 0xdead, say that there is no exit reason."""
    assert describe_slot(0xFFFFFFFF).startswith("no exit reason")
    assert describe_slot(0xDEAD).startswith("no exit reason")
    assert describe_slot(0x30).startswith("EPT_VIOLATION")


@pytest.mark.parametrize("word", [0, 0x30, 0x80000021, 0x100000030, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE])
def test_words_that_are_no_tdx_status(word: int) -> None:
    """Below bit 62, or with the bits 59:48 that every status leaves clear."""
    assert not looks_like_status(word)


def test_the_low_half_that_kvm_userspace_printed() -> None:
    """libkvm.c printed ``reason & 0xffff``: what is left of 0xffffffff and of 0x80000021 is no other list's number."""
    assert describe_entry_failure(0xFFFF).vendor == "svm"
    assert describe_entry_failure(33).name == describe_entry_failure(0x80000021).name
    assert describe_entry_failure(0x22).vendor == "vmx"
