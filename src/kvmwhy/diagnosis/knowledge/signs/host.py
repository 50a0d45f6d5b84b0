"""Signs from the host: its kernel's log, its releases, and whether it is itself a virtual machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvmwhy.diagnosis.host_events import is_vmm
from kvmwhy.diagnosis.knowledge.sign import EMULATION, REFUSED_ENTRY, STOPPED, Answer, OfEvents, Sign, Test, weights
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import HostEvent

_GUESTS_ENTRY: Final = (*REFUSED_ENTRY, *EMULATION, "fetch-not-ram", "event-delivery", "exit-unhandled")
_CLOUDS: Final = ("-azure", "-aws", "-gcp", "-oracle", "-cloud-")
_METAL: Final = ("Supermicro", "HP", "HPE", "Hewlett", "Dell", "ASUS", "LENOVO", "Lenovo", "Gigabyte", "Intel", "ASRock", "Micro-Star", "Huawei", "Inspur", "Fujitsu", "Quanta", "Apple")  # fmt: skip
_REPORTS: Final = frozenset({"warning", "kernel-bug", "sanitizer", "locking", "cut-report"})
_OFF: Final = frozenset({"n", "0", "off", "no"})
_BEFORE_WESTMERE: Final = ("Core(TM)2", "Core(TM) 2", "Pentium(R) 4", "Pentium(R) D", "Xeon(R) CPU           5", "Xeon(R) CPU           E54", "Genuine Intel(R) CPU           T2", "Dual-Core")  # fmt: skip
# TDX module ABI, high half of the status: whose call it was, or what state the module is in.
_CALLERS: Final = (0xC000_0100, 0x8000_0200, 0x8000_0280, 0xC000_0300, 0xC000_0A00, 0xC000_0B00, 0xC000_0B08, 0xC000_0B09, 0xC000_0B0A)  # fmt: skip
_MODULES: Final = (0xC000_0500, 0xC000_0501, 0xC000_0502, 0xC000_0503, 0xC000_0504, 0xC000_0505, 0xC000_0C00, 0xE000_0604, 0x6000_0600, 0xE000_0600)  # fmt: skip
CGROUP_FULL: Final = "the memory limit of a cgroup was reached"
HOST_FULL: Final = "the host ran out of memory"
_VIRTUAL: Final = ("QEMU", "Virtual", "VMware", "KVM", "Cloud Hypervisor", "dummy-virt", "Bochs", "Compute Engine", "EC2", "Xen")  # fmt: skip


def _outer(scene: Scene) -> Answer:
    return scene.outer if scene.outer != "unnamed" else "of an unnamed hypervisor"


def _switched_off(*names: str) -> Test:
    """A parameter of the host's kernel modules, where the log shows its value."""

    def test(scene: Scene) -> Answer:
        shown = scene.failure.host.parameters
        return next((f"{name}={shown[name]}" for name in names if shown.get(name, "").lower() in _OFF), None)

    return test


def _old_intel(scene: Scene) -> Answer:
    """Intel's CPUs before Westmere have no unrestricted guest."""
    name = scene.failure.host.cpu_name
    return name if name and any(mark in name for mark in _BEFORE_WESTMERE) else None


def _cloud_kernel(scene: Scene) -> Answer:
    name = scene.kernel
    return name if name and any(mark in name for mark in _CLOUDS) else None


def _metal(scene: Scene) -> Answer:
    if scene.outer:
        return None
    if scene.is_physical:
        return "it says so itself"
    name = scene.dmi
    if name is None or any(mark in name for mark in _VIRTUAL):
        return None
    return name if name.startswith(_METAL) else None


def _development(scene: Scene) -> Answer:
    name, release = scene.kernel, scene.release
    if name is None or release is None:
        return None
    built = release.candidate or name.endswith("+") or "-dirty" in name or "-next" in name or "-smp-" in name
    return name if built else None


def _before(major: int, minor: int) -> Test:
    def test(scene: Scene) -> Answer:
        return scene.kernel if scene.release and scene.release.series < (major, minor) else None

    return test


def _event(*kinds: str) -> Test:
    return OfEvents(kinds)


def short_of_memory(scene: Scene) -> str | None:
    """mm/oom_kill.c: the limit of a cgroup is met while the host has memory left."""
    events = [event for event in scene.events if event.kind in {"oom-kill", "oom-called", "page-allocation-failed"}]
    if not events:
        return None
    in_cgroup = any(
        e.fields.get("limit") == "cgroup" or e.fields.get("constraint") == "CONSTRAINT_MEMCG" for e in events
    )
    return CGROUP_FULL if in_cgroup else HOST_FULL


def _reports(scene: Scene) -> Iterator[HostEvent]:
    """What the kernel says against itself, faults of VMX and SVM instructions apart."""
    for event in scene.events:
        if (
            event.kind in _REPORTS
            and "spurious_fault" not in f"{event.fields.get('function')}{event.fields.get('trace')}"
        ):
            yield event


def _of_kvm(event: HostEvent) -> bool:
    return "kvm" in event.fields or "/kvm/" in str(event.fields.get("path"))


def _kvm_report(scene: Scene) -> Answer:
    return next((event for event in _reports(scene) if _of_kvm(event)), None)


def _report_elsewhere(scene: Scene) -> Answer:
    return next((event for event in _reports(scene) if not _of_kvm(event)), None)


def _vmx_faults(scene: Scene) -> Answer:
    """VMX and SVM instructions, or the write that switches them on, fault."""
    return scene.event("vmxon-failed", "msr-access-error") or next(
        (e for e in scene.events if "spurious_fault" in f"{e.fields.get('function')}{e.fields.get('trace')}"), None
    )


def _many_vms_dying(scene: Scene) -> Answer:
    """INIT while the guest ran: nobody but the host's reset line sends it (SDM vol. 3C, 24.2 and appendix C: 3)."""
    return scene.mechanism == "exit-unhandled" and scene.vendor != "svm" and scene.exit_reason == 3


_ARM_SEA: Final = 41  # KVM_EXIT_ARM_SEA
_POISONED: Final = frozenset({4, 5})  # BUS_MCEERR_AR, BUS_MCEERR_AO
SIGNS: Final = (
    Sign(
        "outer-hypervisor-named",
        _GUESTS_ENTRY,
        _outer,
        "this host is itself a virtual machine ({})",
        weights(outer_hypervisor=2, guest_code=-0.5),
        "KVM in a VM gets VMX or SVM from the layer below; what is wrong or missing there shows as a refused entry.",
    ),
    Sign(
        "outer-hypervisor-beside-host-trouble",
        ("host-trouble",),
        _outer,
        "this host is itself a virtual machine ({})",
        weights(outer_hypervisor=1.5),
        "KVM's own WARNs are as frequent in test VMs as on metal; only VMX and SVM faults point below.",
    ),
    Sign(
        "outer-hypervisor-beside-the-rest",
        ("setup-refused", "run-errno", "triple-fault", "exit-unknown-to-vmm", "exit-unknown-to-kvm", "not-shown"),
        _outer,
        "this host is itself a virtual machine ({})",
        weights(outer_hypervisor=1),
        "The layer below decides which MSRs, capabilities and counters there are.",
    ),
    Sign(
        "cloud-kernel",
        (*REFUSED_ENTRY, "fetch-not-ram", "setup-refused", "host-trouble"),
        _cloud_kernel,
        "the host's kernel, {}, is one that clouds build for their virtual machines",
        weights(outer_hypervisor=1),
        "Ubuntu's and Debian's flavours for Azure, AWS, GCP and Oracle run in VMs, bare-metal instances apart.",
    ),
    Sign(
        "bare-metal",
        None,
        _metal,
        "the host is a physical machine ({})",
        weights(outer_hypervisor=-2),
        "DMI names a board of its own, and no hypervisor; or systemd-detect-virt says none.",
    ),
    Sign(
        "development-kernel",
        (*STOPPED, "host-trouble", "setup-refused", "undef-injected"),
        _development,
        "the host's kernel, {}, is a development or self-made one",
        weights(host_kernel=1.5),
        "Release candidates, linux-next and patched trees are where KVM's regressions are met and reported.",
    ),
    Sign(
        "kernel-before-4.0",
        (*REFUSED_ENTRY, *EMULATION, "fetch-not-ram", "event-delivery", "simultaneous-events", "exception-exit"),
        _before(4, 0),
        "the host's kernel, {}, is of before 2015",
        weights(host_kernel=1),
        "Emulator, nested virtualization and real mode without unrestricted guest were finished in the 3.x series.",
    ),
    Sign(
        "kvm-warned",
        STOPPED,
        _kvm_report,
        "KVM itself warned of a state that it holds impossible",
        weights(host_kernel=2),
        "A WARN_ON or BUG_ON in arch/*/kvm or virt/kvm states that KVM's own assumption is broken.",
    ),
    Sign(
        "kvm-warning-alone",
        ("host-trouble",),
        _kvm_report,
        "KVM itself warned of a state that it holds impossible",
        weights(host_kernel=1),
        "The same without a guest's failure; faults of VMX instructions have a sign of their own.",
    ),
    Sign(
        "host-oops",
        (*STOPPED, "host-trouble"),
        _event("oops"),
        "the host's kernel oopsed",
        weights(host_kernel=2),
        "A kernel that oopses beside the failure is not at its senses; no guest may cause it.",
    ),
    Sign(
        "host-memory-failed",
        ("host-trouble",),
        lambda scene: scene.failure.exit_reason == _ARM_SEA or scene.failure.exit_fields.get("si_code") in _POISONED,
        "the hardware reported an error of the host's memory",
        weights(host_dying=3, host_kernel=-3, outer_hypervisor=-2),
        "KVM_EXIT_ARM_SEA (arch/arm64/kvm/mmu.c: kvm_handle_guest_sea), SIGBUS with BUS_MCEERR_AR or _AO.",
    ),
    Sign(
        "kernel-warned-elsewhere",
        ("run-errno", "host-trouble", *EMULATION, "fetch-not-ram"),
        _report_elsewhere,
        "the host's kernel warned outside KVM",
        weights(host_kernel=1.5),
        "Memory management that warns (hugetlb counters, page state) loses the pages that KVM asks for.",
    ),
    Sign(
        "page-state-bad",
        None,
        _event("page-state-bad"),
        "the host's kernel reports a page in a bad state",
        weights(host_kernel=3, host_dying=0.5),
        "mm/page_alloc.c: bad_page: a bug of the memory management, or bad RAM.",
    ),
    Sign(
        "reserved-bits-in-sptes",
        None,
        _event("spte-reserved-bits", "spte-change-invalid", "spte-writable-odd", "tdp-root-bad", "mmu-page-mismatch"),
        "KVM found reserved bits in its own page tables",
        weights(host_kernel=3),
        "arch/x86/kvm/mmu/mmu.c: get_mmio_spte: only KVM writes these tables.",
    ),
    Sign(
        "virtualization-instruction-faults",
        ("host-trouble", "setup-refused", "run-errno", "not-shown"),
        _vmx_faults,
        "VMXON, VMPTRLD or a write of EFER.SVME faults although the CPU offers virtualization",
        weights(outer_hypervisor=1.5, host_setup=0.5, host_dying=0.5),
        "arch/x86/kvm: kvm_spurious_fault: a hypervisor below that offers what it does not do, a reboot, or VMXOFF by another module.",
    ),
    Sign(
        "vmcs-cannot-be-loaded",
        None,
        _event("vmptrld-failed", "vmclear-failed", "invept-failed", "invvpid-failed"),
        "VMPTRLD or VMCLEAR failed on the host",
        weights(host_kernel=1.5, outer_hypervisor=0.5, cpu=0.5),
        "arch/x86/kvm/vmx/vmx_ops.h: the address is KVM's own; a hypervisor below or a defect may refuse it.",
    ),
    Sign(
        "vmcs-field-refused",
        None,
        _event("vmread-failed", "vmwrite-failed"),
        "the CPU refused KVM's access to a field of the VMCS",
        weights(outer_hypervisor=1, host_kernel=1),
        "On metal a field exists or KVM does not use it; partial VMX of a hypervisor lacks fields.",
    ),
    Sign(
        "evmcs-field-unsupported",
        None,
        _event("evmcs-field"),
        "KVM uses a field that Hyper-V's enlightened VMCS lacks",
        weights(host_kernel=2, outer_hypervisor=0.5),
        "arch/x86/kvm/vmx/hyperv.h: KVM filters its controls by this table; one that slips through is KVM's.",
    ),
    Sign(
        "machine-check",
        None,
        _event("machine-check", "memory-poisoned", "memory-error"),
        "the host reports a machine check or a memory failure",
        weights(host_dying=2.5, cpu=0.5),
        "drivers and mm/memory-failure.c: the hardware under the guest is failing.",
    ),
    Sign(
        "hardware-alone",
        ("host-trouble",),
        _event("machine-check", "memory-poisoned", "memory-error"),
        "the trouble that is shown is the hardware's",
        weights(host_dying=1.5, host_kernel=-1),
        "What the kernel reports of the hardware is not its own doing.",
    ),
    Sign(
        "out-of-memory",
        None,
        short_of_memory,
        "{}",
        weights(host_setup=2),
        "mm/oom_kill.c: what the host has is less than what its guests were promised.",
    ),
    Sign(
        "vmm-killed-for-memory",
        ("host-trouble", "not-shown"),
        lambda scene: next((e for e in scene.events if e.kind == "oom-kill" and is_vmm(e)), None),
        "the VMM itself was killed for want of memory",
        weights(host_setup=2, host_kernel=-2, outer_hypervisor=-2),
        "mm/oom_kill.c; in a cgroup it is the limit that people set, not the machine's memory.",
    ),
    Sign(
        "init-exits",
        ("exit-unhandled", "host-trouble"),
        _many_vms_dying,
        "the CPU left the guest for an INIT signal: the host is being reset",
        weights(host_dying=3),
        "SDM vol. 3C, 26.2: INIT reaches a CPU in VMX non-root operation as exit 3; KVM asks for none.",
    ),
    Sign(
        "rival-module",
        (*REFUSED_ENTRY, "setup-refused", "host-trouble", "run-errno"),
        lambda scene: ", ".join(scene.rivals) or None,
        "another hypervisor's module is loaded on this host ({})",
        weights(host_setup=2),
        "vboxdrv and vmmon take VMX or SVM of a CPU for themselves.",
    ),
    Sign(
        "module-parameter-off",
        (*REFUSED_ENTRY, *EMULATION, "fetch-not-ram", "exception-exit"),
        _switched_off(
            "kvm_intel.unrestricted_guest", "kvm_intel.ept", "kvm_intel.emulate_invalid_guest_state", "kvm_amd.npt"
        ),
        "a module parameter takes an ability away ({})",
        weights(host_setup=2),
        "Without unrestricted guest real mode is emulated; without emulation of invalid states it cannot run at all.",
    ),
    Sign(
        "nesting-off",
        ("setup-refused", "undef-injected", "triple-fault"),
        _switched_off("kvm_intel.nested", "kvm_amd.nested", "kvm_amd.sev", "kvm_amd.sev_es", "kvm_intel.tdx"),
        "a module parameter switches the ability off ({})",
        weights(host_setup=2),
        "Documentation/admin-guide/kernel-parameters.txt.",
    ),
    Sign(
        "cpu-without-unrestricted-guest",
        (*REFUSED_ENTRY, *EMULATION, "exception-exit"),
        _old_intel,
        "the host's CPU ({}) cannot run real mode by itself",
        weights(cpu=1.5, host_kernel=0.5, guest_firmware=0.5),
        "Unrestricted guest came with Westmere in 2010.",
    ),
    Sign(
        "tdx-not-initialised",
        None,
        _event("tdx-not-enabled"),
        "the host's TDX module did not initialise",
        weights(confidential_stack=2, host_setup=0.5),
        "arch/x86/virt/vmx/tdx/tdx.c: the module, its version or the BIOS settings refuse.",
    ),
    Sign(
        "seamcall-status-of-the-caller",
        None,
        lambda scene: scene.status is not None and scene.status >> 32 in _CALLERS,
        "the SEAMCALL's status says that the caller's order or operand was wrong",
        weights(host_kernel=2.5),
        "TDX module ABI: OPERAND_INVALID, OPERAND_BUSY, PAGE_METADATA_INCORRECT, TLB_TRACKING_NOT_DONE and EPT states depend on what the kernel did before.",
    ),
    Sign(
        "seamcall-status-of-the-module",
        None,
        lambda scene: scene.status is not None and scene.status >> 32 in _MODULES,
        "the SEAMCALL's status says that the TDX module or the domain as a whole cannot go on",
        weights(confidential_stack=2.5),
        "TDX module ABI: SYS_* states, TD_FATAL and non-recoverable classes.",
    ),
    Sign(
        "sev-firmware-error",
        None,
        _event("sev-init-failed", "sev-command-failed", "snp-not-enabled"),
        "the SEV firmware refused to initialise",
        weights(confidential_stack=2.5, host_setup=0.5),
        "drivers/crypto/ccp/sev-dev.c: firmware version and BIOS settings decide.",
    ),
    Sign(
        "rmp-owner",
        ("run-errno", "host-trouble", "exit-unknown-to-vmm", *REFUSED_ENTRY),
        _event("rmp-fault", "rmp-update-failed"),
        "a page's owner in the RMP table is not the expected one",
        weights(host_kernel=1, confidential_stack=1),
        "arch/x86/virt/svm/sev.c: whoever assigned the page, the kernel or the guest, forgot it.",
    ),
    Sign(
        "arm-hypervisor-panicked",
        None,
        _event("hyp-panic", "hyp-panic-state", "pkvm-exception"),
        "KVM's own code below the host's kernel panicked",
        weights(host_kernel=2),
        "arch/arm64/kvm/hyp: nothing of a guest runs there.",
    ),
    Sign(
        "ept-violation-ve-missing",
        None,
        _event("tdx-cpu-unfit"),
        "the CPU that the kernel sees lacks EPT-violation #VE",
        weights(outer_hypervisor=2),
        "Every CPU with TDX has it; a hypervisor below does not pass it on.",
    ),
    Sign(
        "system-register-refused",
        None,
        _event("sysreg-refused"),
        "KVM has no entry for a system register that the guest reads or writes",
        weights(host_kernel=2, guest_code=0.5),
        "arch/arm64/kvm/sys_regs.c: a newer guest on an older host, or a table that forgot to hide a feature.",
    ),
    Sign(
        "fault-status-unsupported",
        ("run-errno", "host-trouble"),
        _event("abort-not-handled", "ppc-memory-fault", "exception-type-unknown"),
        "KVM met a fault status that it has no answer to",
        weights(host_kernel=2),
        "arch/arm64/kvm/mmu.c: kvm_handle_guest_abort; arch/powerpc/kvm: DSISR_UNSUPP_MMU: how KVM maps the memory decides.",
    ),
    Sign(
        "kvm-selftest",
        (*STOPPED, "host-trouble", "setup-refused", "undef-injected"),
        lambda scene: scene.speaker if scene.speaker in {"kvm-selftests", "kvm-unit-tests"} else None,
        "this is a test of KVM itself ({})",
        weights(host_kernel=1, guest_code=0.5),
        "tools/testing/selftests/kvm and kvm-unit-tests: what they find is KVM's, unless the test plays a wrong guest.",
    ),
)
