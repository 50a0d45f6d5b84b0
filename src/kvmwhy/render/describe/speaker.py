"""Another hypervisor's failure in words: who it is, and what its own numbers tell."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.exceptions import describe_vector
from kvmwhy.abi.x86.vmx import reason_name
from kvmwhy.record import Speaker

_NAMES: Final = {
    "xen": "Xen",
    "haxm": "Intel HAXM",
    "bhyve": "bhyve",
    "hyperkit": "HyperKit or xhyve",
    "hvf": "Apple's Hypervisor.framework",
    "whpx": "the Windows Hypervisor Platform",
    "virtualbox": "VirtualBox",
    "vmware": "VMware",
    "hyper-v": "Hyper-V",
    "tcg": "QEMU's own emulator, TCG, or QEMU's device models",
    "unicorn": "the Unicorn emulator",
    "bochs": "Bochs",
    "noirvisor": "NoirVisor",
    "openbsd-vmm": "OpenBSD's vmm",
    "jailhouse": "Jailhouse",
    "acrn": "ACRN",
    "own": "a hypervisor of its own",
    "guest-kernel": "the guest's own kernel",
}
# Speakers whose exit reasons are VMX's.
_VMX: Final = frozenset({"xen", "bhyve", "hyperkit", "hvf", "noirvisor", "own"})


def speaker(shown: Speaker) -> tuple[str, ...]:
    """Who, then each number that means something."""
    who = _NAMES.get(shown.name, shown.name)
    sentences = [f"these lines are of {who}: KVM has no part in them, unless it runs below"]
    fields = shown.fields
    reason = fields.get("exit_reason")
    if isinstance(reason, int) and shown.name in _VMX and (name := reason_name(reason & 0xFFFF)):
        failed = " (a failed entry)" if reason >> 31 & 1 else ""
        sentences.append(f"exit reason {reason & 0xFFFFFFFF:#x} is {name}{failed}")
    vector = fields.get("vector")
    if isinstance(vector, int):
        first = "the first exception of the triple fault" if fields.get("triple_fault") else "the exception"
        at = f" at {fields['pc']:#x}" if isinstance(fields.get("pc"), int) else ""
        address = f", for address {fields['cr2']:#x}" if isinstance(fields.get("cr2"), int) else ""
        sentences.append(f"{first} was {describe_vector(vector)}{at}{address}")
    sentences += [f"{name}: {fields[name]}" for name in ("message", "error", "insn", "cause") if name in fields]
    return tuple(sentences)
