"""A refused set-up is read from the words of any program, and nothing else is taken for one."""

# ruff: noqa: E501  # lines stand as the programs print them

from __future__ import annotations

import pytest

from asking import asked
from kvmwhy.ingest.normalize import clean
from kvmwhy.readers import registry, setup_messages
from kvmwhy.readers.anchors.setup_messages import OF_TABLES
from kvmwhy.readers.setup_messages.message import FORMS
from kvmwhy.record import Failure
from setup_lines import NOT_REFUSED, REFUSED, REGISTERS


def read(text: str) -> tuple[Failure, ...]:
    return setup_messages.read(clean(text.encode())).failures


@pytest.mark.parametrize(("call", "errno", "text"), REFUSED, ids=[text[:40] for _, _, text in REFUSED])
def test_the_call_and_the_errno_are_read(call: str, errno: str | None, text: str) -> None:
    """One record for each refusal, with the ioctl and what it returned."""
    failure, *more = read(text)
    assert failure.kind == "setup-refused"
    assert failure.setup is not None
    assert failure.setup.call.startswith(call)
    assert failure.errno == errno
    assert not more


@pytest.mark.parametrize("text", NOT_REFUSED, ids=[text[:40] for text in NOT_REFUSED])
def test_what_only_names_a_call_is_no_refusal(text: str) -> None:
    """Source code, documentation, patches and traces of calls that succeeded say nothing."""
    assert read(text) == ()


@pytest.mark.parametrize(("call", "errno", "text"), REFUSED, ids=[text[:40] for _, _, text in REFUSED])
def test_every_refusal_holds_a_declared_anchor(call: str, errno: str | None, text: str) -> None:
    """What is read at all is found by the anchors, so that a large input is read as a small one."""
    assert asked(clean(text.encode()).text, "setup_messages"), (call, errno)


@pytest.mark.parametrize(("call", "errno", "text"), REFUSED, ids=[text[:40] for _, _, text in REFUSED])
def test_every_refusal_is_found_in_a_large_input(call: str, errno: str | None, text: str) -> None:
    """By the search for all anchors, with what must be near them."""
    found = {hit.anchor for hit in registry.search().hits(text.encode())}
    (reader,) = (reader for reader in registry.READERS if reader.module == "setup_messages")
    assert not found.isdisjoint(reader.anchors), (call, errno)


def test_every_form_of_the_tables_is_found_by_a_declared_anchor() -> None:
    """The tables and what is declared of them, which is loaded without them, do not drift apart."""
    for form in FORMS:
        assert form.anchors, form.text
        assert form.source, form.text
        for anchor in form.anchors:
            assert any(declared in anchor for declared in OF_TABLES), anchor


MSR = """qemu-system-x86_64: error: failed to set MSR 0x48f to 0x7fefff00036dfb
qemu-system-x86_64: ../target/i386/kvm/kvm.c:2976: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.
"""


def test_a_refused_msr_has_its_number_and_value() -> None:
    """QEMU's kvm_buf_set_msrs names the MSR, and its assertion behind is the same refusal."""
    (failure,) = read(MSR)
    assert failure.setup is not None
    assert (failure.setup.call, failure.setup.msr, failure.setup.value) == ("KVM_SET_MSRS", 0x48F, 0x7FEFFF00036DFB)
    assert (failure.arch, failure.source.vmm) == ("x86", "qemu")


@pytest.mark.parametrize("width", [72, 80, 100])
def test_a_folded_line_is_read_as_it_was(width: int) -> None:
    """Mail folds the assertion anywhere."""
    import textwrap

    folded = "\n".join(line for whole in MSR.splitlines() for line in textwrap.wrap(whole, width))
    (failure,) = read(folded)
    assert failure.setup is not None
    assert failure.setup.msr == 0x48F


def test_an_assertion_alone_takes_the_msr_from_the_kernels_line() -> None:
    """Old QEMU named no MSR; KVM's "unhandled wrmsr" of the same moment does."""
    (failure,) = read(
        "qemu-system-x86_64: target-i386/kvm.c:1809: kvm_put_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.\n"
        "kernel: [  153.076519] kvm [2154]: vcpu0, guest rIP: 0xfff0 unhandled wrmsr: 0x38d data 0x0\n"
    )
    assert failure.setup is not None
    assert failure.setup.msr == 0x38D


def test_msrs_that_a_vmm_leaves_out_are_one_refusal() -> None:
    """Cloud Hypervisor goes on after each MSR that KVM refuses."""
    line = "cloud-hypervisor: 1.{}s: <vmm> WARN:hypervisor/src/kvm/mod.rs:2074 -- Detected faulty MSR {} while setting MSRs\n"
    (failure,) = read(line.format(1, "0x4b564d02") + line.format(2, "0x4b564d04") + line.format(3, "0x48"))
    assert failure.setup is not None
    assert failure.setup.msr == 0x4B564D02
    assert failure.setup.fields["msrs"] == "0x4b564d02 0x4b564d04 0x48"


def test_a_memory_slot_has_its_place() -> None:
    """kvm_set_user_memory_region prints slot, start and size; kvm_set_phys_mem repeats the errno."""
    (failure,) = read(
        "qemu-kvm: kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION2 failed, slot=3, start=0xc0000, size=0x40000,"
        " flags=0x0, guest_memfd=-1, guest_memfd_offset=0x0: File exists\n"
        "kvm_set_phys_mem: error registering slot: File exists\n"
    )
    assert failure.setup is not None
    assert failure.setup.fields == {"slot": 3, "start": 0xC0000, "size": 0x40000}
    assert failure.errno == "EEXIST"


def test_the_firmwares_own_code_is_kept_beside_the_errno() -> None:
    """QEMU prints both; "failed to initialize kvm: Operation not permitted" behind is QEMU's own -1."""
    (failure,) = read(
        "qemu-system-x86_64: -accel kvm: sev_common_kvm_init: failed to initialize ret=-5 fw_error=3 'Platform config'\n"
        "qemu-system-x86_64: -accel kvm: failed to initialize kvm: Operation not permitted\n"
    )
    assert failure.setup is not None
    assert (failure.setup.call, failure.errno, failure.setup.firmware_error) == ("SEV_INIT", "EIO", 3)


def test_the_hosts_firmware_line_names_the_code_that_the_vmm_lacks() -> None:
    """ccp's line at boot is why QEMU's launch fails."""
    (failure,) = read(
        "qemu-system-x86_64: sev_guest_init: failed to get platform status ret=-1fw_error='0: '\n"
        "[    4.064111] ccp 0000:06:00.2: SEV: failed to INIT error 0x8004\n"
    )
    assert failure.setup is not None
    assert (failure.setup.call, failure.setup.firmware_error) == ("SEV_PLATFORM_STATUS", 0x8004)


def test_a_seamcalls_status_is_kept() -> None:
    """QEMU 10.1: tdx_ioctl_internal."""
    (failure,) = read(
        "qemu-system-x86_64: TDX ioctl KVM_TDX_INIT_VM failed, hw_errors: 0xc000010000000000: Invalid argument\n"
    )
    assert failure.setup is not None
    assert (failure.setup.call, failure.setup.status) == ("KVM_TDX_INIT_VM", 0xC000010000000000)


def test_refused_registers_come_with_the_record() -> None:
    """QEMU dumps them behind the message (kvm_cpu_synchronize_post_reset)."""
    (failure,) = read(REGISTERS)
    assert failure.cpu is not None
    assert failure.cpu.get("cr0") == 0x80000013
    assert failure.cpu.segments["cs"].long
    assert failure.arch == "x86"


def test_the_architecture_is_the_programs() -> None:
    """QEMU's message does not say which ioctl was refused; its binary says for which CPU."""
    (failure,) = read("qemu-system-aarch64: Failed to put registers after init: Invalid argument\n")
    assert failure.setup is not None
    assert (failure.arch, failure.setup.call, failure.errno) == ("arm64", "registers", "EINVAL")


def test_the_same_refusal_again_and_again_is_counted() -> None:
    """A management layer starts the VM again and again."""
    start = (
        "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\nfailed to initialize KVM: Device or resource busy\n"
    )
    (failure,) = read((start + "\n" * 20) * 3)
    assert failure.source.count == 3


def test_two_refusals_stay_two() -> None:
    """Different calls of different VMs are not put together."""
    text = "KVM_CREATE_VM: Device or resource busy\n" + "\n" * 30 + "KVM_SET_SREGS: Invalid argument\n"
    assert [failure.errno for failure in read(text)] == ["EBUSY", "EINVAL"]


@pytest.mark.usefixtures("no_hang")
def test_hostile_lines_come_to_an_end() -> None:
    """Near misses of every pattern, long and many: quadratic work would take minutes."""
    read(("create vcpu failed " * 40 + "KVM_SET_SREGS " * 40 + "\n" + "kvm: (MSR " * 200 + "\n") * 100)
