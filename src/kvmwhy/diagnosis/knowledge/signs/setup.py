"""Signs from a refused set-up: which call, which MSR, and what the host or the VMM says about it."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.setup_meanings import by_a_security_module, is_dead, slugs_of
from kvmwhy.diagnosis.knowledge.sign import Answer, Sign, Test, weights
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At

_SETUP: Final = ("setup-refused",)
_BEFORE_ANY_VM: Final = ("open", "module", "KVM_CREATE_VM")
_ARGUMENTS: Final = (
    "KVM_SET_GSI_ROUTING",
    "KVM_SET_CPUID2",
    "KVM_SET_DEVICE_ATTR",
    "KVM_SET_USER_MEMORY_REGION",
    "KVM_SET_USER_MEMORY_REGION2",
    "KVM_SET_NESTED_STATE",
    "KVM_SET_VCPU_EVENTS",
    "KVM_SET_LAPIC",
    "KVM_SET_XCRS",
    "KVM_SET_XSAVE",
    "KVM_IRQFD",
    "KVM_IOEVENTFD",
)
_OF_A_VCPU: Final = (
    "KVM_CREATE_VCPU",
    "KVM_ARM_VCPU_INIT",
    "KVM_GET_ONE_REG",
    "KVM_SET_ONE_REG",
    "KVM_CREATE_DEVICE",
    "KVM_CREATE_IRQCHIP",
)
_DEVICES: Final = ("aia", "vgic", "pmu", "pvtime")  # what the CPU or board may not have
_SREGS: Final = ("KVM_SET_SREGS", "KVM_SET_SREGS2", "registers")
_LOADS_WHAT_IT_SAVED: Final = ("qemu", "qemu-kvm", "libvirt", "android-emulator", "kata")
# SEV API, status codes: certificate, policy, signature, measurement. Each is of something that people hand in.
_HANDED_IN: Final = frozenset({6, 7, 10, 11})
_MAX_SLOT: Final = ((1 << 31) - 1) << 12  # KVM_MEM_MAX_NR_PAGES
_LAUNCH: Final = ("SEV", "SNP", "KVM_SEV", "TDX", "KVM_TDX", "TDH", "TDG")

_WIDTHS: Final = ((0x200, 0x21F), (0x250, 0x26F), (0x277, 0x277), (0x2FF, 0x2FF))  # memory types, as wide as the CPU

# What an MSR's number says about who is behind its refusal: first, last, origins, why.
_MSRS: Final[tuple[tuple[str, tuple[tuple[int, int], ...], str, dict[str, float], str], ...]] = (
    (
        "msr-of-vmx-capabilities",
        ((0x480, 0x493),),
        "a capability of nested VMX",
        weights(vmm=1.5, host_kernel=0.5, outer_hypervisor=0.5),
        "target/i386/kvm: QEMU 4.2 and 5.0 wrote capabilities that the host's KVM, often in a VM, does not give.",
    ),
    (
        "msr-of-performance-counters",
        (
            (0xC1, 0xC8),
            (0x186, 0x18D),
            (0x309, 0x30C),
            (0x38D, 0x390),
            (0x4C1, 0x4C8),
            (0xC001_0000, 0xC001_0007),
            (0xC001_0200, 0xC001_020B),
            (0xC000_0300, 0xC000_0303),
        ),
        "a performance counter",
        weights(vmm=1, outer_hypervisor=0.5, vm_configuration=0.5),
        "QEMU wrote counters whatever CPUID says; hypervisors below show fewer.",
    ),
    (
        "msr-of-perf-capabilities",
        ((0x345, 0x345), (0x3F1, 0x3F1), (0x600, 0x600)),
        "a capability of the performance counters",
        weights(vm_configuration=1, vmm=0.5, host_kernel=0.5),
        "-cpu host or max with migration, or a model that the host's KVM does not take (pmu=off ends it).",
    ),
    (
        "msr-of-kvm-itself",
        ((0x4B56_4D00, 0x4B56_4DFF), (0x11, 0x12)),
        "an MSR of KVM's own",
        weights(host_kernel=1.5, vm_configuration=0.5),
        "Documentation/virt/kvm/x86/msr.rst: only KVM decides about them.",
    ),
    (
        "msr-of-hyper-v",
        ((0x4000_0000, 0x4000_0FFF),),
        "an MSR of the Hyper-V interface",
        weights(vmm=0.5, host_kernel=0.5, vm_configuration=1),
        "hv- flags that the host's kernel does not know.",
    ),
    (
        "msr-listed-but-refused",
        (
            (0xE1, 0xE1),
            (0xD90, 0xD90),
            (0xDA0, 0xDA0),
            (0x1C4, 0x1C5),
            (0x10A, 0x10A),
            (0x122, 0x122),
            (0x6E0, 0x6E0),
            (0x140, 0x140),
            (0x3A, 0x3A),
            (0xCF, 0xCF),
        ),
        "a feature that KVM lists and then refuses",
        weights(host_kernel=1, vm_configuration=0.5, outer_hypervisor=0.5),
        "arch/x86/kvm/x86.c: kvm_probe_msr_to_save against the check of the write.",
    ),
    (
        "msr-of-amd",
        ((0xC000_0080, 0xC000_0104), (0xC001_0010, 0xC001_0FFF), (0xC001_1000, 0xC001_1FFF)),
        "an MSR of AMD's",
        weights(vmm=0.5, host_kernel=0.5, vm_configuration=0.5),
        "Feature and value belong together; migration and models mix them.",
    ),
    (
        "msr-of-traces-and-branches",
        ((0x560, 0x58F), (0x1C8, 0x1C9), (0x14CE, 0x14CE), (0x1200, 0x122F), (0x1500, 0x162F), (0x680, 0x6DF)),
        "Intel PT or branch records",
        weights(vm_configuration=0.5, host_kernel=0.5, vmm=0.5),
        "Given only where module parameters and the CPU allow it.",
    ),
)


def _call(*names: str) -> Test:
    def test(scene: Scene) -> Answer:
        return scene.call if scene.call in names else None

    return test


def _call_with(call: str, *errnos: str) -> Test:
    def test(scene: Scene) -> Answer:
        return scene.errno if scene.call == call and scene.errno in errnos else None

    return test


def is_vm_type_refused(scene: Scene) -> bool:
    """KVM_CREATE_VM has one argument, the VM's type and width, which the VMM passes on from what a person asked for."""
    refused = scene.call == "KVM_CREATE_VM" and scene.errno in {"EINVAL", "EOPNOTSUPP"}
    return refused and scene.arch != "s390x"  # there it is PGSTE's answer as well


def _before_any_vm(scene: Scene) -> Answer:
    of_the_vmm = is_vm_type_refused(scene) or scene.errno == "EINTR"
    return None if of_the_vmm or scene.call not in _BEFORE_ANY_VM else scene.call


def is_taken(scene: Scene) -> Answer:
    if scene.speaker == "virtualbox":
        return "ROOT_MODE" in scene.spoken or "IN_USE" in scene.spoken
    return scene.call == "KVM_CREATE_VM" and scene.errno == "EBUSY"


def _unlike_cpus(scene: Scene) -> Answer:
    """The state was made on a CPU with other features or widths."""
    number = scene.msr
    width = number is not None and any(low <= number <= high for low, high in _WIDTHS)
    return scene.migrated or width or _put_registers(scene) or _own_xcrs(scene)


def _own_xcrs(scene: Scene) -> Answer:
    """XCR0 has a bit that the vCPU's CPUID, made of what this CPU has, does not allow (x86.c: __kvm_set_xcr)."""
    return scene.call == "KVM_SET_XCRS" and scene.errno == "EINVAL" and not scene.confidential


def _msr(ranges: tuple[tuple[int, int], ...]) -> Test:
    def test(scene: Scene) -> Answer:
        number = scene.msr
        return hex(number) if number is not None and any(low <= number <= high for low, high in ranges) else None

    return test


def _detail(*words: str) -> Test:
    """The reader's slug of the message says so."""

    def test(scene: Scene) -> Answer:
        return scene.detail is not None and any(word in scene.detail for word in words)

    return test


def _long_without_efer(scene: Scene) -> Answer:
    """arch/x86/kvm/x86.c: kvm_is_valid_sregs: CS.L with EFER.LMA clear, or paging without what it needs."""
    cpu = scene.failure.cpu
    cs = cpu.segments.get("cs") if cpu else None
    return bool(cs and cs.long and cpu and (cs.big or cpu.get("efer") == 0)) and At(register="cs")


def _size(scene: Scene) -> int:
    size = scene.failure.setup.fields.get("size") if scene.failure.setup else None
    return size if isinstance(size, int) else 0


def _launch(scene: Scene) -> bool:
    return scene.call is not None and scene.call.startswith(_LAUNCH)


def _no_interrupt_controller(scene: Scene) -> bool:
    """The kind of controller is asked for before any of its attributes is set."""
    asked = scene.call in {"KVM_CHECK_EXTENSION", "KVM_CREATE_DEVICE", "KVM_CREATE_IRQCHIP"}
    named = _detail("vgic")(scene) or bool(scene.register and "irqchip" in scene.register.lower())
    return asked and bool(named) and scene.arch != "x86"


def _handed_in(scene: Scene) -> Answer:
    return _launch(scene) and scene.confidential != "tdx" and scene.firmware_error in _HANDED_IN


def _other_arm_model(scene: Scene) -> Answer:
    model = (scene.failure.host.cpu_model or "").partition(",")[0]
    asked = scene.arch == "arm64" and scene.call in {"vcpu-init", "KVM_ARM_VCPU_INIT", "KVM_CREATE_VCPU"}
    return model if asked and model not in {"", "host", "max"} else None


def _put_registers_on_arm(scene: Scene) -> Answer:
    return scene.call == "registers" and scene.failure.cpu is None and scene.arch != "x86" and not _dead(scene)


def _put_registers(scene: Scene) -> bool:
    return (
        scene.call in _SREGS
        and not _long_without_efer(scene)
        and scene.failure.cpu is None
        and scene.arch == "x86"
        and not _own_registers(scene)
        and not _dead(scene)
    )


def _own_registers(scene: Scene) -> Answer:
    """A VMM without firmware fills in CR0, EFER and the segments by itself; QEMU loads what it took from KVM.

    QEMU's own message names QEMU, so that the bare name of the call is a small program's perror.
    """
    own = scene.call in _SREGS and scene.speaker not in _LOADS_WHAT_IT_SAVED
    if not own or scene.migrated or scene.confidential or scene.arch != "x86" or _dead(scene):
        return None
    return scene.speaker or ("the program" if scene.call != "registers" else None)


def _no_flag(scene: Scene) -> bool:
    """The CPU that this kernel is shown has neither VMX nor SVM."""
    return scene.call in {"open", "module"} and "no-vmx-or-svm" in scene.failure.host.remarks


def _none_in_a_vm(scene: Scene) -> Answer:
    """Programs that do not tell why KVM cannot be used, on a host that is a VM."""
    unexplained = scene.call == "open" and scene.errno is None and not _hidden_below(scene)
    if not unexplained or not scene.outer or scene.rivals:
        return None
    return scene.outer if scene.outer != "unnamed" else "of an unnamed hypervisor"


def _arm_host(scene: Scene) -> bool:
    return "arm64-host" in scene.failure.host.remarks


def _hidden_below(scene: Scene) -> Answer:
    """No virtualization, or no module that found any, on a host that is a VM."""
    if not scene.outer or scene.rivals:
        return None
    hidden = (
        scene.event("virtualization-off", "no-virtualization")
        or _detail("no-hardware", "not-offered-by-cpu", "no-hyp-mode", "disabled-by-bios")(scene)
        or _no_flag(scene)
        or _call_with("open", "ENOENT", "ENODEV", "ENXIO")(scene)
        or _call_with("module", "EOPNOTSUPP", "ENODEV", "EIO")(scene)
    )
    return scene.outer if hidden and scene.outer != "unnamed" else "of an unnamed hypervisor" if hidden else None


# VirtualBox's include/VBox/err.h; the rest are messages of readers.not_kvm.
_CANNOT_START: Final = ("not installed", "is required to run", "is disabled", "is not available", "is not running", "unable to start", "NOT_INSTALLED", "_NO_VMX", "_NO_SVM", "VMX_DISABLED", "SVM_DISABLED", "VMX_MSR_ALL_VMX", "MSR_LOCKING_FAILED", "SVME_NOT_ENABLED", "disabled by BIOS", "processor does not support", "processor not supported")  # fmt: skip


def cannot_start(scene: Scene) -> Answer:
    return any(mark in scene.spoken for mark in _CANNOT_START)


_PIN_CONTROLS: Final = frozenset({0x481, 0x48D})
_POSTED_INTERRUPTS: Final = 1 << 39  # allowed to be 1: the high half of the capability


def _posted_interrupts(scene: Scene) -> Answer:
    return scene.msr in _PIN_CONTROLS and scene.value is not None and bool(scene.value & _POSTED_INTERRUPTS)


_NO_ROOM: Final = frozenset({"ENOMEM", "ENOSPC", "EMFILE", "EAGAIN"})
_STARTED: Final = {  # what a VM's type is called: what the host's log says when its platform is up
    "TDX": "tdx-initialized",
    "SEV-SNP": "snp-initialized",
    "SEV-ES": "sev-initialized",
    "SEV": "sev-initialized",
}


def is_platform_up(scene: Scene) -> bool:
    """The host's own log says that the protection asked for is up; any, where its name is not shown."""
    name = (scene.register or "").upper()
    wanted = {_STARTED.get(name)} if name else set(_STARTED.values())
    return not wanted.isdisjoint(scene.failure.host.remarks)


def _type_of_a_started_platform(scene: Scene) -> Answer:
    """The type has another number than the VMM asks for, or is not there yet."""
    name = (scene.register or "").upper()
    return name if name and scene.detail == "vm-type" and is_platform_up(scene) else None


def _dead(scene: Scene) -> bool:
    return scene.failure.setup is not None and is_dead(scene.failure.setup, scene.errno)


_UNKNOWN_CALL: Final = frozenset({"ENOTTY", "ENOSYS", "EOPNOTSUPP"})

SIGNS: Final = (
    Sign(
        "refused-before-any-vm",
        _SETUP,
        _before_any_vm,
        "KVM refused before there was any VM ({})",
        weights(host_setup=1.5, vmm=-1),
        "Rights, modules, firmware settings and other hypervisors decide; the guest and the VMM have no part in it yet.",
    ),
    Sign(
        "virtualization-is-taken",
        ("setup-refused", "not-this"),
        is_taken,
        "two hypervisors want the same CPU",
        weights(host_setup=2.5),
        "KVM_CREATE_VM fails with EBUSY where VMX or SVM is on already; VirtualBox says the same of KVM.",
    ),
    Sign(
        "other-hypervisor-cannot-start",
        ("not-this",),
        cannot_start,
        "it does not start on this machine: it is not installed, or virtualization is switched off",
        weights(host_setup=2.5, host_kernel=-2),
        "What such a message asks for is in the firmware's settings, or in what is installed.",
    ),
    Sign(
        "snp-cpuid-page-refused",
        _SETUP,
        lambda scene: scene.failure.setup is not None and "snp-cpuid" in slugs_of(scene.failure.setup),
        "the table of CPUID is what the SNP firmware refused",
        weights(vm_configuration=2, vmm=1, confidential_stack=-1.5),
        "QEMU fills the CPUID page from -cpu, and the firmware compares it with what the CPU has.",
    ),
    Sign(
        "vm-type-refused",
        _SETUP,
        _call_with("KVM_CREATE_VM", "EINVAL", "EOPNOTSUPP"),
        "this kind of VM is refused ({})",
        weights(vm_configuration=1, host_setup=0.5),
        "kvm_arch_init_vm: VM type, IPA size, parameters of the host's kernel.",
    ),
    Sign(
        "dev-kvm-refused",
        _SETUP,
        _call_with("open", "EACCES", "EPERM", "ENOENT", "ENODEV", "ENXIO"),
        "/dev/kvm cannot be opened ({})",
        weights(host_setup=1.5),
        "Rights, a missing module, or virtualization that is off.",
    ),
    Sign(
        "no-virtualization-here",
        _SETUP,
        lambda scene: (
            scene.event("virtualization-off", "no-virtualization")
            or _detail("no-hardware", "not-offered-by-cpu", "disabled-by-bios", "no-hyp-mode")(scene)
            or _no_flag(scene)
        ),
        "the kernel found no virtualization to use",
        weights(host_setup=1.5, outer_hypervisor=0.5, cpu=0.5),
        "Switched off in the firmware, held by another hypervisor, hidden from this VM, or not there.",
    ),
    Sign(
        "virtualization-hidden-below",
        _SETUP,
        _hidden_below,
        "this host is itself a virtual machine ({}) and is offered no virtualization",
        weights(outer_hypervisor=3, host_setup=-2),
        "A VM has VMX, SVM or EL2 only where the layer below is told to give it; what the VM itself sets up changes nothing.",
    ),
    Sign(
        "no-kvm-in-a-vm",
        _SETUP,
        _none_in_a_vm,
        "this host is itself a virtual machine ({}), and there is no KVM to use in it",
        weights(outer_hypervisor=2, host_setup=-1),
        "Distributions load KVM's module by themselves where the CPU has VMX or SVM: the layer below hides it mostly.",
    ),
    Sign(
        "kvm-off-by-parameter",
        _SETUP,
        _detail("disabled-by-parameter", "mode-not-possible"),
        "the host's kernel was started with a mode of KVM that rules it out",
        weights(host_setup=2.5),
        "arch/arm64/kvm/arm.c: early_kvm_mode_cfg. Nothing else is behind it.",
    ),
    Sign(
        "firmware-of-the-board-too-old",
        _SETUP,
        _detail("firmware-too-old"),
        "the board's SBI firmware is older than KVM needs",
        weights(host_setup=1.5, cpu=1),
        "arch/riscv/kvm/main.c: KVM asks for SBI v0.2 and RFENCE.",
    ),
    Sign(
        "kvm-init-failed",
        _SETUP,
        _detail("init-failed"),
        "KVM failed to set itself up, though virtualization is there",
        weights(host_kernel=1.5),
        "arch/arm64/kvm/arm.c: kvm_arm_init. Each step fails for want of memory, or by a bug.",
    ),
    Sign(
        "enable-failed",
        ("setup-refused", "host-trouble"),
        lambda scene: scene.event("virtualization-not-enabled") or _detail("enable-failed", "vmxon-failed")(scene),
        "virtualization could not be enabled on a CPU",
        weights(host_setup=1.5, outer_hypervisor=0.5),
        "virt/kvm/kvm_main.c: another hypervisor is active, or the CPU refuses.",
    ),
    Sign(
        "no-memory-for-the-vm",
        _SETUP,
        lambda scene: (
            scene.errno if scene.errno in _NO_ROOM and not (_launch(scene) and scene.errno == "EAGAIN") else None
        ),
        "the host has no room for it ({})",
        weights(host_setup=2),
        "Memory, file descriptors or address-space identifiers are used up.",
    ),
    Sign(
        "interrupted",
        _SETUP,
        lambda scene: scene.errno if scene.errno == "EINTR" else None,
        "a signal interrupted the call ({}), which the VMM has to make again",
        weights(vmm=2.5, host_setup=-1),
        "mm/mmap.c: mm_take_all_locks for KVM_CREATE_VM; QEMU's kvm_init and others loop on EINTR.",
    ),
    Sign(
        "security-module",
        _SETUP,
        lambda scene: scene.failure.setup is not None and by_a_security_module(scene.failure.setup, scene.errno),
        "EACCES comes from a security module or seccomp, and not from KVM",
        weights(host_setup=3, vmm=-1, host_kernel=-0.5),
        "Nothing under virt/kvm and arch/x86/kvm returns EACCES; security_* hooks do.",
    ),
    Sign(
        "launch-busy",
        _SETUP,
        lambda scene: scene.errno if _launch(scene) and scene.errno in {"EAGAIN", "EBUSY"} else None,
        "what was asked of the TDX module or the firmware may succeed when it is asked again ({})",
        weights(vmm=1, host_kernel=1, host_setup=0.5),
        "arch/x86/kvm/vmx/tdx.c: an operand is busy while another vCPU or key works on it; QEMU's tdx_finalize_vm loops.",
    ),
    Sign(
        "dead-vm",
        _SETUP,
        _dead,
        "KVM had given the whole VM up before: it found a bug in itself",
        weights(host_kernel=2.5, confidential_stack=0.5, vmm=-0.5),
        "include/linux/kvm_host.h: KVM_BUG_ON marks the VM dead; kvm_vcpu_ioctl answers EIO from then on.",
    ),
    Sign(
        "argument-refused",
        _SETUP,
        lambda scene: scene.call if scene.call in _ARGUMENTS and scene.detail not in _DEVICES else None,
        "KVM refused what the VMM passed in ({})",
        weights(vmm=1.5),
        "Such calls fail for their arguments; the VMM makes them.",
    ),
    Sign(
        "more-than-the-host-has",
        _SETUP,
        _detail(
            *("too-many-vcpus", "ipa-size", "kvm-type", "cpu-model-needs-kvm", "tdx-options", "sev-options"),
            *("sev-irqchip", "sev-firmware-image", "split-irqchip", "dirty-ring", "xen-emulation"),
        ),
        "the VM asks for what this host's KVM does not have",
        weights(vm_configuration=2),
        "Numbers of vCPUs, address width, VM type and options are a person's choice.",
    ),
    Sign(
        "type-of-a-started-platform",
        _SETUP,
        _type_of_a_started_platform,
        "{} is up on this host, and its KVM does not know the VM's type: kernel and VMM are of different stages of it",
        weights(host_kernel=2, vmm=1.5, host_setup=-2),
        "KVM_X86_TDX_VM became 5 when TDX was merged (6.16); kernels with earlier patches have another number.",
    ),
    Sign(
        "hyper-v-flag-refused",
        _SETUP,
        _detail("hyperv", "evmcs"),
        "the VM's CPU has flags of Hyper-V that this host's KVM does not give",
        weights(vm_configuration=2, host_setup=0.5, host_kernel=0.5),
        "target/i386/kvm/kvm.c: each hv- flag is a person's choice; hv-passthrough takes all that are listed.",
    ),
    Sign(
        "evmcs-without-nested-vmx",
        _SETUP,
        _detail("evmcs"),
        "this KVM offers no enlightened VMCS: nested VMX is off",
        weights(host_setup=1),
        "arch/x86/kvm/vmx/hyperv.c: nested_get_evmcs_version is 0 where KVM gives guests no VMX (nested=0).",
    ),
    Sign(
        "cpu-extension-not-the-vmms-choice",
        _SETUP,
        _detail("cpu-extension"),
        "the CPU's extensions are chosen by the VM's definition, and KVM gives others",
        weights(vm_configuration=2),
        "target/riscv/kvm/kvm-cpu.c: -cpu host,EXT=on|off.",
    ),
    Sign(
        "cpu-model-not-the-hosts",
        _SETUP,
        _detail("cpu-model"),
        "the VM has another CPU model than the host's, or none was asked for",
        weights(vm_configuration=2.5, vmm=-0.5),
        "target/arm/kvm.c: KVM on Arm runs the host's own CPU only: -cpu host, or -cpu max.",
    ),
    Sign(
        "arm-model-not-the-hosts",
        _SETUP,
        _other_arm_model,
        "the VM asks for CPU model {}, and KVM on Arm runs the host's own only",
        weights(vm_configuration=2.5, vmm=-0.5),
        "target/arm/kvm.c: kvm_arch_init_vcpu; KVM_ARM_VCPU_INIT refuses another target than the host's.",
    ),
    Sign(
        "gic-or-pmu-of-another-kind",
        _SETUP,
        lambda scene: (
            scene.arch == "arm64"
            and (
                _detail("pmu", "gic-version")(scene)
                or (scene.call == "KVM_SET_DEVICE_ATTR" and scene.errno in {"ENODEV", "ENXIO"})
            )
        ),
        "the machine has another interrupt controller, or a PMU that does not go with it, than the host can give",
        weights(vm_configuration=2.5, cpu=0.5, host_kernel=0.5, vmm=-0.5),
        "hw/arm/virt.c: gic-version is 2 unless the machine says host; GICv3 hosts may have no GICv2 for guests.",
    ),
    Sign(
        "capability-of-a-pseries-machine",
        _SETUP,
        _detail("ppc-capability", "irqchip-unavailable"),
        "the machine asks for a capability that this host's KVM or firmware does not give",
        weights(vm_configuration=2, host_setup=1, outer_hypervisor=0.5),
        "hw/ppc/spapr_caps.c: machine types ask for mitigations by default; firmware and KVM must have them.",
    ),
    Sign(
        "cpu-unknown-to-the-kernel",
        _SETUP,
        _detail("cpu-not-supported"),
        "the host's kernel has no support for virtualization on this kind of CPU, or with its page size",
        weights(host_kernel=2, cpu=0.5, host_setup=-0.5),
        "arch/arm/kvm: 32-bit KVM knew Cortex-A7 and A15 only; arch/arm64/kvm/reset.c: kvm_set_ipa_limit.",
    ),
    Sign(
        "not-offered-by-this-host",
        _SETUP,
        _detail(
            "sev-es-unavailable",
            "snp-unavailable",
            "tdx-disabled",
            "sev-device",
            "sev-platform",
            "sev-firmware-init",
            "sev-firmware",
        ),
        "this host does not offer the kind of protection that the VM asks for",
        weights(confidential_stack=1, host_setup=1),
        "BIOS settings, firmware and module parameters (kvm_amd.sev, sev_es, sev_snp; kvm_intel.tdx).",
    ),
    Sign(
        "slot-too-large",
        _SETUP,
        lambda scene: bool(scene.call and "MEMORY_REGION" in scene.call and _size(scene) > _MAX_SLOT),
        "the region is larger than a slot may be (8 TiB less a page)",
        weights(vm_configuration=3),
        "virt/kvm/kvm_main.c: KVM_MEM_MAX_NR_PAGES.",
    ),
    Sign(
        "msr-refused",
        _SETUP,
        _call("KVM_SET_MSRS", "KVM_GET_MSRS"),
        "KVM refused the value of an MSR",
        weights(vmm=0.5, host_kernel=0.5),
        "VMM, CPU model and kernel must agree about each.",
    ),
    *(
        Sign(name, _SETUP, _msr(ranges), f"MSR {{}} is {what}", by_origin, source)
        for name, ranges, what, by_origin, source in _MSRS
    ),
    Sign(
        "registers-of-a-protected-guest",
        _SETUP,
        lambda scene: (
            scene.call in {"KVM_SET_MSRS", *_SREGS, "KVM_SET_REGS"} and scene.confidential and not _dead(scene)
        ),
        "the VMM writes registers of a protected guest ({}), which nobody may",
        weights(vmm=1.5),
        "arch/x86/kvm/x86.c: guest_state_protected.",
    ),
    Sign(
        "state-of-an-unlike-cpu",
        _SETUP,
        _unlike_cpus,
        "the state does not fit this CPU: it comes from one with other features or widths",
        weights(vm_configuration=2, vmm=0.5),
        "Migration, snapshots and CPU models: CR4, EFER, memory-type masks and feature MSRs are checked on loading.",
    ),
    Sign(
        "posted-interrupts-refused",
        _SETUP,
        _posted_interrupts,
        "the capability has posted interrupts, which old kernels take away when Hyper-V's SynIC switches APICv off",
        weights(host_kernel=2.5, vmm=-1, vm_configuration=0.5),
        'vmx.c, until "clear PIN_BASED_POSTED_INTR from nested pinbased_ctls only when apicv is globally disabled" (5.6).',
    ),
    Sign(
        "first-registers-of-the-vmm",
        _SETUP,
        _own_registers,
        "{} fills in the vCPU's first registers by itself, and KVM does not accept them",
        weights(vmm=2),
        "arch/x86/kvm/x86.c: kvm_is_valid_sregs became stricter in 4.16: CS.L, EFER.LME, CR0.PG and CR4.PAE must agree.",
    ),
    Sign(
        "long-segment-without-long-mode",
        _SETUP,
        _long_without_efer,
        "CS has its L bit while EFER is 0: the guest's own descriptor, which KVM_SET_SREGS refuses",
        weights(guest_code=3, vmm=-1),
        "arch/x86/kvm/x86.c: kvm_is_valid_sregs.",
    ),
    Sign(
        "registers-differ-between-cores",
        _SETUP,
        _put_registers_on_arm,
        "constant ID registers were read on one kind of core and written on another",
        weights(host_setup=2, host_kernel=0.5),
        "big.LITTLE: QEMU reads them where it happens to run; KVM refuses another value.",
    ),
    Sign(
        "capability-missing",
        _SETUP,
        lambda scene: (
            (
                (
                    scene.call in {"KVM_CHECK_EXTENSION", "KVM_ENABLE_CAP"}
                    and not _detail("disable-exits", "ipa-size", "hyperv", "evmcs")(scene)
                )
                or _detail("version-too-old", "aia")(scene)
            )
            and not _no_interrupt_controller(scene)
        ),
        "a capability is missing here",
        weights(host_kernel=1, cpu=1, vmm=0.5),
        "Too old a kernel, or hardware without it (no GIC, no AIA).",
    ),
    Sign(
        "no-interrupt-controller",
        _SETUP,
        _no_interrupt_controller,
        "the CPU or board has no interrupt controller that KVM can use",
        weights(cpu=2.5, host_kernel=0.5, vm_configuration=0.5),
        "Arm boards without a GIC, or with another version than the machine asks for.",
    ),
    Sign(
        "exits-cannot-be-disabled",
        _SETUP,
        _detail("disable-exits"),
        "KVM cannot leave this instruction without an exit",
        weights(outer_hypervisor=3, vmm=0.5),
        "PAUSE, HLT and MWAIT exits can be off only if the CPU that KVM sees allows it; hypervisors below do not.",
    ),
    Sign(
        "vcpu-not-created",
        _SETUP,
        lambda scene: scene.call if scene.call in _OF_A_VCPU and not _no_interrupt_controller(scene) else None,
        "a vCPU or its interrupt controller could not be made ({})",
        weights(host_kernel=0.5, vm_configuration=0.5, vmm=0.5),
        "Numbers, features and CPU type asked for against those there are.",
    ),
    Sign(
        "firmware-refused-the-launch",
        _SETUP,
        lambda scene: (
            str(scene.firmware_error) if scene.firmware_error and _launch(scene) and not _handed_in(scene) else None
        ),
        "the security processor or the TDX module refused the launch (error {})",
        weights(confidential_stack=2.5, vm_configuration=0.5),
        "SEV API: firmware error codes; the platform's state, policy and versions.",
    ),
    Sign(
        "launch-refused-by-the-firmware-unnamed",
        _SETUP,
        lambda scene: (
            _launch(scene) and scene.errno == "EIO" and not scene.firmware_error and scene.confidential != "tdx"
        ),
        "the security processor refused the launch, and its error is not shown",
        weights(confidential_stack=2, vm_configuration=0.5),
        "drivers/crypto/ccp/sev-dev.c: __sev_do_cmd_locked returns EIO where the firmware reports an error, and else not.",
    ),
    Sign(
        "protection-unknown-to-the-vmm",
        _SETUP,
        _detail("object-unknown"),
        "the VMM does not know this kind of protection",
        weights(vmm=2, host_setup=1, confidential_stack=-1.5, host_kernel=-1),
        "qapi/qom.json: sev-guest since 2.12, sev-snp-guest since 9.1, tdx-guest since 10.1.",
    ),
    Sign(
        "accelerator-not-in-this-vmm",
        _SETUP,
        _detail("accelerator-not-built"),
        "the VMM that was started has no KVM, as one for another architecture has none",
        weights(vm_configuration=2, host_setup=-0.5, host_kernel=-1),
        "QEMU accel/accel-system.c: an x86 host runs no KVM for Arm; a package without KVM is the host's set-up.",
    ),
    Sign(
        "vmm-of-another-architecture",
        _SETUP,
        lambda scene: scene.detail == "accelerator-not-built" and scene.arch == "x86" and _arm_host(scene),
        "the host is an arm64 one, and the QEMU that was started is for x86",
        weights(vm_configuration=2, host_setup=-1),
        "KVM runs guests of the host's own architecture only.",
    ),
    Sign(
        "cpus-not-alike",
        ("setup-refused", "host-trouble"),
        _detail("inconsistent-cpus"),
        "the CPUs of the host do not offer the same abilities",
        weights(cpu=1.5, host_setup=0.5, host_kernel=0.5, outer_hypervisor=0.5),
        "arch/x86/kvm/vmx/vmx.c: vmx_check_processor_compat: microcode or firmware settings differ from CPU to CPU.",
    ),
    Sign(
        "launch-input-refused",
        _SETUP,
        _handed_in,
        "the security processor refused what was handed in for the launch: a policy, certificate, ID block or measurement",
        weights(vm_configuration=2.5, confidential_stack=0.5),
        "SEV API: INVALID_CERTIFICATE, POLICY_FAILURE, BAD_SIGNATURE and BAD_MEASUREMENT.",
    ),
    Sign(
        "launch-call-unknown",
        _SETUP,
        lambda scene: scene.errno if _launch(scene) and scene.errno in _UNKNOWN_CALL else None,
        "the host's kernel does not know this call ({}): kernel and VMM are of different versions",
        weights(host_kernel=1.5, host_setup=1.5, vmm=0.5),
        "arch/x86/kvm/x86.c: KVM_MEMORY_ENCRYPT_OP; the numbers of SNP's and TDX's calls changed until they were merged.",
    ),
    Sign(
        "kernel-refused-the-launch",
        _SETUP,
        lambda scene: _launch(scene) and scene.firmware_error == 0 and scene.errno not in _UNKNOWN_CALL,
        "the kernel refused the launch before the firmware saw it",
        weights(vm_configuration=1, host_kernel=0.5, vmm=0.5),
        "arch/x86/kvm/svm/sev.c: an argument, an order or a VM type that does not fit.",
    ),
    Sign(
        "confidential-setup",
        _SETUP,
        lambda scene: scene.confidential,
        "a confidential guest ({}) is being set up",
        weights(confidential_stack=1, host_setup=0.5),
        "Firmware, BIOS settings, module parameters and versions all have a say.",
    ),
    Sign(
        "young-vmm-setup",
        _SETUP,
        lambda scene: scene.young_vmm,
        "{} makes the VM by itself",
        weights(vmm=1),
        "Few hosts have seen it yet.",
    ),
    Sign(
        "vendor-kernel-on-riscv",
        _SETUP,
        lambda scene: scene.arch in {"riscv64", "loongarch"},
        "KVM is young on this architecture, and boards come with kernels of their vendors",
        weights(host_kernel=1.5, cpu=0.5),
        "Extensions in draft versions; parts that upstream has and the vendor's kernel lacks.",
    ),
)
