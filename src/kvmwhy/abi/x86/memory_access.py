"""What the exit words say about the memory access that failed.

Only what they say: the kind of access, and an address where a word holds one. VMX's qualification
never does, SVM's EXITINFO2 does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

from kvmwhy.abi.bitfields import hx
from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.abi.x86.delivery_ev import ALL_ONES, delivery_layout
from kvmwhy.abi.x86.intr_info import HAS_ERROR_CODE, VALID
from kvmwhy.abi.x86.page_fault import GUEST_PAGE, kind_of_access

AccessKind = Literal["fetch", "read", "write", "page-walk", "event-delivery"]


class ExitWords(NamedTuple):
    """The five words of ``get_exit_info`` (in kvm_run since 5.16), in the order KVM stores them."""

    reason: int
    info1: int
    info2: int
    intr_info: int
    error_code: int

    @property
    def no_exit_yet(self) -> bool:
        """All five are zero. Reason 0 of Intel would name an event, so nothing had exited yet."""
        return not any(self)


class WordAccess(Struct, frozen=True):
    """What the words say about the memory access that failed. Addresses only if a word holds one.

    ``certain`` is false where the words leave room, or are silent.
    """

    kind: AccessKind | None
    gpa: int | None
    gva: int | None
    certain: bool
    why: str


def _no_access(why: str, *, certain: bool = False) -> WordAccess:
    return WordAccess(None, None, None, certain, why)


def _ept_access(q: int, delivering: bool) -> WordAccess:
    """An EPT violation. The qualification never holds the address."""
    field = f"exit qualification {hx(q)}"
    if q >> 7 & 1 and not q >> 8 & 1:
        more = ", while an event was being delivered" if delivering else ""
        return WordAccess("page-walk", None, None, True, f"{field}: a walk of the guest's page tables{more}")
    if delivering:
        return WordAccess("event-delivery", None, None, True, f"{field}: an access made to deliver an event")
    kind: AccessKind | None = None
    if q & 4:
        kind = "fetch"
    elif q & 2:
        kind = "write"
    elif q & 1:
        kind = "read"
    if kind is None:
        return _no_access(f"{field} names no kind of access")
    both = " (and read)" if q & 3 == 3 and not q & 4 else ""
    if not q >> 7 & 1:
        return WordAccess(kind, None, None, False, f"{field}: {kind}{both}, with no linear address behind it")
    return WordAccess(kind, None, None, True, f"{field}: {kind}{both}")


_APIC_KINDS: dict[int, AccessKind] = {
    0: "read",
    1: "write",
    2: "fetch",
    3: "event-delivery",
    10: "event-delivery",
}


def _apic_access(q: int) -> WordAccess:
    kind = _APIC_KINDS.get(q >> 12 & 0xF)
    meaning = vmx.describe_qualification(vmx.APIC_ACCESS, q, failed_entry=False)
    return WordAccess(kind, None, None, kind is not None, f"exit qualification {hx(q)}: {meaning}")


def _vmx_access(words: ExitWords, *, tdx_guest: bool) -> WordAccess:
    reason, q, info2, intr_info, error_code = words
    if words.no_exit_yet:
        return _no_access("no VM exit had happened")
    if reason & vmx.ENTRY_FAILURE:
        return _no_access("the guest was not entered, so the words tell of no access")
    delivering = not tdx_guest and bool(info2 & VALID)
    match reason & 0xFFFF:
        case vmx.EPT_VIOLATION:
            return _ept_access(q, delivering)
        case vmx.EPT_MISCONFIG if delivering:
            return WordAccess(
                "event-delivery",
                None,
                None,
                True,
                "an EPT misconfiguration while an event was being delivered",
            )
        case vmx.EPT_MISCONFIG:
            return _no_access("an EPT misconfiguration says neither what the access was nor where it went")
        case vmx.APIC_ACCESS:
            return _apic_access(q)
        case vmx.EXCEPTION_NMI if intr_info & (VALID | 0x7FF) == VALID | 0x30E:
            if delivering:
                return WordAccess("event-delivery", None, q, True, f"#PF at {hx(q)} while delivering an event")
            if tdx_guest or not intr_info & HAS_ERROR_CODE:
                return WordAccess(None, None, q, False, f"#PF at {hx(q)} without its error code")
            kind = kind_of_access(error_code)
            return WordAccess(kind, None, q, True, f"#PF at {hx(q)}, error code {hx(error_code)}: {kind}")
        case _:
            return _no_access(f"exit reason {hx(reason)} is not a memory access KVM describes")


def _svm_access(words: ExitWords) -> WordAccess:
    code, info1, info2, intr_info, _ = words
    if code not in (svm.NPF, svm.PF):
        return _no_access(f"exit code {hx(code)} is not a memory access KVM describes")
    gpa, gva = (info2, None) if code == svm.NPF else (None, info2)
    field = f"EXITINFO1 {hx(info1)}"
    if code == svm.NPF and info1 & GUEST_PAGE:
        return WordAccess("page-walk", gpa, gva, True, f"{field}: a walk of the guest's page tables")
    if intr_info & VALID:
        return WordAccess("event-delivery", gpa, gva, True, f"{field}: an access made to deliver an event")
    kind = kind_of_access(info1)
    return WordAccess(kind, gpa, gva, True, f"{field}: {kind}")


def access_of_exit(vendor: str | None, words: ExitWords) -> WordAccess:
    """The failing access as the words of suberror 1 tell it."""
    match vendor:
        case "vmx":
            return _vmx_access(words, tdx_guest=False)
        case "tdx" if words.reason >> 32 or words.reason == 0xFFFFFFFF:
            return _no_access("a TDX status tells of no access")
        case "tdx":
            return _vmx_access(words, tdx_guest=True)
        case "svm":
            return _svm_access(words)
        case "pvm":
            return _no_access("kvm_pvm's words tell of no access")
        case _:
            return _no_access("the vendor is not known, so the words cannot be read")


_VMX_MEMORY_REASONS = frozenset((vmx.EPT_VIOLATION, vmx.EPT_MISCONFIG, vmx.APIC_ACCESS))


def _delivery_access_vmx(data: tuple[int, ...]) -> WordAccess:
    parts = delivery_layout(data)
    reason = data[1]
    if reason & vmx.ENTRY_FAILURE:
        return _no_access("the guest was not entered, so the words tell of no access")
    basic = reason & 0xFFFF
    address = None if parts.address == ALL_ONES else parts.address
    if basic == vmx.EXCEPTION_NMI and address is not None:
        return WordAccess("event-delivery", None, address, True, "a page fault while an event was being delivered")
    if basic not in _VMX_MEMORY_REASONS:
        return _no_access(f"exit reason {hx(reason)} is not a memory access KVM describes")
    q = parts.qualification
    if basic == vmx.EPT_VIOLATION and parts.qualification_fresh and q is not None and q & 0x180 == 0x80:
        why = "a walk of the guest's page tables while an event was being delivered"
        return WordAccess("page-walk", address, None, True, f"exit qualification {hx(q)}: {why}")
    return WordAccess(
        "event-delivery",
        address,
        None,
        True,
        f"exit reason {hx(reason)} ({vmx.reason_name(reason)}) while an event was being delivered",
    )


def _delivery_access_svm(data: tuple[int, ...]) -> WordAccess:
    code = data[1]
    if code not in (svm.NPF, svm.PF):
        return _no_access(f"exit code {hx(code)} is not a memory access KVM describes")
    address = data[3] if len(data) > 3 and data[3] != ALL_ONES else data[0]
    gpa, gva = (address, None) if code == svm.NPF else (None, address)
    if code == svm.NPF and len(data) > 2 and data[2] & GUEST_PAGE:
        why = f"EXITINFO1 {hx(data[2])}: a walk of the guest's page tables while an event was being delivered"
        return WordAccess("page-walk", gpa, gva, True, why)
    return WordAccess("event-delivery", gpa, gva, True, f"{svm.code_name(code)} while an event was being delivered")


def access_of_delivery(vendor: str | None, data: tuple[int, ...]) -> WordAccess:
    """The failing access as the words of suberror 3 tell it."""
    if len(data) < 2:
        return _no_access("no exit reason among the words")
    match vendor:
        case "vmx":
            return _delivery_access_vmx(data)
        case "svm":
            return _delivery_access_svm(data)
        case _:
            return _no_access("the words cannot be read for this vendor")
