"""Whose virtualization this is: VMX, SVM, TDX or PVM, by the numbers first, then by the text around them."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.internal_error import Reading
from kvmwhy.abi.x86.describe import ExitWords
from kvmwhy.abi.x86.vendor_guess import (
    VendorGuess,
    vendor_of_delivery,
    vendor_of_entry_failure,
    vendor_of_reason,
    vendor_of_simultaneous,
    vendor_of_unexpected,
)
from kvmwhy.record import Cpu, Failure, Host

# Kinds of the host's lines that only one vendor's code prints (arch/x86/kvm/vmx, svm; drivers/crypto/ccp).
_EVENTS: Final = (
    *((mark, "vmx") for mark in ("vmread", "vmwrite", "vmclear", "vmptrld", "vmxon", "invept", "invvpid", "evmcs")),
    *((mark, "vmx") for mark in ("ept-", "seamcall", "tdx-", "vmcs-", "nested-vmx")),
    *((mark, "svm") for mark in ("rmp-", "sev-", "snp-", "ghcb", "vmcb-", "avic", "asid")),
)
_NOTHING: Final = "nothing in this evidence shows whether the host has VMX or SVM"


def vendor_of(failure: Failure, reading: Reading | None, words: ExitWords | None) -> VendorGuess:
    """The numbers first, since they are this failure's own; then what the text around it says."""
    if failure.exit and failure.exit.isa:
        return VendorGuess(failure.exit.isa, "the kernel's own text around these words is of that vendor")
    if failure.control:
        return VendorGuess("vmx" if failure.control.kind == "vmcs" else "svm", f"a {failure.control.kind.upper()} dump")
    guess = _by_numbers(failure, reading, words)
    if guess.vendor is not None:
        return guess
    return _by_text(failure.host) or _by_signature(failure.cpu) or guess


def _by_numbers(failure: Failure, reading: Reading | None, words: ExitWords | None) -> VendorGuess:
    if words is not None:
        return vendor_of_reason(words.reason, info1=words.info1, info2=words.info2, intr_info=words.intr_info)
    if failure.hardware_error is not None:
        return vendor_of_entry_failure(failure.hardware_error)
    match failure.suberror:
        case 1 if reading is not None and reading.failure.reason is not None and not reading.ambiguous:
            return vendor_of_reason(reading.failure.reason)  # the record is cut behind the reason
        case 2:
            return vendor_of_simultaneous(failure.data)
        case 3:
            return vendor_of_delivery(failure.data)
        case 4:
            return vendor_of_unexpected(failure.data)
    return VendorGuess(None, _NOTHING)


def _by_text(host: Host) -> VendorGuess | None:
    if host.vendor:
        return VendorGuess(host.vendor, host.vendor_from or "the text around the failure says so")
    if host.confidential:
        vendor = {"tdx": "tdx", "sev": "svm", "sev-es": "svm", "snp": "svm"}.get(host.confidential)
        if vendor:
            return VendorGuess(vendor, f"the guest is confidential ({host.confidential})")
    for module, vendor in (("kvm_intel.", "vmx"), ("kvm_amd.", "svm")):
        if any(name.startswith(module) for name in host.parameters):
            return VendorGuess(vendor, f"parameters of {module[:-1]} are shown")
    for event in host.events:
        for mark, vendor in _EVENTS:
            if event.kind.startswith(mark):
                return VendorGuess(vendor, f"the host's kernel speaks of {event.kind.replace('-', ' ')}")
    name = (host.cpu_name or "").lower()
    if "intel" in name:
        return VendorGuess("vmx", f"the host's CPU is {host.cpu_name}")
    if "amd" in name or "hygon" in name:
        return VendorGuess("svm", f"the host's CPU is {host.cpu_name}")
    return None


def _by_signature(cpu: Cpu | None) -> VendorGuess | None:
    """EDX holds the CPU's signature after a reset (SDM vol. 3A, 11.1.1.3): family, model, stepping.

    VMs are mostly given their host's vendor's model; Penryn and older ones are not counted, since
    people offer those to guests on AMD, too.
    """
    signature = cpu.get("rdx") if cpu else None
    if cpu is None or signature is None or signature >> 28 or cpu.get("rip") not in {None, 0xFFF0, 0xE05B}:
        return None
    family, model = signature >> 8 & 0xF, signature >> 12 & 0xF0 | signature >> 4 & 0xF
    if family == 6 and model >= 0x1A and not cpu.get("rax"):
        return VendorGuess("vmx", f"EDX after reset, {signature:#x}, is the signature of an Intel CPU")
    extended = signature >> 20 & 0xFF
    if family == 0xF and 6 <= extended <= 0x0B and not cpu.get("rax"):
        return VendorGuess("svm", f"EDX after reset, {signature:#x}, is the signature of an AMD CPU")
    return None
