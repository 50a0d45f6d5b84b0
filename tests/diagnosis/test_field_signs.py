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


# lib/dump_stack.c: dump_stack_print_info; the process is a VMM's, the function is not KVM's.
CUT_OF_A_VMM = """\
kernel: [1804822.533491] CPU: 5 PID: 1803 Comm: qemu-system-x86 Not tainted 4.2.0-27-generic #32
kernel: [1804822.533499] RIP: 0010:[<ffffffff810bed10>]  [<ffffffff810bed10>] native_queued_spin_lock_slowpath+0x160/0x170
kernel: [1804822.533511] RSP: 0018:ffff88085fb43b68  EFLAGS: 00000202
"""  # noqa: E501


@pytest.mark.parametrize("text", [CUT_X86, CUT_ARM, CUT_SYMBOLIZED, CUT_OF_A_VMM])
def test_a_report_without_its_first_line_is_trouble_of_the_host(text: str) -> None:
    """People copy from the call trace on."""
    mechanism, origins = answer(text)
    assert mechanism == "host-trouble"
    assert origins[0] == "host-kernel"


@pytest.mark.parametrize(
    "text",
    [
        "Call Trace:\n ext4_readpage+0x10/0x20 [ext4]\n do_syscall_64+0x5/0x10\n",
        (
            "[ 9.0] CPU: 5 PID: 18 Comm: rsync Not tainted 4.2.0 #1\n[ 9.0] RIP: 0010:[<ffffffff810bed10>]  "
            "[<ffffffff810bed10>] ext4_readpage+0x160/0x170\n"
        ),
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


# arch/x86/mm/extable.c: ex_handler_msr; arch/x86/kvm/svm/svm.c: svm_hardware_enable
@pytest.mark.parametrize(
    "msr", ["0xc0000080 (tried to write 0x0000000000001d01)", "0xc0010117 (tried to write 0x1000)"]
)
def test_svm_that_cannot_be_switched_on_is_the_layer_belows(msr: str) -> None:
    """Only KVM sets EFER.SVME and VM_HSAVE_PA; no CPU that has SVM refuses them."""
    line = (
        f"[ 355.7] unchecked MSR access error: WRMSR to {msr} at rIP: 0xffffffff9228a274 (native_write_msr+0x4/0x20)\n"
    )
    mechanism, origins = answer(line)
    assert (mechanism, origins[0]) == ("host-trouble", "outer-hypervisor")


def test_another_msr_that_a_kernel_may_not_write_is_not_kvms() -> None:
    """The same message for a performance counter."""
    line = "unchecked MSR access error: WRMSR to 0x10f (tried to write 0x0) at rIP: 0xffffffff8d26 (native_write_msr)"
    assert not read(f"[ 1.0] {line}\n".encode()).failures


@pytest.mark.parametrize("mark", ['"', "`"])
def test_a_message_of_the_kernel_is_read_where_a_sentence_quotes_it(mark: str) -> None:
    """lib/bug.c's line, without its exclamation mark, in a comment or a mail."""
    said = f"{mark}kernel BUG at arch/x86/kvm/x86.c:702 (kvm_spurious_fault){mark}"
    mechanism, origins = answer(f"# KVM_CREATE_VCPU ends in the kernel with {said}, each attempt is an oops.\n")
    assert (mechanism, origins[0]) == ("host-trouble", "outer-hypervisor")


@pytest.mark.parametrize(
    "text",
    [
        '\tpr_err("kernel BUG at arch/x86/kvm/x86.c:702\\n");\n',
        '    warning = "WARNING: CPU: 1 PID: 2 at arch/x86/kvm/x86.c:702",\n',
    ],
)
def test_a_string_of_source_code_is_no_message(text: str) -> None:
    """It ends in a newline, an argument or a statement."""
    assert not read(text.encode()).failures


# arch/x86/kernel/cpu/bus_lock.c: split_lock_warn, handle_guest_split_lock
@pytest.mark.parametrize("how", ["took a", "fatal"])
def test_a_split_lock_of_a_vcpus_thread_is_its_guests(how: str) -> None:
    """The host's log alone shows it where the VMM says nothing."""
    line = f"x86/split lock detection: #AC: CPU 1/KVM/3302738 {how} split_lock trap at address: 0xbff4b050"
    mechanism, origins = answer(f"[ 9.0] {line}\n")
    assert (mechanism, origins[0]) == ("exception-exit", "guest-code")
    assert not read(f"[ 9.0] {line.replace('CPU 1/KVM', 'steam')}\n".encode()).failures


# Android emulator: android/emulation/CpuAccelerator.cpp; VirtualBox: include/VBox/err.h; VMware Workstation; Windows
@pytest.mark.parametrize(
    "text",
    [
        (
            "emulator: ERROR: x86 emulation currently requires hardware acceleration!\n"
            "Please ensure Intel HAXM is properly installed and usable.\n"
            "CPU acceleration status: HAX kernel module is not installed!\n"
        ),
        "VT-x is disabled in the BIOS for all CPU modes (VERR_VMX_MSR_ALL_VMX_DISABLED).\n",
        "This host supports Intel VT-x, but Intel VT-x is disabled.\n",
        "Virtual machine 'a' could not be started because the hypervisor is not running.\n",
    ],
)
def test_another_hypervisor_that_cannot_start_is_the_hosts_set_up(text: str) -> None:
    """Not KVM's, and nobody's bug."""
    mechanism, origins = answer(text)
    assert (mechanism, origins[0]) == ("not-this", "host-setup")


def test_a_notify_exit_that_ends_the_guest_is_read() -> None:
    """target/i386/kvm/kvm.c: kvm_arch_handle_exit."""
    mechanism, _ = answer(
        "qemu-system-x86_64: warning: KVM internal error: Encounter a notify exit with invalid context in guest. There"
        " can be possible misbehaves in guest. Please have a look.\n"
    )
    assert mechanism == "exit-unknown-to-vmm"


def test_posted_interrupts_that_hyper_vs_synic_took_away_are_the_kernels() -> None:
    """QEMU writes back the capability that the module has, kernels before 5.6 the vCPU's (target/i386/kvm.c)."""
    mechanism, origins = answer("qemu-system-x86_64: error: failed to set MSR 0x48d to 0xff00000016\n")
    assert (mechanism, origins[0]) == ("setup-refused", "host-kernel")
    _, origins = answer("qemu-system-x86_64: error: failed to set MSR 0x48d to 0x7f00000016\n")
    assert origins[0] == "vmm"


def test_an_xcr0_of_another_cpu_is_the_vms_definition() -> None:
    """A VMM of its own loads a snapshot: arch/x86/kvm/x86.c: __kvm_set_xcr asks the vCPU's CPUID."""
    mechanism, origins = answer("KVM_SET_XCRS failed: Invalid argument\n")
    assert mechanism == "setup-refused"
    assert "vm-configuration" in origins[:2]


@pytest.mark.parametrize(
    "where",
    [
        "On this WSL2 host:",
        "I run it inside a VMware Workstation VM.",
        "CPU: AMD EPYC 9754, in an ESXI VM with nested virtualization enabled.",
        "Nested virtualization is on in VirtualBox.",
        "Linux box 6.6.87.2-microsoft-standard-WSL2 #1 SMP",
        "The host is itself a VMware virtual machine.",
        "Our host runs under Hyper-V.",
        "We run Proxmox in VirtualBox.",
        "I'm running QEMU in WSL2.",
        "The same image boots fine elsewhere. This is on an Azure instance.",
    ],
)
def test_the_layer_below_is_taken_from_what_people_write(where: str) -> None:
    """Nobody pastes DMI strings."""
    line = "KVM: entry failed, hardware error 0xffffffff\n"
    _, origins = answer(f"{where}\n\n{line}")
    assert origins[0] == "outer-hypervisor"
    _, without = answer(line)
    assert without[0] != "outer-hypervisor"


@pytest.mark.parametrize(
    "where",
    [
        "It works with VirtualBox.",
        "-vga vmware -device vmware-svga",
        "a vmdk, migrated from VMware.",
        "The same image boots fine in a VirtualBox VM.",
        "It runs fine inside a VMware Workstation VM.",
        "I enabled nested virtualization because the Windows guest uses Hyper-V.",
        "I install WSL2 in the guest.",
        "It happens when I start something in WSL2 inside the Windows VM.",
        "This host is not a VMware VM.",
        "The host runs VirtualBox as well.",
        "The guest was created in an ESXi VM.",
        "I ran Windows 10 in VirtualBox.",
    ],
)
def test_another_hypervisor_that_is_only_named_is_not_below(where: str) -> None:
    """Comparisons, devices and formats."""
    _, origins = answer(f"{where}\nKVM: entry failed, hardware error 0xffffffff\n")
    assert origins[0] != "outer-hypervisor"


# lib/dump_stack.c and kernel/module/main.c: print_modules
CUT_AT_THE_MODULES = """\
[ 1203.101001] BUG: unable to handle page fault for address: ffffb1f2c0a3d000
[ 1203.101010] #PF: supervisor write access in kernel mode
[ 1203.101020] Oops: 0002 [#1] PREEMPT SMP NOPTI
[ 1203.101030] Modules linked in: tun bridge stp llc vhost_net kvm_intel kvm irqbypass
"""


def test_an_oops_cut_at_its_modules_is_the_hosts_where_kvm_is_among_them() -> None:
    """People copy the first lines; that KVM is loaded is then all there is, and without it nothing is."""
    mechanism, origins = answer(CUT_AT_THE_MODULES)
    assert mechanism == "host-trouble"
    assert origins[0] == "host-kernel"
    assert not read(CUT_AT_THE_MODULES.replace("kvm_intel kvm", "ext4").encode()).failures


# arch/x86/kvm/vmx/vmx.c: handle_exception_nmi; QEMU accel/kvm/kvm-all.c: kvm_cpu_exec
ENTRY_FAILED = "KVM: entry failed, hardware error 0x80000021\n"
FAULTED = "error: kvm run failed Bad address\n"
INTERNAL = "KVM internal error. Suberror: 3\nextra data[0]: 80000b0e\nextra data[1]: 31\n"


@pytest.mark.parametrize(
    ("prose", "text", "origin"),
    [
        ("Hypervisor vendor:   VMware\nIt works fine on bare metal.\n\n", ENTRY_FAILED, "outer-hypervisor"),
        ("It only happens in a nested guest.\n\n", ENTRY_FAILED, "outer-hypervisor"),
        ("A microcode update fixed it.\n\n", ENTRY_FAILED, "cpu"),
        ("Replacing the memory modules solved it for good.\n\n", INTERNAL, "host-dying"),
        ('Fixes: 0123456789ab ("target/i386: a change")\n\n', ENTRY_FAILED, "vmm"),
        ('Fixes: 0123456789ab ("KVM: x86: a change")\n\n', FAULTED, "host-kernel"),
    ],
)
def test_what_people_state_beside_the_record_weighs(prose: str, text: str, origin: str) -> None:
    """The statement raises the origin that it names: its share grows, and it is among the first three."""
    without = {found.id: found.share for found in diagnose(read(text.encode()).failures[0]).origins}
    diagnosis = diagnose(read((prose + text).encode()).failures[0])
    stated = {found.id: found.share for found in diagnosis.origins}
    assert stated[origin] > without.get(origin, 0)
    assert origin in [found.id for found in diagnosis.origins][:3]


def test_a_guest_that_works_on_metal_blames_no_layer_that_is_not_shown() -> None:
    """Who writes a kernel says so of his own machine; that his host is a virtual one, he does not say."""
    text = "My kernel works fine on real hardware.\n\n" + ENTRY_FAILED
    stated = [
        found.share for found in diagnose(read(text.encode()).failures[0]).origins if found.id == "outer-hypervisor"
    ]
    without = diagnose(read(ENTRY_FAILED.encode()).failures[0]).origins
    assert stated == [found.share for found in without if found.id == "outer-hypervisor"]


# arch/x86/kvm/x86.c: kvm_get_msr_common, until 5.4: "unhandled rdmsr"
def test_probes_of_registers_alone_are_no_fault() -> None:
    """RAPL's and the performance events' registers are read where the exception is caught; others are not."""
    probe = "kvm [4242]: vcpu0, guest rIP: 0xffffffff81062b24 unhandled rdmsr: 0x606\n"
    assert answer(probe)[1][0] == "none"
    assert answer(probe.replace("0x606", "0x48f"))[1][0] != "none"


# QEMU target/arm/kvm.c: kvm_arm_create_scratch_host_vcpu; accel/kvm/kvm-all.c: kvm_init_vcpu
def test_two_kinds_of_cores_explain_a_refused_vcpu() -> None:
    """KVM_ARM_VCPU_INIT is of the core that the thread runs on."""
    line = "qemu-system-aarch64: kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument\n"
    assert answer(f"Board: RK3399, kernel 6.1\n{line}")[1][0] == "host-setup"


# drivers/crypto/ccp/sev-dev.c: __sev_do_cmd_locked gives EIO where the firmware reports an error
def test_a_launch_refused_with_eio_is_the_firmwares_word() -> None:
    """Also where the firmware's own code is cut."""
    mechanism, origins = answer("qemu-system-x86_64: sev_snp_launch_start: SNP_LAUNCH_START ret=-5 fw_error=\n")
    assert (mechanism, origins[0]) == ("setup-refused", "confidential-stack")


# QEMU qapi/qapi-util.c: qapi_enum_parse
def test_an_object_that_qemu_does_not_know_is_qemus_age() -> None:
    """The kernel and the firmware are not asked at all."""
    line = "qemu-system-x86_64: -object tdx-guest,id=t: Parameter 'qom-type' does not accept value 'tdx-guest'\n"
    mechanism, origins = answer(line)
    assert (mechanism, origins[0]) == ("setup-refused", "vmm")


# arch/x86/kvm/vmx/vmx.c: kvm_is_vmx_supported; QEMU accel/kvm/kvm-all.c: kvm_init; Android's CpuAccelerator.cpp
@pytest.mark.parametrize(
    "line",
    [
        "[    4.1] kvm_intel: VMX not supported by CPU 1\n",
        "[    4.1] kvm: no hardware support for 'kvm_intel'\n",
        "Could not access KVM kernel module: No such file or directory\n",
        "modprobe: ERROR: could not insert 'kvm_intel': Operation not supported\n",
        "INFO: Your CPU does not support KVM extensions\n",
    ],
)
def test_a_virtual_machine_without_virtualization_is_for_the_layer_below(line: str) -> None:
    """What a VM has of VMX is what the layer below gives it; on metal the same line is the host's own set-up."""
    assert answer(line)[1][0] == "host-setup"
    assert answer(f"[    0.0] Hypervisor detected: VMware\n{line}")[1][0] == "outer-hypervisor"


def test_rights_are_the_hosts_own_in_a_virtual_machine_too() -> None:
    """EACCES says that there is a /dev/kvm."""
    line = "Could not access KVM kernel module: Permission denied\n"
    assert answer(f"[    0.0] Hypervisor detected: VMware\n{line}")[1][0] == "host-setup"


# arch/x86/mm/extable.c: ex_handler_msr; arch/x86/virt/svm/sev.c: snp_rmptable_init
def test_a_register_refused_while_snp_is_enabled_is_trouble_of_the_host() -> None:
    """The trace names what KVM needs of the host; through other code it is none of ours."""
    text = (
        "[ 9.1] unchecked MSR access error: WRMSR to 0xc0010010 (tried to write 0x0000000001fc0000) at rIP: "
        "0xffffffff81088184 (native_write_msr+0x4/0x20)\n[ 9.1] Call Trace:\n[ 9.1]  <TASK>\n"
        "[ 9.1]  __snp_enable+0x30/0x40\n[ 9.1]  snp_rmptable_init+0x135/0x1b0\n[ 9.1]  do_one_initcall+0x59/0x2f0\n"
    )
    assert answer(text)[0] == "host-trouble"
    other = text.replace("__snp_enable", "mce_init").replace("snp_rmptable_init", "mcheck_init")
    assert not read(other.encode()).failures


# Small programs: perror("KVM_SET_SREGS"); QEMU target/i386/kvm/kvm.c: kvm_arch_put_registers
def test_first_registers_that_kvm_refuses_are_the_small_programs() -> None:
    """QEMU loads what KVM gave it, and where that does not fit, the VM came from elsewhere."""
    assert answer("KVM_SET_SREGS: Invalid argument\n")[1][0] == "vmm"
    line = "qemu-system-x86_64: error: failed to put special registers: Invalid argument\n"
    assert answer(line)[1][0] == "vm-configuration"


# pKVM on x86: arch/x86/kvm/vmx/pkvm/hyp, handle_exception
def test_an_exception_in_pkvm_is_the_host_kernels() -> None:
    """Nothing of a guest runs there."""
    text = "[ 9.2] pkvm: exception 14 on CPU3 @ip some_step__pkvm+0x10/0x80 (0xffffffff81c07c10), err code 0x2\n"
    mechanism, origins = answer(text)
    assert (mechanism, origins[0]) == ("host-trouble", "host-kernel")


# qemu-server PVE/QemuServer.pm: config_to_command; the Android emulator's main-common.c, printed before the reason
@pytest.mark.parametrize(
    ("around", "error"),
    [
        ("The host is running on Oracle Cloud.\n", "KVM virtualisation configured, but not available.\n"),
        (
            "$ egrep -c '(vmx|svm)' /proc/cpuinfo\n0\nThis Debian 12 is running in VMware.\n",
            "emulator: ERROR: x86_64 emulation currently requires hardware acceleration!\n",
        ),
    ],
    ids=["unexplained", "no-flag"],
)
def test_no_kvm_in_a_virtual_machine_is_the_layers_below(around: str, error: str) -> None:
    """Without the layer it is how the host is set up; with an errno of rights it stays so."""
    mechanism, origins = answer(around + error)
    assert (mechanism, origins[0]) == ("setup-refused", "outer-hypervisor")
    assert answer(error)[1][0] == "host-setup"
    assert answer(around + "Could not access KVM kernel module: Permission denied\n")[1][0] == "host-setup"


# QEMU target/i386/tcg/excp_helper.c and do_interrupt_all: a log of what the guest raises; cpu_abort: the emulator's end
INTERRUPT = (
    "     0: v=0e e=0002 i=0 cpl=0 IP=0008:0000000000201000 pc=0000000000201000 SP=0010:0000000000009000 CR2=0000\n"
)


def test_a_log_of_the_emulators_guest_is_no_failure_of_the_emulator() -> None:
    text = "check_exception old: 0xffffffff new 0xe\n" + INTERRUPT
    mechanism, origins = answer(text)
    assert (mechanism, origins[0]) == ("not-this", "guest-code")
    diagnosis = diagnose(read(text.encode()).failures[0])
    assert diagnosis.mechanism
    assert "failure of" not in diagnosis.mechanism.text
    assert any("-d int,cpu_reset" in advice.text for advice in diagnosis.advice)
    ended = diagnose(read(b"qemu-system-i386: fatal: invalid/unsupported opcode\n").failures[0])
    assert ended.mechanism
    assert "failure of QEMU's own emulator" in ended.mechanism.text
