"""Whose words these are, judged by the numbers alone; ``None`` where they cannot tell.

The same number means different things: 0x30 is EPT_VIOLATION on Intel and a write to DR0 on AMD.
A guess here always names its evidence.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from msgspec import Struct

from kvmwhy.abi.bitfields import hx
from kvmwhy.abi.x86 import pvm, svm, tdx, vmx
from kvmwhy.abi.x86.entry_failure import describe_entry_failure
from kvmwhy.abi.x86.intr_info import looks_like_event

_LAST_SHARED: Final = 0x55  # greater ones are no Intel reason that KVM knows, and tell by themselves


class VendorGuess(Struct, frozen=True):
    """vmx, svm, tdx, pvm or ``None``, and the clause that says why."""

    vendor: str | None
    why: str


def _both(reason: int) -> str:
    """``reason 0x30 is EPT_VIOLATION on Intel and WRITE_DR0 on AMD``."""
    intel = vmx.reason_name(reason) if vmx.is_reason(reason) else None
    amd = svm.code_name(reason)
    if intel and amd:
        return f"reason {hx(reason)} is {intel} on Intel and {amd} on AMD"
    return f"reason {hx(reason)} belongs to no known list"


def _qualification_like(info1: int) -> bool:
    """An EPT qualification: some access, and more than the register number a DR write would give."""
    return bool(info1 & 7) and 0xF < info1 <= 0x1FFFF


def _by_shape(reason: int, info1: int, info2: int, intr_info: int) -> VendorGuess | None:
    """A reason both vendors have, told apart by the words beside it."""
    if reason < 0x20 and info1 >> 63 and not info1 & ~(1 << 63 | 0xF):
        return VendorGuess("svm", f"{_both(reason)}, and info1 {hx(info1)} is the form AMD gives a MOV to or from CR")
    if reason == vmx.EPT_VIOLATION and _qualification_like(info1):
        return VendorGuess("vmx", f"reason 0x30 with info1 {hx(info1)}, which reads as an EPT exit qualification")
    if reason == vmx.EPT_MISCONFIG and (info2 == 0 or looks_like_event(info2)):
        return VendorGuess(
            "vmx", "reason 0x31 is EPT_MISCONFIG; on AMD it is a write to DR1, which does not end in an error"
        )
    if reason == 0 and looks_like_event(intr_info):
        # AMD's code 0, a read of CR0, is an instruction; no event can be in delivery beside it.
        return VendorGuess("vmx", f"reason 0 with the event {hx(intr_info)} as its cause, as only Intel has it")
    if reason < 0x40 and looks_like_event(info2):
        return VendorGuess(
            "vmx", f"info2 {hx(info2)} reads as IDT-vectoring information; AMD gives reason {hx(reason)} none"
        )
    if reason == svm.PF and info2 and not info1 & ~0x807F and not looks_like_event(info2):
        return VendorGuess(
            "svm", f"reason 0x4e with info1 {hx(info1)} as an error code and info2 {hx(info2)} as an address"
        )
    return None


def vendor_of_reason(reason: int, *, info1: int = 0, info2: int = 0, intr_info: int = 0) -> VendorGuess:
    """Judge an exit reason or exit code, with the words beside it as second evidence where both vendors have it."""
    return _with_others(reason, info1, info2, intr_info) if reason <= _LAST_SHARED else _alone(reason)


@lru_cache(maxsize=256)  # pure, and there are few that occur
def _alone(reason: int) -> VendorGuess:
    return _with_others(reason, 0, 0, 0)


def _with_others(reason: int, info1: int, info2: int, intr_info: int) -> VendorGuess:
    if pvm.is_reason(reason):
        return VendorGuess("pvm", f"reason {hx(reason)} is none of Intel's or AMD's, and kvm_pvm reports such ones")
    if reason & 0xFFFFFFFF == reason and reason & 0xFFFF == vmx.UNDEFINED and vmx.is_reason(reason):
        return VendorGuess("vmx", "reason 0xdead is what KVM stores on Intel when VMLAUNCH or VMRESUME failed")
    if reason in (vmx.ENTRY_FAILURE | basic for basic in vmx.ENTRY_FAILURE_REASONS):
        return VendorGuess("vmx", f"reason {hx(reason)} is a failed VM entry, a form only Intel has")
    if reason > _LAST_SHARED and svm.is_assigned(reason):
        return VendorGuess("svm", f"reason {hx(reason)} ({svm.code_name(reason)}) exists only on AMD")
    if tdx.looks_like_status(reason):
        name = tdx.status_name(reason)
        return VendorGuess("tdx", f"{hx(reason)} is a TDX status{f' ({name})' if name else ''}")
    if reason > _LAST_SHARED:
        if vmx.is_reason(reason) and reason >> 16:
            return VendorGuess("vmx", f"reason {hx(reason)} has flag bits only Intel's exit reasons have")
        return VendorGuess(None, _both(reason))
    if not (reason or info1 or info2 or intr_info):
        return VendorGuess(None, "reason 0 and no other word set: no VM entry had happened, or only 0 is known")
    if pvm.is_exception_exit(reason, info1, intr_info):
        return VendorGuess("pvm", f"the vector {hx(reason)} stands in three words, as in the published PVM patches")
    guess = _by_shape(reason, info1, info2, intr_info)
    if guess is not None:
        return guess
    if svm.names_no_register(reason) and not vmx.REASONS[reason].name.startswith("RESERVED"):
        return VendorGuess("vmx", f"{_both(reason)}, and no AMD processor has that register")
    return VendorGuess(None, _both(reason))


def vendor_of_entry_failure(code: int) -> VendorGuess:
    """Judge ``hardware_entry_failure_reason``."""
    failure = describe_entry_failure(code)
    if failure.vendor == "vmx":
        return VendorGuess("vmx", f"{hx(code)} is a {failure.scheme}, which only Intel has")
    if failure.vendor == "svm":
        return VendorGuess("svm", f"{hx(code)} is VMEXIT_INVALID, which only AMD has")
    if code == 0:
        return VendorGuess(None, "0 carries no number; on x86 only KVM on Intel reports it, but POWER does as well")
    return VendorGuess(None, f"{hx(code)} is not a number of one vendor")


def vendor_of_delivery(data: tuple[int, ...]) -> VendorGuess:
    """Judge the words of suberror 3."""
    if len(data) < 2:
        return VendorGuess(None, "too few words to tell")
    event, reason = data[0], data[1]
    same_address = len(data) == 5 and event == data[3]
    if same_address and reason == svm.NPF:
        return VendorGuess("svm", "reason 0x400 (NPF) exists only on AMD, and EXITINFO2 repeats the address")
    if same_address and reason == svm.PF and not looks_like_event(event):
        return VendorGuess("svm", "reason 0x4e with its address in the first word, as KVM on AMD reports a #PF")
    if looks_like_event(event) and vmx.is_reason(reason) and not same_address:
        name = vmx.reason_name(reason)
        return VendorGuess(
            "vmx",
            f"the first word {hx(event)} reads as IDT-vectoring information, and {hx(reason)} is {name}",
        )
    guess = vendor_of_reason(reason)
    if reason > _LAST_SHARED and guess.vendor is not None:
        return guess
    return VendorGuess(None, f"the first word {hx(event)} fits neither vendor's form for reason {hx(reason)}")


def vendor_of_simultaneous(data: tuple[int, ...]) -> VendorGuess:  # noqa: ARG001  one form, one producer
    """Judge the words of suberror 2: only vmx.c raises it."""
    return VendorGuess("vmx", "only KVM on Intel raises this error (suberror 2)")


# AMD codes KVM has handled in every version that can report suberror 4 (5.4 and later).
_SVM_ALWAYS_HANDLED = frozenset(
    code for code in range(0x40) if (entry := svm.find_code(code)) is not None and entry.handled
)


def vendor_of_unexpected(data: tuple[int, ...]) -> VendorGuess:
    """Judge the words of suberror 4: whose reason is it that has no handler?"""
    if not data:
        return VendorGuess(None, "no words to tell by")
    reason = data[0]
    guess = vendor_of_reason(reason)
    if guess.vendor is not None and reason != vmx.EPT_MISCONFIG:
        return guess
    if reason in _SVM_ALWAYS_HANDLED and (entry := vmx.REASONS.get(reason)) and not entry.handled:
        return VendorGuess(
            "vmx",
            f"{entry.name} ({hx(reason)}) has no handler on Intel, {svm.code_name(reason)} always has one on AMD",
        )
    if reason == 0:
        return VendorGuess(None, "reason 0 has a handler on Intel and on AMD")
    return VendorGuess(None, _both(reason))
