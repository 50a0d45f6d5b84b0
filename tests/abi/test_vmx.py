"""VMX reasons and qualifications against the SDM's tables."""

from __future__ import annotations

import pytest

from kvmwhy.abi.x86 import vmx


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "EXCEPTION_NMI"),
        (20, "VMLAUNCH"),
        (30, "IO_INSTRUCTION"),
        (32, "MSR_WRITE"),
        (44, "APIC_ACCESS"),
        (48, "EPT_VIOLATION"),
        (49, "EPT_MISCONFIG"),
        (51, "RDTSCP"),
        (62, "PML_FULL"),
        (75, "NOTIFY"),
    ],
)
def test_reasons_have_the_kernels_names(number: int, name: str) -> None:
    """SDM appendix C, in the spelling of the kvm_exit tracepoint."""
    assert vmx.reason_name(number) == name


def test_every_reason_up_to_86_is_there() -> None:
    """0–86 without a gap, and KVM's 0xdead."""
    assert sorted(vmx.REASONS) == [*range(87), 0xDEAD]


def test_reasons_without_a_handler() -> None:
    """The list of kernel 7.3: these end in suberror 4."""
    unhandled = {n for n, reason in vmx.REASONS.items() if not reason.handled and n <= 86}
    expected = {3, 4, 5, 6, 11, 16, 17, 33, 34, 35, 38, 42, 51, *range(63, 74), *range(78, 84), 86}
    assert unhandled == expected


def test_modifier_bits() -> None:
    """Bit 26 bus lock, bit 31 failed entry; a reserved bit stays visible."""
    assert "bus lock" in vmx.describe_reason(0x04000030)
    assert "VM entry failed" in vmx.describe_reason(0x80000021)
    assert "0x40000000" in vmx.describe_reason(0x40000030)
    assert not vmx.is_reason(0x80000030), "only 33, 34 and 41 come with bit 31"


def qualify(reason: int, q: int, *, failed: bool = False, intr_info: int = 0) -> str:
    return vmx.describe_qualification(reason, q, failed_entry=failed, intr_info=intr_info)


def test_ept_fetch_from_nowhere() -> None:
    """0x584 = fetch (2), linear address valid (7), final access (8), guest page writable (10)."""
    assert qualify(48, 0x584) == (
        "instruction fetch; nothing is mapped at the guest physical address; guest linear address valid; "
        "the access itself, not a page walk; the guest's own page tables say supervisor, writable, executable"
    )


def test_ept_page_walk() -> None:
    """0x83: bit 8 clear beside bit 7 is an access to a paging structure."""
    text = qualify(48, 0x83)
    assert text.startswith("read and write; ")
    assert "a walk of the guest's own page tables" in text


def test_ept_bit_8_means_nothing_without_bit_7() -> None:
    """SDM table 28-7: bit 8 is reserved (0) when bit 7 is 0."""
    text = qualify(48, 0x101)
    assert "no guest linear address" in text
    assert "page walk" not in text
    assert "0x100" in text


def test_ept_read_only_slot() -> None:
    """0x1aa: a write where EPT allows read and execute."""
    assert "(EPT) allow read, execute" in qualify(48, 0x1AA)


@pytest.mark.parametrize(
    ("reason", "q", "text"),
    [
        (28, 0x0, "MOV to CR0 from RAX"),
        (28, 0x314, "MOV from CR4 to RBX"),
        (28, 0x20, "CLTS"),
        (28, 0x00010030, "LMSW with 0x1 from a register"),
        (29, 0x217, "MOV from DR7 to RDX"),
        (30, 0x03F80008, "IN from port 0x3f8, 1 byte"),
        (30, 0x00600040, "OUT to port 0x60, 1 byte; port number in the instruction"),
        (30, 0x01F0003B, "IN from port 0x1f0, 4 bytes; string instruction; REP prefix"),
        (9, 0x80000028, "to TSS selector 0x28 by JMP"),
        (44, 0x10B0, "linear write at offset 0xb0 of the APIC page"),
        (45, 0x31, "vector 49 (0x31)"),
        (56, 0x300, "offset 0x300 of the APIC page"),
        (75, 0x1, "the guest's context is invalid"),
        (85, 0x10, "MSR number 0x10"),
        (27, 0xFFFFFFFFFFFFFFF8, "displacement of the memory operand (-8)"),
        (18, 0, "none"),
        (12, 0, "none"),
        (49, 0, "none"),
    ],
)
def test_qualifications(reason: int, q: int, text: str) -> None:
    """SDM tables 28-1 to 28-6, one value each, built by hand from the bit positions."""
    assert qualify(reason, q) == text


def test_entry_failure_qualifications() -> None:
    """SDM 27.8: 2 PDPTEs, 3 NMI, 4 link pointer; for 34 the entry of the MSR list."""
    assert "PDPTE" in qualify(33, 2, failed=True)
    assert "NMI" in qualify(33, 3, failed=True)
    assert "link pointer" in qualify(33, 4, failed=True)
    assert "entry 7" in qualify(34, 7, failed=True)


def test_reason_0_is_read_by_its_event() -> None:
    """#PF: CR2. #DB: the conditions. Anything else has no qualification."""
    assert "CR2" in qualify(0, 0xD0000000, intr_info=0x80000B0E)
    assert qualify(0, 0x4001, intr_info=0x80000301) == "breakpoint 0 met; single step"
    assert qualify(0, 0, intr_info=0x80000306) == "none"
    assert "CR2" not in qualify(0, 0xD0000000)


def test_unknown_bits_stay() -> None:
    """A bit no table has must not vanish."""
    assert "0x4000000000000" in qualify(48, 0x181 | 1 << 50)


def test_instruction_errors() -> None:
    """SDM 31.4: 1–28 with 14, 21 and 27 unassigned."""
    assert sorted(vmx.VM_INSTRUCTION_ERRORS) == [n for n in range(1, 29) if n not in (14, 21, 27)]
    assert "MOV SS" in vmx.VM_INSTRUCTION_ERRORS[26]


def test_guest_state_words() -> None:
    """SDM 25.4.2."""
    assert vmx.describe_interruptibility(0b1001) == "blocking by STI; blocking by NMI"
    assert vmx.describe_interruptibility(0) == "nothing is blocked"
    assert vmx.describe_activity(3) == "waiting for a start-up IPI"
    assert "0x9" in vmx.describe_activity(9)
