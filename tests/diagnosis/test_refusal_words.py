"""The first line of a refused set-up says what the refusal means, and the advice is one that can apply."""

from __future__ import annotations

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.diagnosis.knowledge.advice import ENTRIES
from kvmwhy.diagnosis.knowledge.signs import SIGNS
from kvmwhy.readers import read

# Each line from the format string of the program named.
MEANINGS = {
    # arch/x86/kvm/x86.c: kvm_arch_init, until 5.18
    "kernel-no-hardware": (b"[    0.894716] kvm: no hardware support\n", "sees no VMX or SVM", "nested virtualization"),
    # kmod tools/modprobe.c
    "modprobe": (
        b"modprobe: ERROR: could not insert 'kvm_intel': Operation not supported\n",
        "an outer hypervisor hides it",
        "nested virtualization",
    ),
    # QEMU target/i386/kvm/kvm.c: kvm_get_vm_type
    "vm-type": (
        b"qemu-system-x86_64: vm-type tdx not supported by KVM\n",
        "does not offer this type of VM",
        "kvm_intel: tdx=1",
    ),
    # QEMU target/i386/sev.c: sev_snp_launch_update, sev_snp_cpuid_report_mismatches
    "cpuid-page": (
        (
            b"qemu: sev_snp_launch_update: SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'\n"
            b"qemu: SEV-SNP: CPUID validation failed for function 0x8000001d, index: 0x3.\n"
        ),
        "table of CPUID does not fit",
        "-cpu EPYC-v4",
    ),
    # QEMU target/i386/kvm/kvm.c: kvm_buf_set_msrs
    "msr": (
        b"qemu-system-x86_64: error: failed to set MSR 0x48d to 0x7f00000016\n",
        "IA32_VMX_TRUE_PINBASED_CTLS) was refused: this KVM does not know the register, or does not take the value",
        "Update QEMU",
    ),
    # QEMU accel/kvm/kvm-all.c: kvm_init
    "busy": (b"ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\n", "another hypervisor", "Stop the other"),
    "rights": (b"Could not access KVM kernel module: Permission denied\n", "the group kvm", "-aG kvm"),
    # qemu-server PVE/QemuServer.pm: config_to_command
    "no-errno": (
        b"TASK ERROR: KVM virtualisation configured, but not available. Either disable in VM configuration or enable",
        "not set up as asked",
        "ls -l /dev/kvm",
    ),
    # virt-manager virtinst/capabilities.py: lookup_capsinfo / guest_lookup
    "no-domain": (
        (
            b"ERROR    Host does not support domain type kvm with machine 'pc-q35-10.0' for virtualization type 'hvm'"
            b" with architecture 'x86_64'\n"
        ),
        "A domain that needs KVM was refused: no QEMU was found here",
        "ls -l /dev/kvm",
    ),
    # QEMU accel/accel-softmmu.c and, until 2.x, accel/accel.c
    "not-built": (
        b"qemu-system-x86_64: -machine accel=kvm: No accelerator found\n",
        "KVM as accelerator was refused: this QEMU was built without KVM",
        "-accel help",
    ),
    # QEMU accel/kvm/kvm-all.c: kvm_set_user_memory_region
    "slot": (
        b"kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, slot=3, start=0x0, size=0x1000: File exists\n",
        "overlaps another memory slot",
        "Update the VMM",
    ),
    # QEMU accel/kvm/kvm-all.c: do_kvm_cpu_synchronize_state; KVM_BUG_ON leaves a dead VM, whose every call is EIO
    "dead-vm": (
        b"qemu-system-x86_64: error: failed to get registers: Input/output error\n",
        "Getting the vCPU's registers was refused with EIO: the VM is dead",
        "the WARNING of KVM's that stands before it",
    ),
    # libkrun src/vmm/src/linux/vstate.rs: Error; security_file_open and its siblings refuse, not KVM
    "security-module": (
        b"[2026-01-01T00:00:00Z ERROR krun] Building the microVM failed: Internal(Vm(CreateGuestMemfd(Error(13))))\n",
        "KVM itself never answers so",
        "ausearch",
    ),
    # The same call for which nothing is left but to ask again: mm/mmap.c: mm_take_all_locks
    "interrupted": (
        b"ioctl(KVM_CREATE_VM) failed: 4 Interrupted system call\n",
        "a signal came while the kernel was at it",
        "as long as its errno is EINTR",
    ),
    # QEMU target/i386/kvm/tdx.c: tdx_finalize_vm; arch/x86/kvm/vmx/tdx.c: tdx_mem_page_add
    "tdx-busy": (
        b"qemu-system-x86_64: KVM_TDX_INIT_MEM_REGION failed: Resource temporarily unavailable\n",
        "the TDX module was busy",
        "as long as its errno is EAGAIN",
    ),
    # arch/x86/virt/vmx/tdx/tdx.c: init_tdx_module; QEMU target/i386/kvm/kvm.c: kvm_get_vm_type
    "vm-type-of-a-started-platform": (
        b"[    1.2] virt/tdx: module initialized\nqemu-system-x86_64: vm-type tdx not supported by KVM\n",
        "does not offer this type of VM",
        "kernel and VMM of one stage",
    ),
    # QEMU target/i386/kvm/kvm.c: hyperv_init_vcpu
    "evmcs": (
        b"qemu: eVMCS version range [1..1] is not supported by kernel (supported: [0..0])\n",
        "has no enlightened VMCS to offer",
        "hv-passthrough,-hv-evmcs",
    ),
    # the same: hv_cpuid_check_and_set
    "hyperv-flag": (
        b"qemu: Hyper-V synthetic timers (requested by 'hv-stimer' cpu flag) is not supported by kernel\n",
        "does not offer that feature of Hyper-V",
        "Leave hv-stimer out",
    ),
    # QEMU target/riscv/kvm/kvm-cpu.c: kvm_riscv_read_vlenb (9.0)
    "riscv-register": (
        b"qemu-system-riscv64: Unable to read vlenb register, error code: 2\n",
        "KVM_GET_ONE_REG of vlenb was refused with ENOENT: this KVM, or the vCPU",
        "Boot another kernel",
    ),
}


@pytest.mark.parametrize(("text", "meaning", "fix"), MEANINGS.values(), ids=MEANINGS)
def test_the_first_line_says_what_it_means(text: bytes, meaning: str, fix: str) -> None:
    answer = diagnose(read(text).failures[0])
    assert answer.mechanism is not None
    assert answer.mechanism.id == "setup-refused"
    assert meaning in answer.mechanism.text
    assert any(fix in advice.text for advice in answer.advice)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MEANINGS["dead-vm"][0], ("protected guest", "does not fit this CPU", "CPU model that both machines have")),
        (MEANINGS["tdx-busy"][0], ("no room", "Update the VMM: KVM refuses")),
        (MEANINGS["interrupted"][0], ("KVM refused before there was any VM", "Update the VMM: KVM refuses")),
        (MEANINGS["vm-type-of-a-started-platform"][0], ("Switch this type of VM on",)),
    ],
    ids=["dead-vm", "tdx-busy", "interrupted", "vm-type"],
)
def test_a_refusal_of_another_reason_gets_neither_its_sign_nor_its_advice(text: bytes, words: tuple[str, ...]) -> None:
    answer = diagnose(read(text).failures[0])
    said = [advice.text for advice in answer.advice]
    said += [proof.text for origin in answer.origins for proof in (*origin.for_, *origin.against)]
    assert not [word for word in words for line in said if word in line]
    known = [sign.says for sign in SIGNS] + [entry.text for entry in ENTRIES]
    assert all(any(word in text for text in known) for word in words)  # else their absence would mean nothing


def test_another_hypervisor_that_cannot_start_gets_what_lets_it_start() -> None:
    """VirtualBox: src/VBox/VMM/VMMR3/VM.cpp."""
    text = b"VT-x is disabled in the BIOS for all CPU modes (VERR_VMX_MSR_ALL_VMX_DISABLED)\n"
    answer = diagnose(read(text).failures[0])
    assert answer.mechanism is not None
    assert answer.mechanism.id == "not-this"
    assert "firmware's setup" in answer.advice[0].text


def test_a_split_lock_gets_the_switch() -> None:
    """arch/x86/kernel/cpu/bus_lock.c: split_lock_warn; the parameter and the sysctl are documented beside it."""
    text = b"x86/split lock detection: #AC: CPU 1/KVM/3302738 took a split_lock trap at address: 0xbff4b050\n"
    answer = diagnose(read(text).failures[0])
    assert any("split_lock_detect=off" in advice.text for advice in answer.advice)


def test_an_ignored_register_is_no_exception() -> None:
    """arch/x86/kvm/x86.c: kvm_msr_ignored_check with ignore_msrs=1 answers zero."""
    text = b"kvm [1234]: ignored rdmsr: 0x619 data 0x0\n"
    mechanism = diagnose(read(text).failures[0]).mechanism
    assert mechanism is not None
    assert mechanism.certainty == "likely"
    assert "no exception" in mechanism.text


# What each architecture's kernel prints where KVM cannot be had, with the words of the answer that its reason needs.
OTHER_KERNELS = {
    # arch/arm64/kvm/arm.c: kvm_arm_init, for kvm-arm.mode=none
    "arm64-off": (b"kvm [1]: KVM disabled from command line\n", "arm64", "kvm-arm.mode=none", "/proc/cmdline"),
    # the same: init_subsystems
    "arm64-nested": (b"kvm [1]: NV support requires GICv3, giving up\n", "arm64", "a GICv3", "without kvm-arm.mode"),
    # the same: kvm_arm_init
    "arm64-vmid": (b"kvm [1]: Failed to initialize VMID allocator.\n", "arm64", "to set itself up", "Boot another"),
    # arch/s390/kvm/kvm-s390.c: kvm_s390_init; with CONFIG_KMSG_IDS a number stands behind the component
    "s390x": (b"kvm-s390.a3074b: SIE is not available\n", "s390x", "does not offer what KVM needs", "LPAR"),
    # arch/loongarch/kvm/main.c: kvm_loongarch_init
    "loongarch": (b"kvm [1]: Hardware virtualization not available\n", "loongarch", "does not offer", "nested virt"),
    # arch/mips/kvm/mips.c: kvm_mips_init
    "mips": (b"kvm: KVM does not yet support MMIDs. KVM Disabled\n", "mips", "does not offer", "nested virtualization"),
    # arch/riscv/kvm/main.c: riscv_kvm_init
    "riscv64": (b"kvm [1]: hypervisor extension not available\n", "riscv64", "does not offer", "nested virtualization"),
    "riscv64-sbi": (b"kvm [1]: require SBI v0.2 or higher\n", "riscv64", "SBI firmware", "OpenSBI"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "arch", "meaning", "fix"), OTHER_KERNELS.values(), ids=OTHER_KERNELS)
def test_a_kernel_without_vmx_and_svm_is_told_of_neither(text: bytes, arch: str, meaning: str, fix: str) -> None:
    """Each has a reason of its own, and nothing of x86's firmware helps it."""
    (failure,) = read(b"[    0.1] " + text).failures
    answer = diagnose(failure)
    assert failure.arch == arch
    assert answer.mechanism is not None
    assert answer.mechanism.id == "setup-refused"
    assert meaning in answer.mechanism.text
    advice = " ".join(each.text for each in answer.advice)
    assert fix in advice
    assert not {"VMX", "SVM", "VT-x"} & set((answer.mechanism.text + " " + advice).replace(",", " ").split())


def test_a_qemu_for_x86_on_an_arm64_host_is_the_wrong_one() -> None:
    text = b"Linux box 6.1.0-13-arm64 #1 SMP Debian 6.1.55-1 aarch64 GNU/Linux\n"
    answer = diagnose(read(text + MEANINGS["not-built"][0]).failures[0])
    assert answer.origins[0].id == "vm-configuration"
    assert answer.origins[0].share > 0.6
    assert not any("/dev/kvm" in advice.text for advice in answer.advice)


def test_a_message_that_says_why_needs_no_errno() -> None:
    """Programs print none behind what they found out by themselves."""
    said = diagnose(read(MEANINGS["not-built"][0]).failures[0])
    assert not any("errno" in piece for piece in said.collect)
    silent = diagnose(read(b"panic: KVM: Failed to set VM TSS address\n").failures[0])
    assert any("errno" in piece for piece in silent.collect)
