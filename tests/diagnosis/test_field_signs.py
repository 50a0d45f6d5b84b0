"""What a report shows of its maker: signs from the programs' own formats, from the text to the answer."""

from __future__ import annotations

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read


def answer(text: str) -> tuple[str, list[str]]:
    """The mechanism, and the origins, best first."""
    diagnosis = diagnose(read(text.encode()).failures[0])
    assert diagnosis.mechanism
    return diagnosis.mechanism.id, [origin.id for origin in diagnosis.origins]


# arch/x86/kernel/dumpstack.c: show_regs, show_trace_log_lvl; arch/arm64/kernel/{process,stacktrace}.c
CUT_X86 = """\
CPU: 5 PID: 1994 Comm: CPU 7/KVM Tainted: P           OE     5.4.28 #1
RIP: 0010:kvm_mmu_load+0x2e6/0x5b0 [kvm]
RSP: 0018:ffffbc2883aefcc8 EFLAGS: 00010206
Call Trace:
 kvm_arch_vcpu_ioctl_run+0xfe4/0x1d60 [kvm]
 kvm_vcpu_ioctl+0x215/0x5c0 [kvm]
"""
CUT_ARM = """\
[  161.119277] Call trace:
[  161.132586]  stage2_map_walker+0xbc/0x218
[  161.149022]  kvm_handle_guest_abort+0x48c/0xa08
[  161.157107]  kvm_arch_vcpu_ioctl_run+0x4f0/0x880
[  161.161721]  kvm_vcpu_ioctl+0x3a8/0x808
"""
CUT_SYMBOLIZED = """\
Call Trace:
 <TASK>
 vcpu_enter_guest arch/x86/kvm/x86.c:11081 [inline]
 vcpu_run+0x3047/0x4f50 arch/x86/kvm/x86.c:11242
 kvm_vcpu_ioctl+0x6ce/0x1520 virt/kvm/kvm_main.c:4340
"""


@pytest.mark.parametrize("text", [CUT_X86, CUT_ARM, CUT_SYMBOLIZED])
def test_a_report_without_its_first_line_is_trouble_of_the_host(text: str) -> None:
    """People copy from the call trace on."""
    mechanism, origins = answer(text)
    assert mechanism == "host-trouble"
    assert origins[0] == "host-kernel"


@pytest.mark.parametrize(
    "text",
    [
        "Call Trace:\n ext4_readpage+0x10/0x20 [ext4]\n do_syscall_64+0x5/0x10\n",
        "[<0>] kvm_vcpu_block+0x88/0x120 [kvm]\n[<0>] kvm_vcpu_halt+0x68/0x580 [kvm]\n",  # /proc/PID/stack
    ],
)
def test_a_call_trace_counts_where_kvm_took_part_in_a_report(text: str) -> None:
    """A trace through other parts of the kernel, and a stack that was asked for, tell of no failure of KVM's."""
    assert not read(text.encode()).failures


# drivers/crypto/ccp/sev-dev.c: sev_pci_init; arch/x86/virt/svm/sev.c: snp_probe_rmptable_info
@pytest.mark.parametrize(
    "text",
    [
        "[ 3.0] ccp 0000:43:00.1: SEV: failed to INIT error 0x1, rc -5\n",
        "[ 3.0] ccp 0000:43:00.1: SEV-SNP: failed to INIT rc -5, error 0x3\n",
        "[ 1.2] SEV-SNP: Memory for the RMP table has not been reserved by BIOS\n",
    ],
)
def test_what_the_firmware_refuses_the_host_is_the_hosts_trouble(text: str) -> None:
    """No VM had been asked for yet."""
    mechanism, origins = answer(text)
    assert mechanism == "host-trouble"
    assert origins[0] == "confidential-stack"


def test_a_status_of_the_firmware_has_its_words() -> None:
    """0x8004 is no status of the SEV API: the PSP's boot loader returned it."""
    (failure,) = read(b"[ 4.06] ccp 0000:06:00.2: SEV: failed to INIT error 0x8004\n").failures
    mechanism = diagnose(failure).mechanism
    assert mechanism
    assert "PSP's boot loader" in mechanism.text


def launch(call: str, ret: int, firmware_error: int, words: str) -> str:
    """target/i386/sev.c: sev_launch_start, sev_snp_launch_start, sev_snp_launch_finish."""
    return f"qemu-system-x86_64: sev_snp_launch: {call} ret={ret} fw_error={firmware_error} '{words}'\n"


def test_a_launch_that_the_kernel_does_not_know_is_no_ones_option() -> None:
    """ENOTTY: kernel and VMM were built for different versions of the interface."""
    _, origins = answer(launch("SNP_LAUNCH_START", -25, 0, ""))
    assert set(origins[:2]) == {"host-kernel", "host-setup"}


def test_a_launch_refused_for_what_was_handed_in_is_the_vms_definition() -> None:
    """SEV API, status 11: the measurement is not that of the ID block."""
    _, origins = answer(launch("SNP_LAUNCH_FINISH", -5, 11, "Bad measurement"))
    assert origins[0] == "vm-configuration"


def test_a_launch_refused_for_the_state_of_the_platform_is_the_stacks() -> None:
    """SEV API, status 1: the platform is in the wrong state."""
    _, origins = answer(launch("SNP_LAUNCH_START", -5, 1, "Platform state is invalid"))
    assert origins[0] == "confidential-stack"


def test_a_vmm_that_fills_in_the_first_registers_itself_is_its_own_maker() -> None:
    """Firecracker src/vmm/src/arch/x86_64/regs.rs, in its first form: no state of another machine is loaded."""
    mechanism, origins = answer("Firecracker: VcpuConfigure(SREGSConfiguration(SRegsIoctlFailed(Error(22))))\n")
    assert mechanism == "setup-refused"
    assert origins[0] == "vmm"


def test_an_internal_error_without_its_number_is_never_nothing() -> None:
    """Cloud Hypervisor vmm/src/cpu.rs prints no suberror; the access just below 4 GiB is a push at ESP 0."""
    mechanism, origins = answer(
        "cloud-hypervisor: 2ms: <vcpu0> INFO:vmm/src/vm.rs:485 -- Guest MMIO write to unregistered address 0xfffffffc\n"
        "cloud-hypervisor: 2ms: <vcpu0> ERROR:vmm/src/cpu.rs:1460 -- VCPU generated error: VcpuRun(Failed to run vcpu\n"
        "    Unexpected exit reason on vcpu run: InternalError)\n"
    )
    assert mechanism == "not-shown"
    assert origins[0] == "guest-code"
    assert "none" not in origins[:4]


QEMU_X64 = """\
KVM internal error. Suberror: 1
emulation failure
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000000000
RIP=00000000000b0000 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =00{data} 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]
CS =00{code} 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]
SS =00{data} 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =00{data} 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]
GDT=     000000007f9ee698 00000047
IDT=     000000007f27a018 00000fff
CR0=80010033 CR2=0000000000000000 CR3=000000007fc01000 CR4=00000668
EFER=0000000000000d00
Code=00 00 00 00 <ff> ff ff ff ff ff ff ff
"""


def test_the_segments_of_uefi_firmware_name_it() -> None:
    """edk2 UefiCpuPkg/CpuDxe/CpuGdt.c: 0x38 and 0x30; a kernel has others."""
    assert answer(QEMU_X64.format(code="38", data="30"))[1][0] == "guest-firmware"
    assert answer(QEMU_X64.format(code="10", data="18"))[1][0] != "guest-firmware"


def test_a_logger_that_keeps_the_error_in_a_field_of_its_own_is_read() -> None:
    """KubeVirt's log: ``msg`` says what was done, ``reason`` what went wrong."""
    (failure,) = read(
        b'{"component":"virt-handler","level":"info","msg":"re-enqueuing VirtualMachineInstance default/vm",'
        b'"reason":"server error. command SyncVMI failed: qemu-kvm: error: failed to set MSR 0x48e to 0x1"}\n'
    ).failures
    assert failure.kind == "setup-refused"
    assert failure.setup is not None
    assert failure.setup.msr == 0x48E


def test_an_init_in_the_hosts_log_alone_is_the_host_being_reset() -> None:
    """arch/x86/kvm/vmx/vmx.c, __vmx_handle_exit: the line is all that was saved; SDM appendix C: 3 is INIT."""
    mechanism, origins = answer(
        "[23031085.916249] kvm [9737]: vcpu6, guest rIP: 0xffffffffb190d1b5 vmx: unexpected exit reason 0x3\n"
        "[23031085.916251] set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.\n"
    )
    assert mechanism == "exit-unhandled"
    assert origins[0] == "host-dying"


@pytest.mark.parametrize(
    "text",
    [
        # vmm/src/vm.rs, hypervisor/src/arch/aarch64/gic.rs: Debug of the errors
        "cloud-hypervisor: VmBoot(CreateGic(Vgic error CreateGic(CreateDevice(No such device (os error 19)))))\n",
        "firecracker-aarch64: Cannot create VMM: Missing KVM capability: Irqchip\n",
    ],
)
def test_a_board_without_an_interrupt_controller_for_kvm_is_the_hardwares(text: str) -> None:
    """arch/arm64/kvm/vgic: the device that is asked for is not there."""
    mechanism, origins = answer(text)
    assert mechanism == "setup-refused"
    assert origins[0] == "cpu"


def test_an_old_kernel_is_read_in_the_words_of_2008() -> None:
    """qemu-kvm, kvm_init: the line that only follows names no reason."""
    (failure,) = read(
        b"kvm kernel version too old: KVM_GET_API_VERSION ioctl not supported\n"
        b"Could not initialize KVM, will disable KVM support\n"
    ).failures
    assert failure.setup is not None
    assert failure.setup.detail == "version-too-old"
    assert diagnose(failure).origins[0].id == "host-kernel"
