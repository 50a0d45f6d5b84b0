"""Failures of other hypervisors are recognised, named, and lose against KVM's own record."""

# ruff: noqa: E501  # lines stand as the programs print them

from __future__ import annotations

from typing import Any

import pytest

from asking import asked
from kvmwhy.ingest.normalize import clean
from kvmwhy.readers import not_kvm
from kvmwhy.readers import read as reading
from kvmwhy.readers.precedence import standing
from kvmwhy.record import ControlBlock, Cpu, Failure, Source, Speaker, Symptom

# After the format strings named in readers/not_kvm/speakers.py, with values of our own.
SPOKEN: list[tuple[str, dict[str, Any], str]] = [
    ("xen", {"instruction_error": 7}, "(XEN) d2v0 VMLAUNCH error: 0x7\n(XEN) *** Guest State ***\n"),
    ("xen", {"exit_reason": 0x80000021}, "(XEN) Failed vm entry (exit reason 0x80000021) caused by invalid guest state (0).\n"),
    ("xen", {"domain": 11, "vcpu": 1}, "(XEN) Domain 11 (vcpu#1) crashed on cpu#0:\n"),
    ("haxm", {"insn": "0xf2 0x66 0xab"}, "haxm_panic: em_decode_insn() failed: vcpu_id=0, len=3, CS:IP=0x0:0xd0, instr[0..5]=0xf2 0x66 0xab\n"),
    ("bhyve", {"rip": 0xFFFFFFFF8104BB80}, "Failed to emulate instruction [0x0f 0xae 0x3b] at 0xffffffff8104bb80\n"),
    ("bhyve", {"exit_reason": 33}, "vm exit[0]\n\treason\t\tVMX\n\trip\t\t0x000000000009e019\n\tinst_length\t3\n\texit_reason\t33\n"),
    ("bhyve", {"vcpu": 0, "rip": 0x7C00}, "vm exit[0]\n            reason                    VMX\n            rip                       0x0000000000007c00\n"),
    ("bhyve", {"message": "processor does not support VMX operation"}, "vmx_init: processor does not support VMX operation\n"),
    ("bhyve", {"message": "VMX operation disabled by BIOS"}, "vmx_init: VMX operation disabled by BIOS\n"),
    ("bhyve", {"status": 4}, "Jan 02 03:04:05: bhyve exited with status 4\n"),
    ("hyperkit", {"exit_reason": 33}, "vm exit[0]\n\treason\t\tVMX\n\trip\t\t0x9e019\n\texit_reason\t33\nVMCS_PIN_BASED_CTLS:           0x000000000000003f\n"),
    ("whpx", {"exit_code": 4}, "qemu-system-x86_64: WHPX: Unexpected VP exit code 4\n"),
    ("virtualbox", {"error": "VERR_TRPM_DONT_PANIC", "status": -2403}, "!! VCPU0: Guru Meditation -2403 (VERR_TRPM_DONT_PANIC)\n"),
    ("vmware", {}, "Module 'MonitorMode' power on failed.\n"),
    ("hvf", {"exit_reason": 0x21}, "[3526:164603] VM-entry failure exit reason: 21\n"),
    ("tcg", {"address": 0xA0063}, "qemu: fatal: Trying to execute code outside RAM or ROM at 0x000a0063\n"),
    ("tcg", {}, "CCS=000000c2 CCD=00002c06 CCO=CLR\n"),
    ("unicorn", {"error": "UC_ERR_FETCH_UNMAPPED"}, "unicorn.UcError: Invalid memory fetch (UC_ERR_FETCH_UNMAPPED)\n"),
    ("noirvisor", {"instruction_error": 7}, "[NoirVisor] Error while launching the Guest! VMX Status: 1\n[NoirVisor] Failed at VM-Entry, Code=7  Reason: x\n"),
    ("haxm", {"message": "HAX kernel module is not installed"}, "CPU acceleration status: HAX kernel module is not installed!\n"),
    ("whpx", {"message": "UnrecoverableException"}, "WHvRunVpExitReasonUnrecoverableException\n"),
    ("hvf", {"status": 2}, 'Error Domain=VZErrorDomain Code=2 "Virtualization is not available on this hardware."\n'),
    ("openbsd-vmm", {}, "vcpu_run_vmx: failed vm entry\n"),
    ("jailhouse", {"exit_reason": 2}, "FATAL: Unhandled VM-Exit, reason 2\n"),
    ("jailhouse", {"vmexit": 0x7F}, "FATAL: Unexpected #VMEXIT, exitcode 7f, exitinfo1 0x0000000000000020\n"),
    ("jailhouse", {}, 'FATAL: Invalid MMIO/RAM read, addr: 0x000000006e2f0000 size: 0\nRIP: 0xfffffffeec8a9998\nParking CPU 0 (Cell: "RootCell")\n'),
    ("acrn", {"rip": 0x1000}, "Error: Unhandled VM exit condition from guest at 0x0000000000001000 \n"),
    ("own", {"instruction_error": 7}, "[hv] VMLAUNCH failed. Instruction error = 7.\n"),
    ("haxm", {"message": "vcpu_emulate_insn: mmio_fetch_instruction() failed: vcpu_id=1"}, "haxm_panic:vcpu_emulate_insn: mmio_fetch_instruction() failed: vcpu_id=1\n"),
    ("haxm", {}, "haxm_error:mmio_map_guest_virtual_page_slow: gpa_space_map_page() failed: vcpu_id=1\n"),
    ("haxm", {}, "haxm_warning: 6000 VMX_CR0_MASK: ffffffffe0000021\n"),
    ("haxm", {}, "haxm_error: vcpu has panicked, id:1\n"),
    ("hvf", {"message": "VmCreate"}, "[2026-01-01T00:00:00Z ERROR krun] Building the microVM failed: Internal(Vm(VmSetup(VmCreate)))\n"),
    ("haxm", {}, "haxm_error:vcpu is paniced, id:0\n"),
    ("haxm", {}, "haxm_error: log_vmxon_err_type2 1\n"),
    ("haxm", {}, "haxm_error: VMfailInvalid. Prev exit: 1e no error code\n"),
    ("virtualbox", {}, "00:00:01.000001 !! {cpumhost, verbose}\n"),
    ("hvf", {"rip": 0xF1000}, "triple fault at f1000 (f0fe0, f1000), cr0 31, qual 0, gpa fee00010, ins len 1, cpu 0x7f80aa000000\n"),
    ("own", {"exit_reason": 0x2B}, "ERROR: Unhandled VM-exit: 0x2b\n"),
    ("own", {"exit_reason": 2}, "Unknown VM-Exit reason: 2\n"),
    ("own", {}, "[ERROR] vcpu  | Unhandled VM-exit: reason=triple_fault\n"),
    ("own", {"message": "UnhandledVmExit"}, "Failed to handle vmexit: UnhandledVmExit\n"),
    ("own", {"exit_reason": 0x21, "qualification": 0}, "HyperBone: CPU 0: VmExitStartFailed: Failed to enter VM, reason 33, code 0\n"),
    ("own", {"instruction_error": 7}, "[*] VMLAUNCH Error : 0x7\n"),
    ("guest-kernel", {}, "[    0.19] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004\n[    0.19] Hardware name: linux,dummy-virt (DT)\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fields", "text"), SPOKEN, ids=[f"{name}-{n}" for n, (name, _, _) in enumerate(SPOKEN)]
)
def test_the_speaker_is_named_and_its_values_are_kept(name: str, fields: dict[str, Any], text: str) -> None:
    """Each in the words of its own source."""
    (failure,) = not_kvm.read(clean(text.encode())).failures
    assert failure.kind == "not-kvm"
    assert failure.speaker is not None
    assert failure.speaker.name == name
    assert fields.items() <= failure.speaker.fields.items()
    assert asked(text, "not_kvm")


TRIPLE = """check_exception old: 0xffffffff new 0xe
     0: v=0e e=0002 i=0 cpl=0 IP=0008:00100010 pc=00100010 SP=0010:00090000 CR2=c0000000
check_exception old: 0xe new 0xd
     1: v=08 e=0000 i=0 cpl=0 IP=0008:00100010 pc=00100010 SP=0010:00090000 env->regs[R_EAX]=00000000
check_exception old: 0x8 new 0xd
Triple fault
"""


def test_tcgs_log_names_the_first_exception_of_a_triple_fault() -> None:
    """The page fault came first; #GP and #DF only followed from it."""
    (failure,) = not_kvm.read(clean(TRIPLE.encode())).failures
    assert failure.speaker is not None
    expected = {"vector": 14, "error_code": 2, "pc": 0x100010, "cr2": 0xC0000000, "triple_fault": 1}
    assert expected.items() <= failure.speaker.fields.items()


@pytest.mark.parametrize(
    "text",
    [
        "(XEN) Bringing up CPU1\n",
        "#define VERR_VMX_IN_VMX_ROOT_MODE (-4011)\n",
        "modprobe vboxdrv\n",
        "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n",
        "[    0.0] Hypervisor detected: VMware\n",
    ],
)
def test_what_is_no_failure_has_no_speaker(text: str) -> None:
    """Names of hypervisors alone say nothing, and a host's own panic is the kernel log's."""
    assert not_kvm.read(clean(text.encode())).failures == ()


KVM = Failure(kind="internal-error", suberror=1, source=Source(line=3))
XEN = Failure(kind="not-kvm", speaker=Speaker(name="xen"), source=Source(line=1, last_line=40))
TCG = Failure(kind="not-kvm", speaker=Speaker(name="tcg"), source=Source(line=1))
DUMP = Failure(kind="other", cpu=Cpu(registers={"rip": 1}), source=Source(line=2))
PAUSED = Failure(kind="symptom", symptom=Symptom(kind="paused-unknown"))


def test_kvms_own_record_wins() -> None:
    """Beside it, what only looks like one, and its symptoms, say nothing more."""
    assert standing((TCG, KVM, PAUSED)) == (KVM,)


def test_a_dump_alone_is_the_emulators() -> None:
    """TCG dumps the registers in the form of QEMU under KVM."""
    (failure,) = standing((DUMP, TCG))
    assert failure.kind == "not-kvm"
    assert failure.cpu == DUMP.cpu


def test_a_control_block_in_xens_lines_is_xens() -> None:
    """Xen dumps its VMCS as Linux does."""
    block = Failure(kind="entry-failure", control=ControlBlock("vmcs", {"cr3": 1}), source=Source(line=5))
    (failure,) = standing((block, XEN))
    assert failure.kind == "not-kvm"
    assert failure.control == block.control


def test_a_symptom_stands_where_nothing_else_is() -> None:
    """It is better than nothing."""
    assert standing((PAUSED,)) == (PAUSED,)


# QEMU target/i386/kvm/kvm.c: kvm_handle_exit; strace of a program that tries one device after the other
ENTRY_FAILED = "KVM: entry failed, hardware error 0x80000021\n"
LOOKED_FOR = [
    'openat(AT_FDCWD, "/dev/gunyah", O_RDWR|O_CLOEXEC) = -1 ENOENT (No such file or directory)\n',
    'openat(AT_FDCWD, "/dev/gzvm", O_RDWR|O_CLOEXEC) = -1 ENOENT (No such file or directory)\n',
    "crw------- 1 root root 10, 115 Jan  1 00:00 /dev/gunyah\n",
    "gunyah_vm_mgr          16384  0\n",
    "Failed to open /dev/gunyah: No such file or directory\n",  # a sample program of the driver's patches
]


@pytest.mark.parametrize("text", LOOKED_FOR)
def test_a_device_that_was_looked_for_takes_nothing_from_kvm(text: str) -> None:
    """Only a VMM that says on which hypervisor it runs can tell that KVM's words are not KVM's."""
    (failure,) = reading((text + ENTRY_FAILED).encode()).failures
    assert failure.kind == "entry-failure"
    assert failure.hardware_error == 0x80000021


@pytest.mark.parametrize("text", LOOKED_FOR[:4])
def test_a_device_alone_is_no_failure(text: str) -> None:
    """Nothing failed on it."""
    assert not reading(text.encode()).failures


# crosvm src/crosvm/sys/linux.rs: create_guest_hypervisor, Debug of HypervisorKind; --hypervisor of its command line
@pytest.mark.parametrize(
    ("speaker", "text"),
    [
        ("gunyah", 'creating hypervisor: Gunyah { device: Some("/dev/gunyah"), qcom_trusted_vm_id: None }\n'),
        ("gunyah", "crosvm run --hypervisor gunyah --mem 4096 kernel\n"),
        ("geniezone", 'creating hypervisor: Geniezone { device: Some("/dev/gzvm") }\n'),
    ],
)
def test_a_vmm_on_another_hypervisor_prints_errors_that_read_as_kvms(speaker: str, text: str) -> None:
    """crosvm's words are the same whatever its backend."""
    failed = "[ERROR:src/crosvm/sys/linux/vcpu.rs:100] vcpu hit unknown error: No such file or directory (os error 2)\n"
    (failure,) = reading((text + failed).encode()).failures
    assert failure.kind == "not-kvm"
    assert failure.speaker is not None
    assert failure.speaker.name == speaker
