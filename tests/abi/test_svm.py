"""SVM exit codes and EXITINFO against the APM's appendix C."""

from __future__ import annotations

import pytest

from kvmwhy.abi.x86 import svm


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x00, "READ_CR0"),
        (0x18, "WRITE_CR8"),
        (0x27, "READ_DR7"),
        (0x31, "WRITE_DR1"),
        (0x46, "UD_EXCP"),
        (0x4E, "PF_EXCP"),
        (0x53, "XF_EXCP"),
        (0x5D, "VC_EXCP"),
        (0x65, "CR0_SEL_WRITE"),
        (0x7B, "IO"),
        (0x81, "HYPERCALL"),
        (0x8E, "RDPRU"),
        (0x94, "WRITE_CR4_TRAP"),
        (0x400, "NPF"),
        (0x403, "VMGEXIT"),
        (0x80000010, "VMGEXIT_PAGE_STATE_CHANGE"),
        (0xFFFFFFFF, "INVALID_GUEST_STATE"),
        (0xFFFFFFFFFFFFFFFF, "INVALID_GUEST_STATE"),
        (0xFFFFFFFE, "BUSY"),
        (0xFFFFFFFFFFFFFFFC, "INVALID_PMC"),
    ],
)
def test_codes(code: int, name: str) -> None:
    """APM appendix C; negative codes as 32 and as 64 bits."""
    assert svm.code_name(code) == name


def test_codes_nobody_has() -> None:
    """Above the last code of each block there is nothing."""
    assert [svm.code_name(code) for code in (0xA7, 0x3FF, 0x404, 0x1000)] == [None] * 4


def test_codes_without_a_handler() -> None:
    """Exceptions KVM does not intercept, INIT, the descriptor-table reads, RDTSC."""
    assert not any(svm.CODES[code].handled for code in (0x02, 0x40, 0x48, 0x63, 0x66, 0x6E, 0x75, 0x91, 0xA0))
    assert all(svm.CODES[code].handled for code in (0x00, 0x33, 0x41, 0x46, 0x4E, 0x72, 0x87, 0x94, 0x400))


@pytest.mark.parametrize(
    ("code", "info", "text"),
    [
        (0x10, 1 << 63 | 3, "MOV with RBX"),
        (0x37, 0x9, "register R9 (with decode assist)"),
        (0x7B, 0x03F80211, "IN from port 0x3f8; 1 byte; 64-bit addresses"),
        (0x7B, 0x00700110, "OUT to port 0x70; 1 byte; 32-bit addresses"),
        (0x7C, 1, "WRMSR"),
        (0x7C, 0, "RDMSR"),
        (0x7D, 0x28, "to TSS selector 0x28"),
        (0x402, 1 << 32 | 0x300, "write to APIC offset 0x300"),
        (0x72, 0, "none"),
    ],
)
def test_exitinfo1(code: int, info: int, text: str) -> None:
    """APM 15.8–15.29, values built by hand from the bit positions."""
    assert svm.describe_exitinfo1(code, info) == text


def test_exitinfo2() -> None:
    """NPF: the GPA. #PF: CR2. IOIO: the next RIP. Task switch: error code and flags."""
    assert svm.describe_exitinfo2(0x400, 0xD0000000) == "the guest physical address that was accessed"
    assert "CR2" in svm.describe_exitinfo2(0x4E, 0xD0000000)
    assert "next instruction" in svm.describe_exitinfo2(0x7B, 0x1000)
    assert svm.describe_exitinfo2(0x7D, 1 << 36) == "no error code; by IRET"
    assert svm.describe_exitinfo2(0x401, 1 << 32 | 5) == "target not running; table index 0x5"
