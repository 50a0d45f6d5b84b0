"""What is said of a kvm_run page alone, and of VMMs that print little: true of what stands there, and of use there.

Pages are made as the kernel makes them (kvmwhy.testing, include/uapi/linux/kvm.h); lines are those of the VMMs' own
format strings.
"""

from __future__ import annotations

import struct

import pytest

from kvmwhy import testing
from kvmwhy.abi.kvm_run import ROUTINE, encode_page
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.diagnosis.answer import Mechanism
from kvmwhy.readers import read
from kvmwhy.render.json import to_object
from kvmwhy.render.page import to_plain
from kvmwhy.render.screen import screen
from kvmwhy.render.text import explanation

FIRECRACKER = "2026-01-02T03:04:05.1 [id:fc_vcpu 0:ERROR:src/vmm/src/vstate/vcpu.rs:469] {}\n"


def of(evidence: bytes | str) -> Diagnosis:
    data = evidence.encode() if isinstance(evidence, str) else evidence
    (failure,) = read(data).failures
    return diagnose(failure)


def advice(diagnosis: Diagnosis) -> str:
    return " ".join(item.text for item in diagnosis.advice)


def mechanism(diagnosis: Diagnosis) -> Mechanism:
    assert diagnosis.mechanism is not None
    return diagnosis.mechanism


def first(diagnosis: Diagnosis) -> str:
    return diagnosis.origins[0].id


@pytest.mark.parametrize("exit_reason", sorted(ROUTINE))
def test_a_page_with_an_exit_that_every_vmm_answers_is_no_failure(exit_reason: int) -> None:
    """kvm_run keeps the last exit, answered or not: nobody is blamed for it, and no kernel is to be booted."""
    diagnosis = of(encode_page(exit_reason))
    assert mechanism(diagnosis).text.startswith("Nothing failed")
    assert first(diagnosis) == "none"
    assert "virtual machine" not in advice(diagnosis)
    assert "kernel" not in advice(diagnosis)


def test_a_page_that_nobody_filled_blames_nobody() -> None:
    """exit_reason is 0 before a vCPU's first exit, and since 6.10 whenever KVM_RUN begins."""
    diagnosis = of(encode_page(0))
    assert first(diagnosis) == "none"
    assert "kernel" not in advice(diagnosis)


@pytest.mark.parametrize("evidence", [encode_page(24, stale=struct.pack("<II", kind, 0)) for kind in (1, 2, 5)])
def test_an_orderly_end_in_a_page_is_no_failure(evidence: bytes) -> None:
    """KVM_SYSTEM_EVENT_SHUTDOWN, _RESET and _SUSPEND: the guest asked for it (api.rst: KVM_EXIT_SYSTEM_EVENT)."""
    diagnosis = of(evidence)
    assert "the guest asked" in mechanism(diagnosis).text
    assert first(diagnosis) == "none"


@pytest.mark.parametrize(("kind", "origin"), [(3, "guest-code"), (6, "confidential-stack"), (7, "confidential-stack")])
def test_a_system_event_is_laid_to_whoever_asked_for_it(kind: int, origin: str) -> None:
    """KVM_SYSTEM_EVENT_CRASH is the guest's own report; SEV_TERM and TDX_FATAL are a confidential guest's end."""
    assert first(of(encode_page(24, stale=struct.pack("<II", kind, 0)))) == origin


@pytest.mark.parametrize("exit_reason", [3, 24, 27, 37, 39, 44, 0x7FFF])
def test_no_vmm_is_quoted_that_said_nothing(exit_reason: int) -> None:
    """A page has no VMM's words: whether the exit was answered is not in it."""
    diagnosis = of(encode_page(exit_reason))
    shown = "".join(str(line) for line in explanation(diagnosis))
    assert "the VMM calls" not in shown
    assert "this VMM does not handle" not in shown
    assert mechanism(diagnosis).certainty != "certain"


def test_what_a_memory_fault_is_about_decides_the_advice() -> None:
    """Without KVM_MEMORY_EXIT_FLAG_PRIVATE it is any page that KVM cannot get: KVM_RUN fails with EFAULT as well.

    arch/x86/kvm/mmu/mmu.c: kvm_handle_error_pfn, since 6.8.
    """
    plain, private = (of(testing.memory_fault_page(0x9000, private=private)) for private in (False, True))
    assert "0x9000" in mechanism(plain).text
    assert "ATTRIBUTES" not in advice(plain)
    assert "HugePages_Free" in advice(plain)
    assert first(plain) == "host-setup"
    assert "ATTRIBUTES" in advice(private)
    assert first(private) == "vmm"


def test_flags_that_a_vmm_does_not_know_are_not_called_an_exit_that_it_does_not_know() -> None:
    """libkrun, vmm/src/linux/vstate.rs: it converts memory, and stops at a flag that it has not heard of."""
    diagnosis = of("[2026-01-02T03:04:05Z ERROR vmm::linux::vstate] KVM_EXIT_MEMORY_FAULT: Unknown flag 16\n")
    assert "flags 0x10, which this VMM does not know" in mechanism(diagnosis).text
    assert "ATTRIBUTES" not in advice(diagnosis)


def test_no_address_is_shown_where_there_is_no_rip() -> None:
    """kvm_run has the bytes of the instruction and, on AMD, the address that it touched, but not where it stood."""
    diagnosis = of(testing.emulation_failure_page(bytes.fromhex("d9 07"), vendor="svm", address=0xD0000000))
    assert "guest physical address 0xd0000000" in mechanism(diagnosis).text
    assert "0x0 " not in "".join(str(line) for line in screen(diagnosis))
    assert to_object(diagnosis)["instruction"].get("address") is None


def test_a_page_is_not_asked_for_lines_of_a_log() -> None:
    """`Code=` and `extra data` are QEMU's; a page has every word that the kernel stored."""
    for page in testing.FAILURES.values():
        asked = " ".join(of(page).collect)
        assert "Code= line" not in asked
        assert "extra data lines" not in asked


@pytest.mark.parametrize(
    "line",
    [
        "Unhandled KVM exit reason: 17",
        FIRECRACKER.format("Received KVM_EXIT_INTERNAL_ERROR signal"),
        "Error: Unexpected VM exit: Unknown KVM VCPU exit: InternalError",
    ],
)
def test_an_internal_error_without_its_number_is_most_likely_the_guests_instruction(line: str) -> None:
    """prepare_emulation_failure_exit is the usual maker of KVM_EXIT_INTERNAL_ERROR; no hypervisor below is needed."""
    diagnosis = of(line)
    assert first(diagnosis) == "guest-code"
    assert "internal.suberror" in advice(diagnosis)


def test_a_refused_entry_without_its_number_is_named() -> None:
    """gokvm prints the exit's name alone (kvm.ExitType's String)."""
    diagnosis = of("2026/01/02 03:04:05 vcpu 0 exits: unexpected kvm exit reason: EXITFAILENTRY")
    assert "could not enter the guest" in mechanism(diagnosis).text
    assert diagnosis.collect[0].startswith("hardware_entry_failure_reason")


@pytest.mark.parametrize(
    "line",
    [
        '{{"level":"ERROR","fields":{{"message":"VP entry failed","hardware_entry_failure_reason":{}}}}}',
        '{{"level":"error","msg":"VP entry failed","hardware_entry_failure_reason":"{:#x}"}}',
        'level=error msg="VP entry failed" hardware_entry_failure_reason={}',
    ],
)
def test_numbers_beside_a_structured_message_are_read(line: str) -> None:
    """tracing, zap and logrus keep them in fields of their own (openvmm: vmm_core/virt_kvm)."""
    (failure,) = read((line.format(0x80000021) + "\n").encode()).failures
    assert failure.hardware_error == 0x80000021


@pytest.mark.parametrize("page", [testing.shutdown_page(), b"Unhandled KVM exit reason: 8\n", b"KVM_EXIT_SHUTDOWN\n"])
def test_a_bare_triple_fault_is_first_the_guests(page: bytes) -> None:
    """It cannot take an exception of its own: a kernel or a VMM at fault needs evidence."""
    diagnosis = of(page)
    assert first(diagnosis) == "guest-code"
    assert diagnosis.advice[0].role == "guest"


def test_a_young_vmm_is_not_alone_to_blame_for_its_guests_end() -> None:
    """It sets the first state; all code behind that is the guest's."""
    shares = {
        origin.id: origin.share
        for origin in of("solo5-hvt: KVM: unhandled exit: exit_reason=0x8, rip=0x100020").origins
    }
    assert shares["guest-code"] > shares["vmm"] > 0.15


@pytest.mark.parametrize("number", [8, 0x80000022, 0x80000029, 0x30, 0xFFFFFFFE])
def test_unrestricted_guest_is_only_for_what_it_can_change(number: int) -> None:
    """Host state, the MSR list, a machine check and an error of the kernel's own do not depend on that control."""
    assert "unrestricted_guest" not in advice(of(testing.entry_failure_page(number)))


def test_unrestricted_guest_is_advice_for_hosts_that_are_virtual() -> None:
    """Partial VMX is an outer hypervisor's."""
    assert "If this host is itself a virtual machine" in advice(of(testing.entry_failure_page(7)))


def test_hardware_that_fails_is_no_kernels_doing() -> None:
    """A machine check at VM entry, EHWPOISON of KVM_RUN, and KVM_EXIT_ARM_SEA are the host's hardware."""
    sea = encode_page(41, {"flags": 0, "esr": 0x92000210, "gva": 0, "gpa": 0})
    poisoned = "[x] vcpu hit unknown error: Memory page has hardware error (os error 133)\n"
    for evidence in (testing.entry_failure_page(0x80000029), sea, poisoned):
        diagnosis = of(evidence)
        assert first(diagnosis) == "host-dying", evidence[:40]
        assert "Boot another kernel" not in advice(diagnosis)


def test_a_selftest_that_got_another_exit_needs_no_other_vmm() -> None:
    """tools/testing/selftests/kvm: TEST_ASSERT_KVM_EXIT_REASON prints wanted and got."""
    diagnosis = of("  Wanted KVM exit reason: 2 (IO), got: 27 (HYPERV)\n")
    assert "where the test expected another exit" in mechanism(diagnosis).text
    assert first(diagnosis) == "host-kernel"


def test_a_guest_that_ended_itself_is_not_said_to_go_on() -> None:
    """kvm-unit-tests, lib/x86/desc.c: unhandled_exception prints and aborts."""
    diagnosis = of("FAIL: umip_disabled\nUnhandled exception 13 #GP at ip 0000000000401234\nerror_code=0000\n")
    assert "the VM goes on" not in mechanism(diagnosis).text
    assert "harmless" not in advice(diagnosis)


def test_an_instruction_that_was_fetched_from_no_ram_is_placed_by_what_is_known() -> None:
    """EXITINFO2 has the guest physical address (APM vol. 2, 15.25.6); RIP is not in kvm_run."""
    diagnosis = of(testing.fetch_failure_page(0xB0000, vendor="svm"))
    assert "at guest physical address 0xb0000" in mechanism(diagnosis).text
    assert not any("RIP is" in proof.text for proof in mechanism(diagnosis).for_)
    assert "who jumped to guest physical address 0xb0000" in advice(diagnosis)


def test_a_split_lock_is_not_the_kernels_that_was_asked_to_find_it() -> None:
    """arch/x86/kernel/cpu/bus_lock.c does what split_lock_detect= says; the access is the guest's."""
    diagnosis = of(testing.exception_page(17))
    assert first(diagnosis).startswith("guest-")
    assert "split_lock_detect=off" in advice(diagnosis)


def test_numbers_that_were_not_printed_are_not_shown_as_none() -> None:
    """Firecracker prints the name of the exit alone (Debug of VcpuExit)."""
    diagnosis = of(FIRECRACKER.format("Unexpected exit reason on vcpu run: Exception"))
    shown = to_plain(explanation(diagnosis), 200)
    assert "exception None" not in shown
    assert "Raw words" not in to_plain(explanation(of("KVM_EXIT_INTERNAL_ERROR, suberror 3")), 200)


def test_where_a_vcpu_stood_does_not_make_a_number_less_sure() -> None:
    """A line that has the suberror and RIP says no less than one that has the suberror alone."""
    bare = of("KVM_EXIT_INTERNAL_ERROR: suberror = 0x1\n")
    placed = of("0x0100: KVM_EXIT_INTERNAL_ERROR: suberror = 0x1 -- Illegal instruction\n")
    assert mechanism(bare).certainty == mechanism(placed).certainty


@pytest.mark.parametrize(
    "line", ["Unexpected exit reason on vcpu run: Exception", "Received KVM_EXIT_INTERNAL_ERROR signal"]
)
def test_no_firmware_is_blamed_under_a_vmm_that_loads_none(line: str) -> None:
    """Firecracker enters the kernel itself (src/vmm/src/arch/x86_64: configure_system)."""
    shares = {origin.id: origin.share for origin in of(FIRECRACKER.format(line)).origins}
    assert shares["guest-firmware"] < 0.03


@pytest.mark.parametrize(("kernel", "is_offered"), [("6.1.0-18-amd64", False), ("6.12.15", True), ("6.14.2", False)])
def test_a_bug_is_not_offered_to_a_kernel_from_before_it(kernel: str, *, is_offered: bool) -> None:
    """The thread is started by the first KVM_RUN since 931656b9e2ff: 6.14-rc, 6.13.y and 6.12.y."""
    registers = (
        "EAX=00000000 EBX=00000000 ECX=00000000 EDX=00800f12\nESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\n"
        "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\nES =0000 00000000 0000ffff 00009300\n"
        "CS =f000 ffff0000 0000ffff 00009b00\nSS =0000 00000000 0000ffff 00009300\n"
        "DS =0000 00000000 0000ffff 00009300\nFS =0000 00000000 0000ffff 00009300\n"
        "GS =0000 00000000 0000ffff 00009300\nLDT=0000 00000000 0000ffff 00008200\n"
        "TR =0000 00000000 0000ffff 00008b00\nGDT=     00000000 0000ffff\nIDT=     00000000 0000ffff\n"
        "CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000\n"
    )
    head = f"2026-01-02 03:04:05.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.0, kernel: {kernel}\n"
    diagnosis = of(f"{head}error: kvm run failed Cannot allocate memory\n{registers}")
    assert ("916b7f42b3b3" in advice(diagnosis)) is is_offered
