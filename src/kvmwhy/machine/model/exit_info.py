"""The words of the chosen vendor: what the CPU would report about an exit.

Some are decided by the CPU alone, and CPUs differ, so there is a ``bench``: ``silicon`` is what the
manuals and reports of real machines say, ``tcg`` QEMU's SVM, ``bochs`` Bochs's VMX; both were measured
under real KVM modules.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.machine.model.events import EXTERNAL, HARDWARE, NON_MASKABLE, PRIVILEGED, SOFTWARE, Event
from kvmwhy.machine.model.kernel import Bench, Vendor
from kvmwhy.machine.model.traps import PF, WITH_ERROR_CODE, Hole, Kind

EPT_VIOLATION, EPT_MISCONFIG, NPF = 0x30, 0x31, 0x400
EXCEPTION, SVM_PAGE_FAULT = 0, 0x40 + PF
INVALID_STATE: Final = 0x8000_0021
BAD_CONTROL: Final = 7  # VM-instruction error: VM entry with invalid control fields
_VALID, _HAS_CODE = 1 << 31, 1 << 11
_KIND: Final = {"read": 1, "write": 2, "fetch": 4}


class Touch(NamedTuple):
    """An access that KVM has to look at.

    ``known``: KVM has cached the page as MMIO. ``mapped``: a read-only slot's page that the guest can
    read. ``cpl`` is that of the guest.
    """

    hole: Hole
    known: bool
    mapped: bool
    cpl: int  # 0 for what the CPU does for itself, such as the delivery of an event


def event_info(vendor: Vendor, event: Event) -> int:
    """IDT-vectoring information (SDM vol. 3C, 25.9.3) or EXITINTINFO (APM vol. 2, 15.7.2).

    #UD and #DB are intercepted and injected again by KVM, so that even ICEBP comes as type 3. SVM has
    one type for INT n and INT3.
    """
    kind = HARDWARE if event.type == PRIVILEGED else event.type
    if vendor == "svm" and kind not in {EXTERNAL, NON_MASKABLE, HARDWARE}:
        kind = SOFTWARE
    return _VALID | kind << 8 | event.vector | (_HAS_CODE if event.error_code is not None else 0)


def exit_info(
    vendor: Vendor, bench: Bench, touch: Touch, event: Event | None = None, *, shadow_paging: bool = False
) -> ExitInfo:
    """The five words, in the slots that the vendor's get_exit_info gives them."""
    vectoring = 0 if event is None else event_info(vendor, event)
    if bench == "bochs" and event is not None and event.type == HARDWARE and event.vector in WITH_ERROR_CODE:
        vectoring |= _HAS_CODE  # Bochs says so in real mode as well
    if shadow_paging:
        return _page_fault(vendor, bench, touch, vectoring)
    if vendor == "vmx":
        if touch.known and not touch.hole.readonly:
            return ExitInfo(EPT_MISCONFIG, 0, vectoring)
        return ExitInfo(EPT_VIOLATION, _qualification(bench, touch), vectoring)
    if vendor == "svm":
        code = 0 if event is None or event.error_code is None else event.error_code
        return ExitInfo(NPF, _npf_error(bench, touch), touch.hole.gpa, vectoring, code)
    # kvm_pvm, measured on 6.18: no words at all, and the privilege level in the reason
    return ExitInfo(0x2000 if touch.cpl == 3 else 0x1000)


def _page_fault(vendor: Vendor, bench: Bench, touch: Touch, vectoring: int) -> ExitInfo:
    """Without nested paging KVM intercepts #PF, and there is an address of the guest's where the GPA was."""
    hole = touch.hole
    code = {"read": 0, "write": 2, "fetch": 16}[hole.kind] | (4 if touch.cpl == 3 else 0)
    if touch.known and not hole.readonly:
        code |= 8 if bench == "tcg" else 9  # as in _npf_error
    code |= 1 if touch.mapped else 0
    if vendor == "vmx":
        return ExitInfo(EXCEPTION, hole.linear, vectoring, _VALID | _HAS_CODE | HARDWARE << 8 | PF, code)
    return ExitInfo(SVM_PAGE_FAULT, code, hole.linear, vectoring)


def _qualification(bench: Bench, touch: Touch) -> int:
    """SDM vol. 3C, table 28-7. Bits 9 to 11 exist only with advanced information, which Bochs lacks."""
    hole = touch.hole
    bits = 0x80
    if hole.walk:
        # With accessed and dirty flags for EPT, a walk counts as a write (SDM vol. 3C, 29.3.3.2).
        return bits | (3 if bench == "silicon" else 2)
    bits |= 0x100 | _KIND[hole.kind] | (0x28 if touch.mapped else 0)
    if bench == "silicon":
        bits |= hole.rights << 9
    return bits


def ram_qualification(kind: Kind) -> int:
    """Of the EPT violation by which KVM comes to map a page of RAM."""
    return 0x180 | _KIND[kind]


def _npf_error(bench: Bench, touch: Touch) -> int:
    """APM vol. 2, 15.25.6. A guest's own access counts as a user access there."""
    hole = touch.hole
    bits = 1 << 33 | 6 if hole.walk else 1 << 32 | 4
    bits |= {"read": 0, "write": 2, "fetch": 16}[hole.kind]
    if touch.known and not hole.readonly:
        bits |= 8 if bench == "tcg" else 9  # reserved bit; QEMU leaves P out
    return bits | (1 if touch.mapped else 0)
