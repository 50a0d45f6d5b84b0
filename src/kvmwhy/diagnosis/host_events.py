"""The host's own lines beside a failure, in words, and which of them tell of trouble of the host's own."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.abi.x86.sev import describe_code
from kvmwhy.record import Failure, HostEvent

_PLACE: Final = re.compile(r"(?:arch|virt|mm|kernel|include|drivers|fs|net|block|lib)/[\w./-]{1,80}\Z")
# Slugs of readers.kernel_log.host_messages. ``{name}`` is a field of the event; numbers are shown in hexadecimal.
_WORDS: Final = {
    "oops": "the host's kernel oopsed ({what})",
    "kernel-bug": "the host's kernel hit a BUG at {path}:{line}",
    "warning": "the host's kernel warned, at {path}:{line}",
    "cut-report": "the host's kernel printed a call trace through KVM; the line that names the trouble is cut off",
    "page-state-bad": "the host's kernel found a page in a bad state",
    "sanitizer": "the host's kernel used memory wrongly ({what})",
    "locking": "the host's kernel used its locks wrongly ({what})",
    "soft-lockup": "the host's CPU {cpu} was stuck for {seconds} s (soft lockup)",
    "hard-lockup": "the host's CPU {cpu} was stuck with interrupts off (hard lockup)",
    "rcu-stall": "a CPU of the host did not answer (RCU stall)",
    "hung-task": "the host's task {comm} hung for {seconds} s",
    "kernel-panic": "the host's kernel panicked ({why})",
    "page-allocation-failed": "the host's kernel could not get memory for {comm}",
    "oom-kill": "the host ran out of memory and killed {comm}",
    "oom-called": "a request of {comm} for memory could not be met, and the kernel looked for a task to kill",
    "memory-poisoned": "the host's memory is damaged (memory failure)",
    "machine-check": "the host logged machine checks",
    "memory-error": "the host's memory controller reported errors",
    "msr-access-error": "the host's kernel was refused its access to MSR {msr}",
    "spte-reserved-bits": "the host's KVM found reserved bits set in a page-table entry of its own",
    "spte-change-invalid": "the host's KVM changed a page-table entry of its own in a way that it does not allow",
    "vmread-failed": "the host's VMREAD of field {field} failed",
    "vmwrite-failed": "the host's VMWRITE of field {field} failed",
    "vmclear-failed": "the host's VMCLEAR failed: something else uses VMX, or took it away",
    "vmptrld-failed": "the host's VMPTRLD failed: something else uses VMX, or took it away",
    "vmxon-failed": "the host's VMXON faulted",
    "evmcs-field": "KVM used field {field}, which the enlightened VMCS of the hypervisor around this host lacks",
    "ept-misconfig": "KVM found a page-table entry of its own misconfigured",
    "seamcall-failed": "the TDX module refused a call of KVM with {status}",
    "tdx-entry-failed": "entering the trust domain returned {status}",
    "rmp-fault": "the CPU raised an RMP fault that KVM did not expect",
    "rmp-update-failed": "the host could not change an entry of the RMP",
    "sev-init-failed": "the SEV firmware of this host did not start ({status})",
    "sev-command-failed": "the SEV firmware of this host refused a command",
    "snp-not-enabled": "SEV-SNP is not available on this host: its firmware did not reserve or set up the RMP",
    "tdx-not-enabled": "the TDX module of this host could not be initialised",
    "gvt-page-tables": "GVT-g could not follow the guest's page tables of the GPU",
    "iommu-fault": "the IOMMU stopped an access of a device",
    "vfio-bar-fault": "an assigned device's memory could not be mapped (BAR {bar})",
    "device-reset-failed": "an assigned device did not come back from its reset",
    "hyp-panic": "KVM panicked at EL2",
    "pkvm-exception": "pKVM's own code below the host met exception {vector}",
    "msr-unhandled": "the guest's access to MSR {msr} was refused",
    "msr-ignored": "the guest's access to MSR {msr} was ignored",
    "exchange-as-write": "KVM emulated a locked instruction as a plain write: its operand was not in RAM",
    "vmcs-dump-off": "the dump of the VMCS is switched off (kvm_intel dump_invalid_vmcs=1 turns it on)",
    "vmcb-dump-off": "the dump of the VMCB is switched off (kvm_amd dump_invalid_vmcb=1 turns it on)",
    "virtualization-off": "VMX or SVM is switched off in this host's firmware",
    "virtualization-not-enabled": "the host's kernel could not switch VMX or SVM on",
    "virtualization-given-up": "the host's kernel gave up switching VMX or SVM on",
    "kvm-not-loaded": "KVM's module did not load",
    "other-module-loaded": "the other vendor's KVM module was loaded already",
    "vm-not-created": "the host's kernel could not make the VM",
    "vcpu-not-created": "the host's kernel could not make the vCPU",
    "virtualization-exception": "the guest's page tables of KVM raised a virtualization exception (#VE)",
    "virtualization-exception-info": "the host's kernel logged what the virtualization exception was about",
    "virtualization-exception-walk": "the host's kernel logged its walk of KVM's page tables for that address",
    "ept-not-mapped": "the host's kernel found no entry in KVM's page tables for that address",
    "ept-walk-failed": "the host's kernel could not walk KVM's page tables for that address",
    "ept-misconfig-bits": "an entry of KVM's page tables has bits that must be 0",
    "ept-misconfig-gpa": "the host's kernel logged the address of the misconfigured entry",
    "ept-misconfig-type": "an entry of KVM's page tables has a memory type that does not exist",
    "spte-writable-odd": "an entry of KVM's page tables is writable where it must not be",
    "rmap-broken": "KVM's reverse map does not fit its page tables",
    "mmu-page-mismatch": "a page table of KVM is not the one that it should be",
    "tdp-root-bad": "the root of KVM's page tables is not valid",
    "mmio-generation-wraps": "the counter by which KVM tells old MMIO entries wrapped around",
    "invept-failed": "the host's INVEPT failed",
    "invvpid-failed": "the host's INVVPID failed",
    "nested-vmx-abort": "the guest hypervisor's VMX was aborted",
    "nested-shadow-field": "KVM could not handle a field of the guest hypervisor's VMCS",
    "unexpected-exit": "KVM has no handler for an exit of the guest",
    "control-register-unhandled": "the guest's access to a control register was refused",
    "vmgexit-refused": "KVM refused a request that the guest made through its GHCB",
    "sev-termination": "the guest asked to be ended",
    "sev-launch-failed": "the launch of an SEV guest failed",
    "rmp-entry": "the host's kernel logged an entry of the RMP",
    "rmp-table": "the host's kernel logged where the RMP lies",
    "tdx-cpu-unfit": "a CPU of the host does not fit the TDX module",
    "tdx-access-before-accept": "the trust domain touched memory that it had not accepted",
    "seamcall-registers": "the host's kernel logged the registers of the TDX module's call",
    "guest-memory-not-prepared": "the host could not prepare a page of the guest's private memory",
    "private-memory-emulation": "KVM was to emulate an access to the guest's private memory",
    "vmx-capability": "the host's CPU or hypervisor lacks a VMX control",
    "global-control-broken": "the CPU's control of its counters is broken, and KVM does without",
    "tss-address-missing": "the VMM gave KVM no place for its real-mode TSS",
    "guest-memory-not-mapped": "a page of the guest's memory is not mapped in the VMM",
    "host-memory-missing": "no memory of the VMM is behind the guest's",
    "split-lock": "the guest made a locked access across two cache lines",
    "vfio-memory-lock": "the limit of locked memory keeps an assigned device from the guest's memory",
    "vfio-no-interrupt-remapping": "the host cannot isolate the interrupts of an assigned device",
    "pmu-event": "KVM could not make a performance counter of the host for the guest",
    "guest-irq-without-route": "an interrupt of the guest has no route",
    "irq-stuck": "an interrupt of the host had no handler, and was switched off",
    "smt-vulnerable": "hyper-threading makes the host open to attacks of its guests",
    "hyperv-crash": "the guest told Hyper-V's interface that it crashed",
    "windows-xsavec": "the guest was found to be a Windows that needs XSAVEC hidden",
    "async-page-fault": "the guest's set-up of asynchronous page faults was refused",
    "abort-not-handled": "KVM cannot handle this kind of abort of the guest",
    "access-without-syndrome": "the CPU gave KVM no description of the guest's access",
    "sysreg-refused": "the guest's access to a system register was refused",
    "exception-type-unknown": "KVM has no handler for the way in which the CPU came back",
    "exception-class-unknown": "KVM does not know the class of the guest's exception",
    "hyp-panic-state": "the host's kernel logged the state of the panic at EL2",
    "device-refused": "KVM refused what it was to emulate as a device",
    "hypervisor-detected": "the host's kernel found a hypervisor under itself: {hypervisor}",
    "no-virtualization": "the kernel found no VMX or SVM on this CPU: in a VM, nesting is off",
}
_DECIMAL: Final = frozenset({"line", "seconds", "bar", "cpu"})
# As the kernel shows the name of a task: its first 15 characters.
_VMM_TASKS: Final = ("qemu", "kvm", "firecracker", "fc_vcpu", "cloud-hyperviso", "crosvm", "libkrun", "krunvm", "lkvm")
TROUBLE: Final = frozenset(
    {
        "oops", "kernel-bug", "warning", "cut-report", "page-state-bad", "sanitizer", "locking", "spte-reserved-bits",
        "spte-change-invalid", "spte-writable-odd",
        "vmread-failed", "vmwrite-failed", "vmclear-failed", "vmptrld-failed", "vmxon-failed", "invept-failed",
        "invvpid-failed", "evmcs-field",
        "ept-misconfig", "seamcall-failed", "tdx-entry-failed", "tdx-cpu-unfit", "rmp-fault", "rmp-update-failed",
        "hyp-panic", "pkvm-exception", "msr-access-error",
        "guest-memory-not-prepared", "rmap-broken", "tdp-root-bad", "mmu-page-mismatch", "virtualization-exception",
        "nested-vmx-abort", "gvt-page-tables",
    }
)  # fmt: skip


def said(event: HostEvent) -> str:
    """One event in words."""
    template = _WORDS.get(event.kind)
    if event.kind == "oom-kill" and event.fields.get("limit") == "cgroup":
        template = "the memory limit of a cgroup was reached, and the kernel killed {comm}"
    if template is None:
        return f"the host's kernel logged: {event.kind.replace('-', ' ')}"
    return template.format_map(_Shown(event))


def is_vmm(event: HostEvent) -> bool:
    """The task that the event names is a VMM's."""
    return str(event.fields.get("comm", "")).lower().startswith(_VMM_TASKS)


def all_said(failure: Failure) -> list[str]:
    """Every event beside a failure, each sentence once."""
    return list(dict.fromkeys(said(event) for event in failure.host.events))


def trouble(failure: Failure) -> list[str]:
    """The host's own troubles beside a failure; what may as well be a guest's is none."""
    events = (event for event in failure.host.events if event.kind in TROUBLE and "owner" not in event.fields)
    return list(dict.fromkeys(said(event) for event in events))


def unexpected_exit(failure: Failure) -> int | None:
    """The exit that KVM called unexpected in the host's log, where nobody printed the suberror, which is 4 then."""
    if failure.suberror is not None or failure.exit is None or failure.kind != "internal-error":
        return None
    named = any(event.kind == "unexpected-exit" for event in failure.host.events)
    return failure.exit.reason if named else None


class _Shown(dict[str, str]):
    """The fields of an event as text; one that was not printed is a question mark."""

    def __init__(self, event: HostEvent) -> None:
        super().__init__()
        for name, value in event.fields.items():
            self[name] = value if isinstance(value, str) else f"{value}" if name in _DECIMAL else f"{value:#x}"
        code = event.fields.get("firmware_error")
        if isinstance(code, int):
            self["status"] = describe_code(code)
        if place := _PLACE.search(self.get("path", "")):
            self["path"] = place[0]  # in the kernel's tree, wherever it was built

    def __missing__(self, name: str) -> str:
        return "?"
