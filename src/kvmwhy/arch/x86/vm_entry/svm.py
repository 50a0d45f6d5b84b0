"""15.5.1: what VMRUN refuses with VMEXIT_INVALID. It is far less than VMX does: no segments, no RIP.

Left out, since no dump shows what they need: widths of physical addresses, features that the CPU lacks, VMPLs
and the launch state of an SNP guest.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.vm_entry.rule import Book, Offence, is_pat
from kvmwhy.arch.x86.vm_entry.state import (
    CR0_CD,
    CR0_NW,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_CET,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_SVME,
    NotShownError,
    State,
)

book: Final = Book("APM vol. 2", "guest")
_VMRUN: Final = "15.5.1"
_CR4_RESERVED: Final = 7 << 13 | 1 << 19 | (1 << 64) - (1 << 24)
_EFER_RESERVED: Final = 0x7F << 1 | 1 << 9 | 1 << 16 | 1 << 19 | (1 << 64) - (1 << 22)
_EFER_OPTIONAL: Final = 7 << 13 | 3 << 17 | 3 << 20  # LMSLE, FFXSR, TCE; MCOMMIT, INTWB; UAIE, AIBRSE
_NESTED_PAGING, _SEV, _SEV_ES = 1 << 0, 1 << 1, 1 << 2  # of nested_ctl
_EXCEPTIONS: Final = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19, 21, 28, 29, 30))
_TYPES: Final = frozenset((0, 2, 3, 4))


@book.rule(_VMRUN, "EFER.SVME must be 1", about="controls")
def svm_efer_svme(s: State) -> Offence:
    efer = s.field("save_efer")
    return None if efer & EFER_SVME else f"EFER={efer:#x}"


@book.rule(_VMRUN, "CR0.NW must be 0 unless CR0.CD is 1")
def svm_cr0_cd_nw(s: State) -> Offence:
    cr0 = s.register("cr0")
    if not cr0 & CR0_NW or cr0 & CR0_CD:
        return None
    if not s.dumped:
        raise NotShownError("the VMCB's CR0: KVM clears NW in what the guest sees")
    return f"CR0={cr0:#x}"


@book.rule(_VMRUN, "bits 63:32 of CR0 must be 0")
def svm_cr0_high(s: State) -> Offence:
    cr0 = s.register("cr0")
    return f"CR0={cr0:#x}" if cr0 >> 32 else None


@book.rule(_VMRUN, "reserved bits of CR3 (63:52) must be 0")
def svm_cr3_reserved(s: State) -> Offence:
    cr3 = s.register("cr3")
    return f"CR3={cr3:#x}" if cr3 >> 52 else None


@book.rule(_VMRUN, "reserved bits of CR4 must be 0")
def svm_cr4_reserved(s: State) -> Offence:
    cr4 = s.register("cr4")
    return f"CR4={cr4:#x}" if cr4 & _CR4_RESERVED else None


@book.rule(_VMRUN, "bits 63:32 of DR6 must be 0")
def svm_dr6_high(s: State) -> Offence:
    dr6 = s.register("dr6")
    return f"DR6={dr6:#x}" if dr6 >> 32 else None


@book.rule(_VMRUN, "bits 63:32 of DR7 must be 0")
def svm_dr7_high(s: State) -> Offence:
    dr7 = s.register("dr7")
    return f"DR7={dr7:#x}" if dr7 >> 32 else None


@book.rule(_VMRUN, "reserved bits of EFER must be 0")
def svm_efer_reserved(s: State) -> Offence:
    efer = s.register("efer")
    if efer & _EFER_RESERVED:
        return f"EFER={efer:#x}"
    if efer & _EFER_OPTIONAL:
        raise NotShownError(f"whether this CPU has all features of EFER={efer:#x}")
    return None


@book.rule(_VMRUN, "CR4.PAE must be 1 if EFER.LME and CR0.PG are")
def svm_lme_pae(s: State) -> Offence:
    efer, cr0 = s.register("efer"), s.register("cr0")
    if not (efer & EFER_LME and cr0 & CR0_PG):
        return None
    cr4 = s.register("cr4")
    return None if cr4 & CR4_PAE else f"EFER={efer:#x}, CR0={cr0:#x}, CR4={cr4:#x}"


@book.rule(_VMRUN, "CR0.PE must be 1 if EFER.LME and CR0.PG are")
def svm_lme_pe(s: State) -> Offence:
    efer, cr0 = s.register("efer"), s.register("cr0")
    wrong = efer & EFER_LME and cr0 & CR0_PG and not cr0 & CR0_PE
    return f"EFER={efer:#x}, CR0={cr0:#x}" if wrong else None


@book.rule(_VMRUN, "CS.D must be 0 if CS.L is 1 in long mode (EFER.LME, CR0.PG and CR4.PAE)")
def svm_cs_l_d(s: State) -> Offence:
    efer, cr0, cr4 = s.register("efer"), s.register("cr0"), s.register("cr4")
    if not (efer & (EFER_LME | EFER_LMA) and cr0 & CR0_PG and cr4 & CR4_PAE):
        return None
    cs = s.segment("cs")
    return f"CS access rights={cs.rights:#x}" if cs.long and cs.big else None


@book.rule(_VMRUN, "CR0.WP must be 1 if CR4.CET is")
def svm_cet_wp(s: State) -> Offence:
    cr4, cr0 = s.register("cr4"), s.register("cr0")
    return f"CR4={cr4:#x}, CR0={cr0:#x}" if cr4 & CR4_CET and not cr0 & CR0_WP else None


@book.rule(_VMRUN, "VMRUN must be intercepted", about="controls")
def svm_vmrun_intercept(s: State) -> Offence:
    word = s.fields["intercepts"] >> 32 if "intercepts" in s.fields else s.field("intercept_word4")
    return None if word & 1 else f"intercepts, second word={word:#x}"


@book.rule(_VMRUN, "the ASID must not be 0", about="controls")
def svm_asid(s: State) -> Offence:
    return None if s.field("asid") else "ASID=0"


@book.rule(
    _VMRUN, "the permission maps for I/O and MSRs must lie within physical memory (bits 63:52 clear)", about="controls"
)
def svm_permission_maps(s: State) -> Offence:
    maps = {name: s.field(name) for name in ("iopm_base_pa", "msrpm_base_pa")}
    return ", ".join(f"{name}={value:#x}" for name, value in maps.items() if value >> 52) or None


def _event(s: State) -> int:
    """What was to be injected. The CPU clears EVENTINJ when VMRUN ends, and it may then be in EXITINTINFO."""
    event = s.field("event_inj")
    if not event >> 31 & 1:
        event = s.field("exit_int_info")
    return event if event >> 31 & 1 else 0


@book.rule("15.20", "the type of an injected event must be one that exists (0, 2, 3, 4)", about="event")
def svm_event_type(s: State) -> Offence:
    event = _event(s)
    return f"event={event:#x}" if event and event >> 8 & 7 not in _TYPES else None


@book.rule("15.20", "an injected exception must have the vector of an exception", about="event")
def svm_event_vector(s: State) -> Offence:
    event = _event(s)
    return f"event={event:#x}" if event and event >> 8 & 7 == 3 and event & 0xFF not in _EXCEPTIONS else None


@book.rule("15.25.4", "each byte of the guest's PAT must be a memory type (0, 1, 4 to 7) under nested paging")
def svm_pat(s: State) -> Offence:
    if not s.field("nested_ctl") & _NESTED_PAGING:
        return None
    pat = s.field("gpat")
    return None if is_pat(pat) else f"G_PAT={pat:#x}"


@book.rule("15.34", "SEV needs nested paging, and SEV-ES needs SEV", about="controls")
def svm_sev(s: State) -> Offence:
    control = s.field("nested_ctl")
    wrong = (control & _SEV and not control & _NESTED_PAGING) or (control & _SEV_ES and not control & _SEV)
    return f"nested control={control:#x}" if wrong else None


@book.rule("15.36.20", "SEV_FEATURES must have no bit that ALLOWED_SEV_FEATURES lacks", about="controls")
def svm_allowed_sev_features(s: State) -> Offence:
    if not s.field("nested_ctl") & _SEV_ES:
        return None
    allowed, features = s.field("allowed_sev_features"), s.field("guest_sev_features")
    if not allowed >> 63 & 1:  # the check is off
        return None
    beyond = features & ~allowed
    return f"SEV_FEATURES={features:#x}, ALLOWED_SEV_FEATURES={allowed:#x}" if beyond else None
