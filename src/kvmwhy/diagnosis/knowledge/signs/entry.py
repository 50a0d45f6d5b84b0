"""Signs from a refused VM entry: the number, the vCPU's state, and the rules that it breaks."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.svm import VMEXIT_INVALID
from kvmwhy.diagnosis.knowledge.sign import REFUSED_ENTRY, Answer, Sign, Test, weights
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At

_CONTROLS: Final = ("entry-refused-controls", "entry-vmfail-no-number")
_STATE: Final = ("entry-refused-guest-state",)
_SHADOW: Final = ("interruptibility", "blocking", "pending-debug", "activity")  # words of the rules' ids
_CR4_VMXE: Final = 1 << 13


def _state(*states: str) -> Test:
    def test(scene: Scene) -> Answer:
        return At(register="rip") if scene.state in states else None

    return test


def _of_no_list(scene: Scene) -> bool:
    entry = scene.facts.entry
    return bool(scene.failure.hardware_error) and entry is not None and entry.vendor is None


def _broken(scene: Scene, *, shadow: bool) -> Answer:
    ids = [rule for rule in scene.broken if any(word in rule for word in _SHADOW) is shadow]
    return ids[0] if ids else None


def _number(*numbers: int) -> Test:
    def test(scene: Scene) -> Answer:
        number = scene.failure.hardware_error
        return hex(number) if number in numbers else None

    return test


def _smm(scene: Scene) -> bool:
    return bool(scene.smm) or scene.state == "smi-entry"


def _vm86(scene: Scene) -> Answer:
    """KVM runs real mode as virtual-8086 code where the CPU cannot do it otherwise (vmx.c: enter_rmode)."""
    return scene.runs_as_vm86 and At(register="cs")


def _ran_in_firmware(scene: Scene) -> Answer:
    return scene.state in {"ran", "first"} and scene.mode == "real16" and not _smm(scene) and At(register="rip")


def _ran_a_system(scene: Scene) -> Answer:
    return scene.state == "ran" and scene.paging is True and At(register="rip")


def _l1(scene: Scene) -> Answer:
    """The guest is a hypervisor itself: CR4.VMXE is set, or the trace has nested events."""
    cpu = scene.failure.cpu
    cr4 = cpu.get("cr4") if cpu else None
    return (
        At(register="cr4")
        if cr4 is not None and cr4 & _CR4_VMXE
        else any(e.name.startswith("kvm_nested") for e in scene.failure.trace)
    )


SIGNS: Final = (
    Sign(
        "dump-switched-off",
        ("not-shown",),
        lambda scene: scene.event("vmcs-dump-off", "vmcb-dump-off"),
        "KVM was about to dump a control block, as it does for a refused entry",
        weights(none=-3),
        "arch/x86/kvm/vmx/vmx.c: dump_vmcs; arch/x86/kvm/svm/svm.c: dump_vmcb.",
    ),
    Sign(
        "never-ran-controls",
        _CONTROLS,
        _state("reset", "startup"),
        "the guest had not executed one instruction",
        weights(outer_hypervisor=1, host_kernel=0.5, cpu=-0.5),
        "The first entry is refused for what KVM set up: by a hypervisor below that offers what it does not take, or by a regression.",
    ),
    Sign(
        "never-ran-state",
        _STATE,
        _state("reset", "startup"),
        "the guest had not executed one instruction",
        weights(host_kernel=1, outer_hypervisor=1, guest_code=-2, guest_firmware=-2),
        "Reset state is valid by definition; KVM, the VMM's CPU model or the layer below made it not so.",
    ),
    Sign(
        "firmware-ran-controls",
        _CONTROLS,
        _ran_in_firmware,
        "the registers are those of real-mode code under way, unless the VMM loaded them",
        weights(outer_hypervisor=1),
        "Partial VMX (VMware without unrestricted guest) fails at the first interrupt or mode change of the BIOS.",
    ),
    Sign(
        "injection-rule-broken",
        _CONTROLS,
        lambda scene: next((rule for rule in scene.broken if rule.startswith(("inject-", "svm-event"))), None),
        "the event to be injected breaks a rule of VM entry ({})",
        weights(vmm=2, host_kernel=0.5, outer_hypervisor=-1, cpu=-1),
        "KVM_SET_VCPU_EVENTS takes a vector and a type as the VMM gives them; KVM's own injections are of its tables.",
    ),
    Sign(
        "system-ran-controls",
        _CONTROLS,
        _ran_a_system,
        "the registers are a running system's, whose controls had been accepted before, unless the VMM loaded them",
        weights(cpu=0.5, host_kernel=0.5, outer_hypervisor=0.5),
        "Controls change rarely after the start; what fails later is a race, a defect, or a hypervisor below.",
    ),
    Sign(
        "mixed-state",
        None,
        lambda scene: scene.state in {"mixture", "impossible"} and not _smm(scene) and At(register="rip"),
        "the registers mix two states, which no guest can do: they were loaded in part",
        weights(vmm=2, vm_configuration=0.5, guest_code=-1),
        "A failed KVM_SET_* in the middle of a reset, INIT or migration leaves the rest unloaded.",
    ),
    Sign(
        "reset-with-control-bits-left",
        REFUSED_ENTRY,
        lambda scene: scene.left_over,
        "the vCPU is at its reset vector, but {} still has bits of the system before",
        weights(vmm=2, host_kernel=0.5, outer_hypervisor=-1),
        "QEMU's order of KVM_SET_SREGS and KVM_SET_NESTED_STATE at reset decided what survives.",
    ),
    Sign(
        "all-zero-state",
        REFUSED_ENTRY,
        lambda scene: scene.state in {"zero", "unread"} and scene.confidential is None and At(register="rip"),
        "every register reads as zero: VMCS fields could not be read",
        weights(outer_hypervisor=1, host_kernel=0.5),
        "VMREAD that fails yields zeros: the VMCS was never current, or a hypervisor below lost it.",
    ),
    Sign(
        "smm-under-svm",
        REFUSED_ENTRY,
        lambda scene: _smm(scene) and (scene.failure.hardware_error in VMEXIT_INVALID or scene.vendor == "svm"),
        "the entry into system-management mode was refused on AMD",
        weights(outer_hypervisor=2, guest_firmware=0.5),
        "Nested SVM knows no SMM for L2; Secure Boot's firmware needs it.",
    ),
    Sign(
        "smm-under-vmx",
        REFUSED_ENTRY,
        lambda scene: _smm(scene) and scene.failure.hardware_error not in VMEXIT_INVALID and scene.vendor != "svm",
        "the entry into system-management mode was refused",
        weights(host_kernel=1.5),
        "KVM itself makes the state of an SMI (arch/x86/kvm/smm.c); shadows and nested state were wrong before 6.2.",
    ),
    Sign(
        "vm86-segments",
        ("entry-refused-guest-state", "exception-exit", *_CONTROLS),
        _vm86,
        "real mode runs as virtual-8086 code: unrestricted guest is switched off, or the CPU or its hypervisor lacks it",
        weights(cpu=1.5, host_setup=0.5, host_kernel=0.5),
        "arch/x86/kvm/vmx/vmx.c: enter_rmode, fix_rmode_seg: attributes f3 and CPL 3.",
    ),
    Sign(
        "interrupt-shadow-broken",
        REFUSED_ENTRY,
        lambda scene: _broken(scene, shadow=True) or scene.shadow_shown,
        "the interruptibility state contradicts the flags ({}): KVM keeps that field",
        weights(host_kernel=2, guest_code=-0.5),
        "SDM vol. 3C, 27.3.1.5; only KVM's emulation and event injection write it.",
    ),
    Sign(
        "state-rule-broken",
        _STATE,
        lambda scene: _broken(scene, shadow=False),
        "a rule of VM entry is broken by what was loaded ({})",
        weights(vmm=1.5, guest_code=0.5),
        "KVM checks or emulates most of what a guest can set; a VMM's KVM_SET_SREGS is checked less.",
    ),
    Sign(
        "no-rule-broken",
        _STATE,
        lambda scene: scene.all_rules_kept,
        "every rule of VM entry that can be checked is kept",
        weights(host_kernel=0.5, outer_hypervisor=0.5, guest_code=-0.5),
        "What is refused then is hidden: shadow page-table roots, controls, or a hypervisor's own taste.",
    ),
    Sign(
        "vmresume-of-not-launched",
        _CONTROLS,
        _number(5),
        "the CPU says that a VMCS was resumed that it never launched ({})",
        weights(cpu=1.5, host_kernel=0.5),
        "KVM keeps the launch state itself; reported out of the blue on single machines.",
    ),
    Sign(
        "vmlaunch-of-launched",
        _CONTROLS,
        _number(4),
        "the CPU says that a VMCS was launched twice ({})",
        weights(host_kernel=1, cpu=0.5, outer_hypervisor=0.5),
        "A VMCLEAR that failed or came too late.",
    ),
    Sign(
        "host-state-refused",
        _CONTROLS,
        _number(8),
        "the host's own state in the VMCS is refused ({})",
        weights(outer_hypervisor=1, host_kernel=1),
        "SDM vol. 3C, 27.2.2 to 27.2.4: all of it is KVM's.",
    ),
    Sign(
        "msr-loading-refused",
        _CONTROLS,
        lambda scene: scene.failure.hardware_error == 0x8000_0022,
        "an MSR of the entry's load list is refused",
        weights(host_kernel=1, outer_hypervisor=1),
        "SDM vol. 3C, 27.4: KVM makes the list.",
    ),
    Sign(
        "machine-check-at-entry",
        _CONTROLS,
        _number(0x8000_0029, 41),
        "a machine check came while the CPU entered the guest ({})",
        weights(host_dying=3, cpu=0.5, outer_hypervisor=-2.5, host_kernel=-2),
        "SDM vol. 3C, 27.9: the host's hardware reported an error.",
    ),
    Sign(
        "number-of-no-list",
        _CONTROLS,
        _of_no_list,
        "the number is none that VMX or SVM gives for a refused entry",
        weights(outer_hypervisor=-1, vmm=1, host_kernel=0.5),
        "What stands in its place is an error of the kernel's own, or the VMM reads another member of kvm_run.",
    ),
    Sign(
        "confidential-entry-refused",
        REFUSED_ENTRY,
        lambda scene: scene.confidential,
        "the guest is a confidential one ({})",
        weights(host_kernel=0.5, confidential_stack=1),
        "VMRUN checks the VMSA and features that KVM or the guest set.",
    ),
    Sign(
        "guest-is-a-hypervisor",
        (*REFUSED_ENTRY, "run-errno", "event-delivery", "not-shown"),
        _l1,
        "the guest runs a hypervisor itself",
        weights(host_kernel=1, vmm=0.5),
        "KVM's nested code, and a VMM's saving of nested state, are where such guests fail.",
    ),
    Sign(
        "android-emulator",
        REFUSED_ENTRY,
        lambda scene: scene.speaker == "android-emulator",
        "the Android emulator reports it, which is mostly run in virtual machines of developers and CI",
        weights(outer_hypervisor=0.5),
        "Its fork of QEMU prints kvm_arch_handle_exit on the same failures.",
    ),
    Sign(
        "young-vmm-state",
        _STATE,
        lambda scene: scene.young_vmm,
        "{} sets the vCPU's first state by itself",
        weights(vmm=1.5, outer_hypervisor=-0.5),
        "VMMs without firmware load segments, tables and CR0 directly; what they forget fails at the first entry.",
    ),
)
