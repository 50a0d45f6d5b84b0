"""SDM vol. 3C, 27.3.1.5 and 27.3.1.6: the guest's non-register state, and its PDPTEs.

Left out: the VMCS link pointer and what only a monitor of SMM or an enclave would break.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.vm_entry.rule import Book, Offence, each
from kvmwhy.arch.x86.vm_entry.state import CR0_PG, CR4_PAE, RFLAGS_IF, RFLAGS_TF, State

book: Final = Book("SDM vol. 3C", "guest")
_STATE: Final = "27.3.1.5"
_STI, _MOV_SS, _SMI, _NMI = 1 << 0, 1 << 1, 1 << 2, 1 << 3  # of the interruptibility state
_HLT, _SHUTDOWN, _WAIT = 1, 2, 3  # activity states
_EXTERNAL, _NMI_EVENT, _HARDWARE, _OTHER = 0, 2, 3, 7  # types of injected events
_VIRTUAL_NMIS: Final = 1 << 5
_EPT: Final = 1 << 1
_BTF: Final = 1 << 1
_BS: Final = 1 << 14
# Bits 3:0 B3–B0, 11 bus lock, 12 breakpoint enabled, 14 BS, 16 RTM are defined.
_PENDING_RESERVED: Final = 0x7F << 4 | 1 << 13 | 1 << 15 | (1 << 64) - (1 << 17)
_PDPTE_RESERVED: Final = 3 << 1 | 0xF << 5 | 0xFFF << 52


def _interruptibility(s: State) -> int:
    return s.field("guest_interruptibility")


def _say(s: State) -> str:
    return f"interruptibility={_interruptibility(s):#x}"


@book.rule(_STATE, "the activity state must be 0 to 3")
def activity_state(s: State) -> Offence:
    activity = s.field("guest_activity_state")
    return f"activity state={activity:#x}" if activity > _WAIT else None


@book.rule(_STATE, "SS.DPL must be 0 in the activity state HLT")
def activity_hlt(s: State) -> Offence:
    if s.field("guest_activity_state") != _HLT:
        return None
    ss = s.segment("ss")
    return f"SS.DPL={ss.dpl}, activity state=1" if ss.dpl else None


@book.rule(_STATE, "the activity state must be active under blocking by STI or MOV SS")
def activity_blocked(s: State) -> Offence:
    activity = s.field("guest_activity_state")
    blocked = activity and _interruptibility(s) & (_STI | _MOV_SS)
    return f"activity state={activity:#x}, {_say(s)}" if blocked else None


@book.rule(_STATE, "an injected event must be one that the activity state lets in")
def activity_event(s: State) -> Offence:
    activity, info = s.field("guest_activity_state"), s.injected
    if not info or not activity:
        return None
    kind, vector = info >> 8 & 7, info & 0xFF
    lets_in = {
        _HLT: kind in {_EXTERNAL, _NMI_EVENT}
        or (kind == _HARDWARE and vector in {1, 18})
        or (kind == _OTHER and vector == 0),
        _SHUTDOWN: kind == _NMI_EVENT or (kind == _HARDWARE and vector == 18),
    }
    fits = lets_in.get(activity, False)
    return None if fits else f"activity state={activity:#x}, VM-entry interruption information={info:#x}"


@book.rule(_STATE, "reserved bits (31:5) of the interruptibility state must be 0")
def interruptibility_reserved(s: State) -> Offence:
    return _say(s) if _interruptibility(s) >> 5 else None


@book.rule(_STATE, "blocking by STI and by MOV SS exclude each other")
def sti_movss(s: State) -> Offence:
    return _say(s) if _interruptibility(s) & 3 == _STI | _MOV_SS else None


@book.rule(_STATE, "there is no blocking by STI while RFLAGS.IF is 0")
def sti_if(s: State) -> Offence:
    if not _interruptibility(s) & _STI:
        return None
    rflags = s.register("rflags")
    return None if rflags & RFLAGS_IF else f"{_say(s)}, RFLAGS={rflags:#x}"


@book.rule(_STATE, "an external interrupt must not be injected under blocking by STI or MOV SS")
def irq_blocked(s: State) -> Offence:
    info = s.injected
    if not info or info >> 8 & 7 != _EXTERNAL or not _interruptibility(s) & (_STI | _MOV_SS):
        return None
    return f"{_say(s)}, VM-entry interruption information={info:#x}"


@book.rule(_STATE, "an NMI must not be injected under blocking by MOV SS")
def nmi_blocked(s: State) -> Offence:
    info = s.injected
    if info >> 8 & 7 != _NMI_EVENT or not _interruptibility(s) & _MOV_SS:
        return None
    return f"{_say(s)}, VM-entry interruption information={info:#x}"


@book.rule(_STATE, "an NMI must not be injected under blocking by STI, on CPUs that check it")
def nmi_sti(s: State) -> Offence:
    info = s.injected
    if info >> 8 & 7 != _NMI_EVENT or not _interruptibility(s) & _STI:
        return None
    return f"{_say(s)}, VM-entry interruption information={info:#x}"


@book.rule(_STATE, "an NMI must not be injected under blocking by NMI if NMIs are virtual")
def nmi_virtual(s: State) -> Offence:
    info = s.injected
    if info >> 8 & 7 != _NMI_EVENT or not _interruptibility(s) & _NMI:
        return None
    virtual = s.field("pin_based_controls") & _VIRTUAL_NMIS
    return f"{_say(s)}, VM-entry interruption information={info:#x}" if virtual else None


@book.rule(_STATE, "there is no blocking by SMI outside SMM")
def smi_blocked(s: State) -> Offence:
    return _say(s) if _interruptibility(s) & _SMI else None


@book.rule(_STATE, "reserved bits of the pending debug exceptions must be 0")
def pending_debug_reserved(s: State) -> Offence:
    pending = s.field("guest_pending_debug_exceptions")
    return f"pending debug exceptions={pending:#x}" if pending & _PENDING_RESERVED else None


@book.rule(_STATE, "under blocking, or in HLT, BS must be pending exactly if single-stepping (TF without BTF)")
def pending_debug_bs(s: State) -> Offence:
    if not _interruptibility(s) & (_STI | _MOV_SS) and s.field("guest_activity_state") != _HLT:
        return None
    rflags, pending = s.register("rflags"), s.field("guest_pending_debug_exceptions")
    stepping = bool(rflags & RFLAGS_TF and not s.field("guest_debugctl") & _BTF)
    if bool(pending & _BS) == stepping:
        return None
    return f"pending debug exceptions={pending:#x}, RFLAGS={rflags:#x}, {_say(s)}"


@book.rule("27.3.1.6", "reserved bits of a present PDPTE must be 0 under PAE paging with EPT")
def pdpte_reserved(s: State) -> Offence:
    if s.long or not s.register("cr0") & CR0_PG or not s.register("cr4") & CR4_PAE or not s.secondary & _EPT:
        return None

    def test(name: str) -> Offence:
        value = s.field(f"guest_{name}")
        return f"{name.upper()}={value:#x}" if value & 1 and value & _PDPTE_RESERVED else None

    return each(("pdptr0", "pdptr1", "pdptr2", "pdptr3"), test)
