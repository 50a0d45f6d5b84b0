"""The CPU, KVM's modules with their parameters, and who else uses the CPU's virtualization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvmwhy.live.doctor.finding import Finding, Grade
from kvmwhy.live.host import CpuInfo, Module, hypervisor, rivals


def of_modules(loaded: tuple[Module, ...]) -> Iterator[Finding]:
    """On x86 KVM is in two parts, and nothing works without the CPU maker's."""
    names = [module.name for module in loaded]
    if names == ["kvm"]:
        yield Finding("kvm", "bad", "kvm is there without kvm_intel or kvm_amd", "modprobe kvm_intel, or kvm_amd")
    elif not names:
        yield Finding("kvm", "bad", "this kernel shows no KVM module", "modprobe kvm_intel, or kvm_amd")


def of_cpu(cpu: CpuInfo, loaded: tuple[Module, ...]) -> Iterator[Finding]:
    model = f"{cpu.model or cpu.vendor_id or 'unknown'} ({cpu.signature or 'no signature'})"
    yield Finding("cpu", "good", f"CPU {model}, microcode {cpu.microcode or 'not shown'}")
    if not cpu.flags & {"vmx", "svm"} and not any(module.name == "kvm_pvm" for module in loaded):
        yield Finding(
            "cpu", "bad", "the CPU shows neither vmx nor svm", "switch VT-x or SVM on in the firmware, or nesting on"
        )
    if named := hypervisor(cpu):
        text = f"this host is itself a virtual machine ({named}): an entry failure may be the outer hypervisor's doing"
        yield Finding("hypervisor", "note", text)


# parameter: (the values that are worth a word, the grade, what it means, what to change)
_PARAMETERS: Final[dict[str, tuple[str, Grade, str, str | None]]] = {
    "unrestricted_guest": (
        "N0", "note", "real mode and its like are emulated, so that early boot code fails where the emulator ends",
        "modprobe kvm_intel unrestricted_guest=1 (and ept=1), if the CPU is of 2010 or later",
    ),
    "ept": ("N0", "note", "shadow paging: slow, and other failures than with EPT", "modprobe kvm_intel ept=1"),
    "npt": ("N0", "note", "shadow paging: slow, and other failures than with NPT", "modprobe kvm_amd npt=1"),
    "emulate_invalid_guest_state": (
        "N0", "note", "a state that the CPU refuses ends in hardware error 0x80000021 instead of being emulated",
        "modprobe kvm_intel emulate_invalid_guest_state=1",
    ),
    "dump_invalid_vmcs": (
        "N0", "note", "an entry failure leaves no VMCS in the kernel's log, and only that names the broken field",
        "echo 1 > /sys/module/kvm_intel/parameters/dump_invalid_vmcs",
    ),
    "dump_invalid_vmcb": (
        "N0", "note", "an entry failure leaves no VMCB in the kernel's log, and only that names the broken field",
        "echo 1 > /sys/module/kvm_amd/parameters/dump_invalid_vmcb",
    ),
    "nested": ("Y1", "note", "guests may be hypervisors themselves: failures in them can be a nested guest's", None),
    "ignore_msrs": ("Y1", "note", "accesses to unknown MSRs are made up instead of answered with #GP", None),
    "enable_vmware_backdoor": ("Y1", "note", "#GP is intercepted for VMware's backdoor, and more is emulated", None),
    "force_emulation_prefix": ("Y123", "note", 'guests can force emulation (ud2; .ascii "kvm"): a test setting', None),
}  # fmt: skip


def of_module(module: Module) -> Iterator[Finding]:
    """What its parameters mean for failures."""
    for name, value in module.parameters.items():
        known = _PARAMETERS.get(name)
        if known is None:
            continue
        if value is None:
            yield Finding("module", "note", f"{module.name}.{name} may not be read")
        elif value[:1] and value[:1] in known[0]:
            yield Finding("module", known[1], f"{module.name} {name}={value[:8]}: {known[2]}", known[3])


def of_rivals() -> Iterator[Finding]:
    for name, product in rivals().items():
        yield Finding(
            "other-hypervisor",
            "bad",
            f"{product} ({name}) is loaded: whoever uses VT-x or SVM first keeps the other from it",
            "unload it while KVM is used",
        )
