"""What each role can do, by whose doing it most likely was. Every entry has the condition under which it helps.

No entry asks for what the page shows already, and none is for another vendor, firmware or architecture than the one
at hand. ``{}`` stands for what the condition answers, if that is a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

from kvmwhy.diagnosis.code_window import Window
from kvmwhy.diagnosis.injections import injections
from kvmwhy.diagnosis.knowledge.setup_meanings import by_a_security_module, is_dead, slugs_of
from kvmwhy.diagnosis.knowledge.sign import EMULATION, REFUSED_ENTRY
from kvmwhy.diagnosis.knowledge.signs.host import CGROUP_FULL, HOST_FULL, short_of_memory
from kvmwhy.diagnosis.kvm_run_alone import is_only_a_page
from kvmwhy.diagnosis.phrasing import at, fetched_from
from kvmwhy.diagnosis.scene import Scene

Role = Literal["guest", "vmm", "host"]
Condition = Callable[[Scene], str | bool | None]


class Entry(Struct, frozen=True):
    """``mechanisms``: ``None`` for all."""

    origin: str
    role: Role
    text: str
    mechanisms: tuple[str, ...] | None = None
    when: Condition = lambda _: True


def _started(scene: Scene) -> bool:
    """The host's log says that the protection asked for is up."""
    from kvmwhy.diagnosis.knowledge.signs.setup import is_platform_up  # asked of refused set-ups alone

    return is_platform_up(scene)


def _type_refused(scene: Scene) -> bool:
    from kvmwhy.diagnosis.knowledge.signs.setup import is_vm_type_refused  # likewise

    return is_vm_type_refused(scene)


_AC: Final = 17
_NO_PAGE: Final = frozenset({48, 49, 0x400})  # EPT_VIOLATION, EPT_MISCONFIG, NPF: the address had no RAM
# VMfailInvalid, and "invalid control fields": what a hypervisor below gives for a control that it offers and does not take.
# Host state, the list of MSRs and a machine check have nothing to do with unrestricted guest.
_OF_PARTIAL_VMX: Final = frozenset({0, 7})
_NO_IMAGE: Final = frozenset(
    {"gvisor", "kvm-selftests", "kvm-unit-tests", "hyperlight", "dosemu2", "wine"}
)  # nothing that QEMU boots
_SETUP: Final = ("setup-refused",)
_NOT_FOR_ITS_ARGUMENTS: Final = frozenset({"EINTR", "EAGAIN", "EACCES"})
_RUN: Final = ("run-errno",)


def _exceptions(scene: Scene) -> bool:
    """Whether those that became a triple fault are shown."""
    from kvmwhy.diagnosis.triple_fault import chain_of

    return bool(chain_of(scene.failure).faults)


def _first_exception(scene: Scene) -> str | bool:
    """By name and place, where that is known and the structure that its delivery lacked is not."""
    from kvmwhy.abi.x86.exceptions import MNEMONICS
    from kvmwhy.diagnosis.triple_fault import chain_of, missing_structure

    faults = chain_of(scene.failure).faults
    if not faults or faults[0].rip is None or missing_structure(scene.failure) is not None or _tables_lost(scene):
        return False
    return f"{MNEMONICS.get(faults[0].vector, f'vector {faults[0].vector}')} at RIP {faults[0].rip:#x}"


def _tables_lost(scene: Scene) -> bool:
    return any(injection.walk for injection in injections(scene.failure.trace))


def _missing(*structures: str) -> Condition:
    def condition(scene: Scene) -> bool:
        from kvmwhy.diagnosis.triple_fault import missing_structure

        return missing_structure(scene.failure) in structures

    return condition


def _is_named(scene: Scene) -> bool:
    return not is_only_a_page(scene.failure)


def _prints_little(scene: Scene) -> bool:
    """QEMU prints all of it: there, only the text at hand is cut."""
    return not (scene.speaker or "").startswith("qemu")


def _intel(scene: Scene) -> bool:
    return scene.vendor in {"vmx", None} and scene.arch in {"x86", None}


def _unseen(scene: Scene) -> bool:
    """The kernel finds no VMX or SVM to use."""
    if scene.call == "open" and "no-vmx-or-svm" in scene.failure.host.remarks:
        return True
    return scene.call == "module" and (scene.detail == "no-hardware" or scene.errno == "EOPNOTSUPP")


def _not_started(scene: Scene) -> bool:
    """Another hypervisor could not begin, or found the CPU taken."""
    from kvmwhy.diagnosis.knowledge.signs.setup import cannot_start, is_taken  # asked of other hypervisors alone

    return bool(cannot_start(scene) or is_taken(scene))


def _refused(*errnos: str) -> Condition:
    return lambda scene: scene.call == "open" and (scene.errno in errnos)


# Of every x86-64 CPU: nobody runs a guest without them.
_NEVER_HIDDEN: Final = frozenset(
    {"tsc", "apic", "sep", "lm", "syscall", "msr", "pat", "mtrr", "pge", "fpu", "mce", "mca"}
)


def _hideable(scene: Scene) -> str | bool:
    """The MSR, and by what its feature is hidden."""
    from kvmwhy.abi.x86.msr import describe_msr  # asked of refused set-ups alone

    known = None if scene.msr is None else describe_msr(scene.msr)
    features = [name for name in known.features if name not in _NEVER_HIDDEN] if known else []
    if scene.msr is None or not features:
        return False
    hidden = ",".join("pmu=off" if name == "pmu" else f"-{name}" for name in features[:2])
    return f"{scene.msr:#x} (QEMU: -cpu …,{hidden})"


def _update(scene: Scene) -> str | bool:
    newer = scene.verdict is not None and scene.verdict.since and scene.mechanism == "emulation-no-handler"
    return scene.verdict.since or False if newer and scene.verdict else False


def _efault_of(*devices: str) -> Condition:
    return lambda scene: scene.errno == "EFAULT" and bool(scene.devices & set(devices))


def _unknown_launch(scene: Scene) -> bool:
    return scene.confidential is not None and scene.errno == "ENOTTY"


def _jumped_to(scene: Scene) -> str | None:
    gpa = scene.facts.access.gpa if scene.facts.access else None
    return None if scene.rip is None and gpa is None else fetched_from(scene.facts)


def _small_ram(scene: Scene) -> bool:
    known = scene.ram is not None and scene.ram < 128 << 20
    low = scene.gpa is not None and scene.paging is False and 1 << 20 <= scene.gpa < 128 << 20
    return known or (low and scene.mode != "long64")


def _in_seabios(scene: Scene) -> bool:
    return scene.rip_place in {"bios", "option-rom"}


def _operand(scene: Scene) -> str | bool:
    """Of an operating system's code, which has such accessors, and of an instruction that KVM cannot do."""
    can = scene.verdict is not None and scene.verdict.outcome == "handler"
    return scene.mnemonic or False if scene.memory_operand and scene.paging and not can else False


ENTRIES: Final[tuple[Entry, ...]] = (
    # -- the hypervisor around the host
    Entry(
        "outer-hypervisor",
        "host",
        "Switch the virtualization of CPUs for guests on in VMware (vhv.enable); until that helps, load kvm_intel with unrestricted_guest=0.",
        (*REFUSED_ENTRY, *EMULATION, "fetch-not-ram"),
        lambda scene: scene.outer is not None and "VMware" in scene.outer and _intel(scene),
    ),
    Entry(
        "outer-hypervisor",
        "host",
        "If this host is itself a virtual machine, load kvm_intel with unrestricted_guest=0 and try again: partial VMX of an"
        " outer hypervisor mostly fails there.",
        ("entry-refused-controls", "entry-vmfail-no-number"),
        lambda scene: (
            scene.outer is None
            and not scene.is_physical
            and _intel(scene)
            and scene.mode in {"real16", None}
            and scene.failure.hardware_error in _OF_PARTIAL_VMX
        ),
    ),
    Entry(
        "outer-hypervisor",
        "vmm",
        "Start the VM without SMM: firmware without Secure Boot (QEMU: -machine smm=off). Nested SVM has no SMM for its guests.",
        REFUSED_ENTRY,
        lambda scene: bool(scene.smm) and scene.vendor == "svm",
    ),
    Entry(
        "outer-hypervisor",
        "vmm",
        "Do not switch HLT, MWAIT or PAUSE exits off (QEMU: no -overcommit cpu-pm=on): the hypervisor around the host must allow it.",
        ("entry-vmfail-no-number", "entry-refused-controls", "setup-refused"),
        lambda scene: (
            scene.detail == "disable-exits" or (scene.mechanism != "setup-refused" and scene.state == "reset")
        ),
    ),
    Entry(
        "outer-hypervisor",
        "host",
        "Update the hypervisor around this host ({}) and give its VM the host's CPU model; or use a physical machine.",
        None,
        lambda scene: scene.outer or False,
    ),
    Entry(
        "outer-hypervisor",
        "host",
        "If this host is itself a virtual machine (`systemd-detect-virt`), update the hypervisor around it, or use a physical machine.",
        None,
        lambda scene: scene.outer is None and scene.dmi is None and not scene.is_physical,
    ),
    # -- the host's kernel
    *(
        Entry(
            origin,
            "host",
            "Take kernel and VMM of one stage: upstream's QEMU asks for upstream's numbers (SEV-SNP: QEMU 9.1 with Linux 6.11;"
            " TDX: QEMU 10.1 with Linux 6.16), a kernel with earlier patches needs the QEMU that came with it.",
            _SETUP,
            lambda scene: scene.detail == "vm-type" and _started(scene),
        )
        for origin in ("host-kernel", "vmm")
    ),
    Entry(
        "host-kernel",
        "host",
        "Look into the host's kernel log for the WARNING of KVM's that stands before it, and send it to kvm@vger.kernel.org.",
        _SETUP,
        lambda scene: scene.failure.setup is not None and is_dead(scene.failure.setup, scene.errno),
    ),
    Entry(
        "host-kernel",
        "host",
        "Update the host's kernel to {} or newer: it emulates this instruction.",
        EMULATION,
        _update,
    ),
    Entry(
        "host-kernel",
        "host",
        "Report it to kvm@vger.kernel.org with the whole log of this boot; bisect if an older kernel works.",
        None,
        lambda scene: bool(scene.release and scene.release.candidate) and bool(scene.kernel),
    ),
    Entry(
        "host-kernel",
        "host",
        "Boot another kernel: the newest of the distribution, and if this began with an update, the one before.",
        None,
        lambda scene: (
            scene.mechanism not in {"not-this", "not-shown"} and not (scene.release and scene.release.candidate)
        ),
    ),
    Entry(
        "host-kernel",
        "vmm",
        "Hide the instruction's feature from the guest's CPUID (QEMU: -cpu …,-FEATURE).",
        ("emulation-no-handler",),
        lambda scene: scene.mnemonic is not None,
    ),
    Entry(
        "host-kernel",
        "guest",
        "It is harmless unless the guest stops: the guest may use an older kernel, or the host a newer one.",
        ("undef-injected",),
        lambda scene: not scene.failure.silent and scene.failure.source.vmm is None,
    ),
    Entry(
        "guest-code",
        "guest",
        "Access device memory with plain loads and stores in that program: it was given #UD (SIGILL) for this instruction.",
        ("undef-injected",),
        lambda scene: scene.failure.silent and scene.memory_operand,
    ),
    Entry(
        "host-kernel",
        "host",
        "Update the hypervisor that reports it, and ask its makers: no KVM is in this.",
        ("not-this",),
        lambda scene: scene.speaker != "own",
    ),
    Entry(
        "guest-code",
        "guest",
        "Follow the exceptions from the first that the guest cannot take (QEMU: -d int,cpu_reset -no-reboot): its code or tables raise them.",
        ("not-this",),
        lambda scene: scene.logs_the_guest,
    ),
    Entry(
        "vmm",
        "vmm",
        "Look that error up in the SDM (vol. 3C, 31.4), and hold the VMCS against it: for 7 the control fields against the CPU's"
        " capability MSRs. If the hypervisor itself runs in a VM of KVM, KVM made the check: see the outer host's log, too.",
        ("not-this",),
        lambda scene: scene.speaker == "own",
    ),
    # -- how the host is set up
    Entry(
        "host-setup",
        "host",
        "Stop the other hypervisor: `lsmod | grep -E 'vboxdrv|vmmon'` names it, and `fuser /dev/kvm` who else uses KVM.",
        ("setup-refused", "entry-vmfail-no-number"),
        lambda scene: scene.errno == "EBUSY" or scene.mechanism == "entry-vmfail-no-number",
    ),
    Entry(
        "host-setup",
        "host",
        "Give the user /dev/kvm: `usermod -aG kvm USER` and a new login.",
        _SETUP,
        _refused("EACCES", "EPERM"),
    ),
    Entry(
        "host-setup",
        "host",
        "Load KVM: `modprobe kvm_intel` or `modprobe kvm_amd`; `dmesg | grep -i kvm` says why it does not load.",
        _SETUP,
        _refused("ENOENT", "ENODEV", "ENXIO"),
    ),
    Entry(
        "host-setup",
        "host",
        "Look at it: `ls -l /dev/kvm` (who may open it), `lsmod | grep kvm`, and `dmesg | grep -i kvm`, which says why a module does not load.",
        _SETUP,
        lambda scene: scene.errno is None and scene.call == "open" and scene.detail != "accelerator-not-built",
    ),
    Entry(
        "host-setup",
        "host",
        "Switch virtualization on in the firmware's setup (VT-x, SVM); where the host is itself a virtual machine, the hypervisor around it must offer nested virtualization.",
        _SETUP,
        lambda scene: scene.arch in {"x86", None} and _unseen(scene),
    ),
    Entry(
        "host-setup",
        "host",
        "Read `dmesg | grep -i kvm`: the module says there why it does not load.",
        _SETUP,
        lambda scene: scene.call == "module" and scene.detail == "modprobe" and not _unseen(scene),
    ),
    Entry(
        "host-setup",
        "host",
        "Switch this type of VM on in the firmware's setup and in KVM's module (kvm_intel: tdx=1; kvm_amd: sev_snp=1); `dmesg | grep -iE 'tdx|sev'` says what is lacking.",
        _SETUP,
        lambda scene: (
            (scene.detail == "vm-type" or _type_refused(scene)) and scene.arch in {"x86", None} and not _started(scene)
        ),
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Try a plain VM first: without a confidential guest (-machine confidential-guest-support, kvm-type), and on Arm with less"
        " memory or fewer address bits.",
        _SETUP,
        _type_refused,
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Start the QEMU of the host's own architecture (uname -m; it lists its accelerators with -accel help): a guest of another one runs without KVM, by emulation.",
        _SETUP,
        lambda scene: scene.detail == "accelerator-not-built",
    ),
    Entry(
        "host-setup",
        "host",
        "Install a QEMU that is built with KVM (`qemu-system-x86_64 -accel help` lists it).",
        _SETUP,
        lambda scene: scene.detail == "accelerator-not-built",
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Leave hv-evmcs out (with hv-passthrough: -cpu host,hv-passthrough,-hv-evmcs): only a Hyper-V inside the guest uses it.",
        _SETUP,
        lambda scene: scene.detail == "evmcs" or scene.register == "hv-evmcs",
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Leave {} out of the CPU's flags, or take a host whose kernel has it.",
        _SETUP,
        lambda scene: scene.register if scene.detail == "hyperv" and scene.register != "hv-evmcs" else None,
    ),
    Entry(
        "host-setup",
        "host",
        "Look for the denial: `ausearch -m avc -ts recent` (SELinux), `dmesg | grep -i apparmor`, the container's seccomp profile.",
        _SETUP,
        lambda scene: scene.failure.setup is not None and by_a_security_module(scene.failure.setup, scene.errno),
    ),
    Entry(
        "host-setup",
        "host",
        "Load kvm_intel with nested=1, if the guest is to run Hyper-V itself.",
        _SETUP,
        lambda scene: scene.detail == "evmcs",
    ),
    Entry(
        "vmm",
        "vmm",
        "Make the call again as long as its errno is {}; newer releases of most VMMs do.",
        _SETUP,
        lambda scene: (
            scene.errno if scene.errno == "EINTR" or (scene.errno == "EAGAIN" and scene.confidential == "tdx") else None
        ),
    ),
    Entry(
        "host-setup",
        "host",
        "Switch virtualization on in the firmware's setup, and end what else holds it: KVM's modules (`lsmod | grep kvm`); on Windows Hyper-V, WSL 2 and memory integrity.",
        ("not-this",),
        _not_started,
    ),
    Entry(
        "host-setup",
        "host",
        "Switch virtualization on in the firmware's setup (VT-x, VMX, SVM), and power the machine off and on.",
        _SETUP,
        lambda scene: scene.detail == "disabled-by-bios" or scene.event("virtualization-off") is not None,
    ),
    Entry(
        "host-setup",
        "host",
        "Take kvm-arm.mode=none off the kernel's command line (/proc/cmdline shows it), and start the machine again.",
        _SETUP,
        lambda scene: scene.detail == "disabled-by-parameter",
    ),
    Entry(
        "host-setup",
        "host",
        "Start the kernel without kvm-arm.mode=nested or =protected: this machine has not what that mode needs.",
        _SETUP,
        lambda scene: scene.detail == "mode-not-possible",
    ),
    Entry(
        "host-setup",
        "host",
        "Update the machine's SBI firmware (OpenSBI 0.8 or newer implements v0.2).",
        _SETUP,
        lambda scene: scene.detail == "firmware-too-old",
    ),
    Entry(
        "host-setup",
        "host",
        "Use a machine whose CPU has virtualization; where this host is a virtual machine or an LPAR, let the hypervisor around it offer nested virtualization.",
        _SETUP,
        lambda scene: scene.detail == "not-offered-by-cpu",
    ),
    Entry(
        "host-setup",
        "host",
        "Pin the VMM and its vCPU threads to cores of one kind (`taskset -c`, libvirt's vcpupin).",
        _SETUP,
        lambda scene: scene.call == "registers" and scene.arch != "x86" and scene.failure.cpu is None,
    ),
    Entry(
        "host-setup",
        "host",
        "Compare what backs the guest's RAM with what is left: `df /dev/shm`, HugePages_Free in /proc/meminfo, memory limits of the cgroup. A memfd without huge pages needs neither of the first two.",
        (*_RUN, "exit-unknown-to-vmm"),
        lambda scene: (scene.errno == "EFAULT" or scene.is_plain_memory_fault) and "vfio" not in scene.devices,
    ),
    Entry(
        "host-setup",
        "host",
        "Read `dmesg | grep -i vfio` of that second; a device that does not come back from its reset needs the host switched off and on.",
        _RUN,
        lambda scene: scene.errno == "EFAULT" and "vfio" in scene.devices,
    ),
    Entry(
        "host-setup",
        "host",
        "Let the kernel make page tables that guests can use: `sysctl vm.allocate_pgste=1`, before the VMM starts.",
        _SETUP,
        lambda scene: scene.arch == "s390x" and scene.call == "KVM_CREATE_VM" and scene.errno == "EINVAL",
    ),
    Entry(
        "host-setup",
        "host",
        "Take the other threads of each core offline: `ppc64_cpu --smt=off`.",
        _RUN,
        lambda scene: scene.errno == "EBUSY" and scene.arch in {"ppc64", "ppc"},
    ),
    Entry(
        "host-setup",
        "host",
        "Give the VMM's cgroup more than the guest's RAM and the VMM's own need together (memory.max, systemd's MemoryMax=), or the guest less.",
        None,
        lambda scene: short_of_memory(scene) == CGROUP_FULL,
    ),
    Entry(
        "host-setup",
        "host",
        "Free memory, promise the guests less, or add swap.",
        ("host-trouble", "not-shown"),
        lambda scene: short_of_memory(scene) == HOST_FULL,
    ),
    Entry(
        "host-setup", "host", "Free memory, or promise the guests less.", None, lambda scene: scene.errno == "ENOMEM"
    ),
    *(
        Entry(
            origin,
            "host",
            "Install a kernel and a VMM that belong together: SNP guests came with Linux 6.11 and QEMU 9.1, TDX guests with"
            " Linux 6.16 and QEMU 10.1; trees from before fit only those that they were made with.",
            _SETUP,
            _unknown_launch,
        )
        for origin in ("host-setup", "host-kernel")
    ),
    # -- the CPU or the board
    Entry(
        "cpu",
        "vmm",
        "Use a VMM that can do with the interrupt controller of this board (GICv2: QEMU with gic-version=2), or another"
        " board.",
        _SETUP,
        lambda scene: scene.detail == "vgic",
    ),
    # -- how the VM is set up
    Entry(
        "vm-configuration",
        "vmm",
        "Compute what is handed in anew: firmware, kernel hashes, number and model of vCPUs all enter the measurement; the"
        " policy must allow what this host does (SMT, API version). Without an ID block nothing is compared.",
        _SETUP,
        lambda scene: scene.confidential in {"sev", "snp"} and scene.firmware_error in {6, 7, 10, 11},
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Give the VM more RAM, with a unit: -m 1G. Without one, -m counts MiB.",
        ("event-delivery", "fetch-not-ram", "emulation-no-handler", "not-this"),
        _small_ram,
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Give the VM a CPU model that both machines have, instead of `host`.",
        ("setup-refused", "entry-refused-guest-state"),
        lambda scene: (
            scene.migrated or (scene.call == "registers" and scene.errno != "EIO") or scene.state == "mixture"
        ),
    ),
    *(
        Entry(
            origin,
            "vmm",
            "Hold the registers against what KVM_SET_SREGS asks: no reserved bit in CR0, CR4 and EFER; PG with PE; LMA with "
            "LME, PG and PAE; CS.L only with LMA, and then not with CS.D.",
            _SETUP,
            lambda scene: scene.call == "KVM_SET_SREGS" and scene.arch in {"x86", None},
        )
        for origin in ("vm-configuration", "vmm")
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Give the VM the CPU model of this CPU in its newest version (QEMU: -cpu EPYC-v4, EPYC-Milan-v2, EPYC-Genoa): the firmware compares its CPUID with what the CPU has.",
        _SETUP,
        lambda scene: scene.failure.setup is not None and "snp-cpuid" in slugs_of(scene.failure.setup),
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Hide the feature behind MSR {} from the guest.",
        _SETUP,
        _hideable,
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Keep each memory slot below 8 TiB, or use a VMM that splits RAM.",
        _SETUP,
        lambda scene: scene.call is not None and "MEMORY_REGION" in scene.call,
    ),
    Entry(
        "vm-configuration",
        "vmm",
        "Use -machine pseries with the host's own CPU, without a compatibility mode that its KVM lacks.",
        _RUN,
        lambda scene: scene.arch in {"ppc64", "ppc"} and scene.errno == "EINVAL",
    ),
    # -- the VMM
    Entry(
        "vmm",
        "vmm",
        "Update the VMM: what it loads at reset, INIT or migration is half of a state. A cold start works meanwhile.",
        (*REFUSED_ENTRY, "event-delivery"),
        lambda scene: scene.state in {"mixture", "half-reset"},
    ),
    Entry(
        "vmm",
        "vmm",
        "Check what the VMM sets before the first KVM_RUN: CS, CR0, CR4, EFER, page tables and their features in CPUID.",
        (*REFUSED_ENTRY, "triple-fault"),
        lambda scene: scene.young_vmm is not None,
    ),
    Entry(
        "vmm",
        "vmm",
        "Use a VMM that knows KVM's exit {}.",
        ("exit-unknown-to-vmm",),
        lambda scene: (
            str(scene.failure.exit_reason)
            if scene.failure.exit_reason is not None and not scene.is_plain_memory_fault and _is_named(scene)
            else False
        ),
    ),
    Entry(
        "vmm",
        "vmm",
        "Look whether the VMM answers exit {}: where it has no case for it, the guest ends there.",
        ("exit-unknown-to-vmm",),
        lambda scene: str(scene.failure.exit_reason) if is_only_a_page(scene.failure) else False,
    ),
    *(
        Entry(
            origin,
            "vmm",
            "Let the VMM print what kvm_run has of the error: internal.suberror and internal.data[], as many as"
            " internal.ndata says. `kvmwhy spec c` (rust, go) has the code.",
            ("not-shown",),
            lambda scene: scene.failure.kind == "internal-error" and not scene.failure.trace and _prints_little(scene),
        )
        for origin in ("guest-code", "vmm", "host-kernel")
    ),
    *(
        Entry(
            origin,
            "vmm",
            "Let the VMM print fail_entry.hardware_entry_failure_reason: it says which kind of refusal this is."
            " `kvmwhy spec c` (rust, go) has the code.",
            ("not-shown",),
            lambda scene: scene.failure.kind == "entry-failure" and not scene.failure.trace and _prints_little(scene),
        )
        for origin in ("vmm", "host-kernel")
    ),
    Entry(
        "vmm",
        "vmm",
        "Update QEMU, or hide the feature behind MSR {} from the guest.",
        _SETUP,
        _hideable,
    ),
    Entry(
        "vmm",
        "vmm",
        "Update the VMM: it sets MSR {}, which this KVM does not take.",
        _SETUP,
        lambda scene: hex(scene.msr) if scene.msr is not None and not _hideable(scene) else False,
    ),
    Entry(
        "vmm",
        "vmm",
        "Update the VMM: KVM refuses what it passes to {}.",
        _SETUP,
        lambda scene: (
            scene.call
            if scene.msr is None
            and scene.call
            and scene.call.startswith("KVM_")
            and scene.errno not in _NOT_FOR_ITS_ARGUMENTS
            else False
        ),
    ),
    Entry(
        "vmm",
        "vmm",
        "Back the region by RAM, or keep the guest from using it as RAM: every access to it is emulated.",
        (*EMULATION, "event-delivery"),
        lambda scene: (
            scene.arch in {"x86", None}
            and (scene.mode == "long64" or (scene.mechanism == "event-delivery" and scene.exit_reason in _NO_PAGE))
        ),
    ),
    Entry(
        "vmm-race",
        "vmm",
        "Update QEMU to 8.0 or newer, which changes memory slots at one blow; before, start without -overcommit cpu-pm=on.",
        ("fetch-not-ram", "event-delivery"),
        lambda scene: scene.speaker in {"qemu", None},
    ),
    # -- the guest
    Entry(
        "guest-code",
        "guest",
        "Use the platform's accessors for device memory (readl, writel, memcpy_toio) in place of `{}`.",
        ("emulation-no-handler", "emulation-gives-up"),
        lambda scene: _operand(scene) if scene.arch in {"x86", None} else False,
    ),
    Entry(
        "guest-code",
        "guest",
        "Find how the guest came to run zeros: it took them for code, and ran on until one touched what is no RAM.",
        ("emulation-gives-up",),
        lambda scene: scene.facts.window == Window.ZEROS,
    ),
    Entry(
        "guest-code",
        "guest",
        "See which code stands at {}, and how the guest came there: `kvmwhy explain --symbols ELF` names it.",
        EMULATION,
        lambda scene: (
            at(scene.facts)
            if scene.rip is not None and not _operand(scene) and scene.facts.window != Window.ZEROS
            else False
        ),
    ),
    Entry(
        "guest-code",
        "guest",
        "Find the instruction at RIP first: mostly it touches device memory by more than a plain MOV, or the guest runs where"
        " it has no code.",
        ("emulation-failed",),
        lambda scene: scene.rip is None,
    ),
    Entry(
        "guest-code",
        "guest",
        "Touch device registers with single loads and stores of one register, without write-back.",
        ("emulation-no-handler",),
        lambda scene: scene.arch == "arm64",
    ),
    Entry(
        "guest-code",
        "guest",
        "Find who jumped to {}: the return address on the stack names the caller, and a pointer that was never set is the usual reason.",
        ("fetch-not-ram",),
        lambda scene: _jumped_to(scene) if scene.started_at is None else None,
    ),
    Entry(
        "guest-code",
        "guest",
        "Check the vector of the start-up IPI: it names the page {}, which must be RAM with the processor's first code.",
        ("fetch-not-ram",),
        lambda scene: scene.started_at or False,
    ),
    Entry(
        "guest-firmware",
        "guest",
        "Check the vector of the start-up IPI: it names the page {}, which must be RAM with the processor's first code.",
        ("fetch-not-ram",),
        lambda scene: scene.started_at or False,
    ),
    Entry(
        "guest-code",
        "host",
        "Start the host with split_lock_detect=off, or set `sysctl kernel.split_lock_mitigate=0` (Linux 6.2 and newer), until the guest's program is mended.",
        ("exception-exit",),
        lambda scene: scene.event("split-lock") is not None or scene.failure.exception == _AC,
    ),
    Entry(
        "guest-code",
        "guest",
        "Keep stacks, descriptor tables and page tables in RAM: {} is none.",
        ("event-delivery",),
        lambda scene: hex(scene.gpa) if scene.gpa is not None else False,
    ),
    Entry(
        "guest-code",
        "guest",
        "See the first exception: run the same image without KVM (QEMU: -accel tcg -d int,cpu_reset).",
        ("triple-fault",),
        lambda scene: not _exceptions(scene) and scene.speaker not in _NO_IMAGE,
    ),
    Entry(
        "guest-code",
        "guest",
        "Point CR3 and every table that it leads to at the guest's RAM, before paging goes on there.",
        ("triple-fault",),
        _tables_lost,
    ),
    Entry(
        "guest-code",
        "guest",
        "Find what raises {}, and why the guest has no handler for it: its IDT, GDT, TSS and stack at that moment.",
        ("triple-fault",),
        _first_exception,
    ),
    Entry(
        "guest-code",
        "guest",
        "Load an IDT with a gate for every exception, all of it mapped, before the first one can come: the first that "
        "has none is the guest's end.",
        ("triple-fault",),
        _missing("IDT"),
    ),
    Entry(
        "guest-code",
        "guest",
        "Let each gate name a present code segment of the GDT that is loaded; for 64-bit code one with the L bit.",
        ("triple-fault",),
        _missing("GDT"),
    ),
    Entry(
        "guest-code",
        "guest",
        "Keep the stack of each handler mapped and writable: in 64-bit mode by a TSS whose IST the gates of #PF and "
        "#DF name, so that a broken stack does not end the guest.",
        ("triple-fault",),
        _missing("stack", "TSS"),
    ),
    Entry(
        "guest-code",
        "guest",
        "Clear the L bit of the 32-bit code descriptor: CS.L without EFER.LMA is no state that KVM takes.",
        _SETUP,
        lambda scene: scene.call in {"KVM_SET_SREGS", "registers"} and scene.arch in {"x86", None},
    ),
    Entry(
        "guest-firmware",
        "vmm",
        "Use another build of SeaBIOS or of the option ROM at RIP.",
        None,
        _in_seabios,
    ),
    Entry(
        "guest-firmware",
        "vmm",
        "Use a newer OVMF, and no more than 255 vCPUs with it.",
        ("fetch-not-ram",),
        lambda scene: scene.mode == "long64",
    ),
    Entry(
        "guest-firmware",
        "host",
        "Load kvm_intel with unrestricted_guest=1 and ept=1 if the CPU has them: then real mode is not emulated.",
        EMULATION,
        lambda scene: scene.mode == "real16" and _intel(scene),
    ),
    # -- hardware
    Entry(
        "cpu",
        "host",
        "Update the CPU's microcode; move the VM to another machine to see whether it follows.",
        None,
        lambda scene: scene.mechanism != "setup-refused" and scene.mode != "real16",
    ),
    Entry(
        "cpu",
        "host",
        "Use a CPU with unrestricted guest (Westmere or newer), or leave kvm_intel's emulate_invalid_guest_state at 1.",
        None,
        lambda scene: scene.mode == "real16" and _intel(scene),
    ),
    Entry(
        "confidential-stack",
        "host",
        "Bring BIOS, security firmware or TDX module, kernel, VMM and guest firmware to versions that belong together.",
    ),
    Entry(
        "confidential-stack",
        "guest",
        "Read the guest's serial console: it says why it ends itself.",
        ("exit-unknown-to-vmm", "triple-fault"),
    ),
    Entry(
        "host-dying",
        "host",
        "Move the VMs away, and read the machine's own log (BMC, `ras-mc-ctl --errors`, `journalctl -k -b -1`).",
    ),
    Entry(
        "none",
        "guest",
        "Nothing has to be mended: this is how it ends when all is well.",
        ("not-shown",),
        lambda scene: scene.failure.kind == "healthy",
    ),
    Entry(
        "none",
        "vmm",
        "Nothing has to be mended for this page. If the VM did fail, look at the pages of its other vCPUs, and at what the"
        " VMM printed: an errno of KVM_RUN stands in no page.",
        ("not-shown", "exit-unknown-to-kvm"),
        lambda scene: is_only_a_page(scene.failure),
    ),
    Entry(
        "none",
        "guest",
        "If the guest was restarting or shutting itself down just then, nothing has to be mended.",
        ("triple-fault", "exit-unknown-to-vmm"),
    ),
    Entry(
        "none",
        "host",
        "If the guests run on, nothing has to be mended.",
        ("host-trouble", "undef-injected", "guest-loops", "not-this"),
    ),
)
