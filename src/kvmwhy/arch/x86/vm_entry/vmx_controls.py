"""SDM vol. 3C, 27.2.1: the control fields, events to be injected among them. KVM makes them, not the guest.

Left out: bits that a CPU reports as fixed in its IA32_VMX_* MSRs, and fields that no dump shows (bitmaps, MSR areas,
posted-interrupt descriptor, VMFUNC, PML address).
"""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.vm_entry.rule import Book, Offence
from kvmwhy.arch.x86.vm_entry.state import CR0_PE, State

book: Final = Book("SDM vol. 3C", "controls")
_EXECUTION, _EXIT, _ENTRY = "27.2.1.1", "27.2.1.2", "27.2.1.3"

# Pin-based, primary and secondary execution controls, exit controls, entry controls.
_IRQ_EXITING, _NMI_EXITING, _VIRTUAL_NMIS, _TIMER, _POSTED = 1 << 0, 1 << 3, 1 << 5, 1 << 6, 1 << 7
_TPR_SHADOW, _NMI_WINDOW = 1 << 21, 1 << 22
_APIC_ACCESSES, _EPT, _X2APIC, _VPID, _UNRESTRICTED = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 7
_APIC_REGISTERS, _VID, _PML, _VE, _MBEC = 1 << 8, 1 << 9, 1 << 17, 1 << 18, 1 << 22
_HOST_64, _ACKNOWLEDGE, _SAVE_TIMER = 1 << 9, 1 << 15, 1 << 22
_IA32E_GUEST, _TO_SMM = 1 << 9, 3 << 10

_HAS_CODE: Final = frozenset((8, 10, 11, 12, 13, 14, 17, 21))  # SDM vol. 3A, table 6-1
_RESERVED_TYPE, _NMI, _HARDWARE, _OTHER = 1, 2, 3, 7
_SOFTWARE: Final = (4, 5, 6)


def _controls(**names: int) -> str:
    return ", ".join(f"{name.replace('_', ' ')}={value:#x}" for name, value in names.items())


@book.rule(_EXECUTION, "virtual NMIs need NMI exiting, and NMI-window exiting needs virtual NMIs")
def control_nmi(s: State) -> Offence:
    pin, primary = s.field("pin_based_controls"), s.field("cpu_based_controls")
    wrong = pin & _VIRTUAL_NMIS and not pin & _NMI_EXITING
    wrong = wrong or (primary & _NMI_WINDOW and not pin & _VIRTUAL_NMIS)
    return _controls(pin_based=pin, primary=primary) if wrong else None


@book.rule(_EXECUTION, "virtual x2APIC mode, APIC registers and interrupt delivery need the TPR shadow")
def control_tpr_shadow(s: State) -> Offence:
    primary, secondary = s.field("cpu_based_controls"), s.secondary
    wrong = secondary & (_X2APIC | _APIC_REGISTERS | _VID) and not primary & _TPR_SHADOW
    return _controls(primary=primary, secondary=secondary) if wrong else None


@book.rule(_EXECUTION, "virtual x2APIC mode and virtual APIC accesses exclude each other")
def control_x2apic(s: State) -> Offence:
    both = _X2APIC | _APIC_ACCESSES
    return _controls(secondary=s.secondary) if s.secondary & both == both else None


@book.rule(_EXECUTION, "virtual interrupt delivery needs external-interrupt exiting")
def control_interrupt_delivery(s: State) -> Offence:
    pin = s.field("pin_based_controls")
    wrong = s.secondary & _VID and not pin & _IRQ_EXITING
    return _controls(pin_based=pin, secondary=s.secondary) if wrong else None


@book.rule(_EXECUTION, "posted interrupts need virtual interrupt delivery and acknowledging on exit")
def control_posted(s: State) -> Offence:
    pin = s.field("pin_based_controls")
    if not pin & _POSTED:
        return None
    exits = s.field("vm_exit_controls")
    if s.secondary & _VID and exits & _ACKNOWLEDGE:
        return None
    return _controls(pin_based=pin, secondary=s.secondary, exit=exits)


@book.rule(_EXECUTION, "a VPID must not be 0")
def control_vpid(s: State) -> Offence:
    return "VPID=0x0" if s.secondary & _VPID and not s.field("vpid") else None


@book.rule(_EXECUTION, "unrestricted guest, page-modification logging and execute control by mode need EPT")
def control_ept(s: State) -> Offence:
    wrong = s.secondary & (_UNRESTRICTED | _PML | _MBEC) and not s.secondary & _EPT
    return _controls(secondary=s.secondary) if wrong else None


@book.rule(_EXECUTION, "the EPT pointer must have a valid memory type and page-walk length and no reserved bits")
def ept_pointer(s: State) -> Offence:
    if not s.secondary & _EPT:
        return None
    pointer = s.field("ept_pointer")
    fits = pointer & 7 in {0, 6} and pointer >> 3 & 7 in {3, 4} and not pointer & 0xFFF0_0000_0000_0F00
    return None if fits else f"EPT pointer={pointer:#x}"


@book.rule(_EXECUTION, "bits 31:4 of the TPR threshold must be 0")
def tpr_threshold(s: State) -> Offence:
    if not s.field("cpu_based_controls") & _TPR_SHADOW or s.secondary & _VID:
        return None
    threshold = s.field("tpr_threshold")
    return f"TPR threshold={threshold:#x}" if threshold >> 4 else None


@book.rule(_EXECUTION, "the addresses of the virtual-APIC and APIC-access pages must be those of pages")
def apic_addresses(s: State) -> Offence:
    wrong = []
    if s.field("cpu_based_controls") & _TPR_SHADOW and (address := s.field("virtual_apic_address")) & 0xFFF:
        wrong.append(f"virtual-APIC address={address:#x}")
    if s.secondary & _APIC_ACCESSES and (address := s.field("apic_access_address")) & 0xFFF:
        wrong.append(f"APIC-access address={address:#x}")
    return ", ".join(wrong) or None


@book.rule(_EXIT, "saving the VMX-preemption timer needs the timer")
def control_timer(s: State) -> Offence:
    pin, exits = s.field("pin_based_controls"), s.field("vm_exit_controls")
    wrong = exits & _SAVE_TIMER and not pin & _TIMER
    return _controls(pin_based=pin, exit=exits) if wrong else None


@book.rule("27.2.4", "a host in IA-32e mode must be returned to as such, and only such a host may have a 64-bit guest")
def host_address_space(s: State) -> Offence:
    exits, entry = s.field("vm_exit_controls"), s.field("vm_entry_controls")
    return None if exits & _HOST_64 else _controls(exit=exits, entry=entry)


@book.rule(_ENTRY, "the type of an injected event must not be the reserved one", about="event")
def inject_type(s: State) -> Offence:
    info = s.injected
    return _information(info) if info and info >> 8 & 7 == _RESERVED_TYPE else None


@book.rule(
    _ENTRY, "the vector of an injected event must fit its type: NMI 2, exceptions to 31, other events 0", about="event"
)
def inject_vector(s: State) -> Offence:
    info = s.injected
    kind, vector = info >> 8 & 7, info & 0xFF
    wrong = (kind == _NMI and vector != 2) or (kind == _HARDWARE and vector > 31) or (kind == _OTHER and vector > 2)
    return _information(info) if info and wrong else None


@book.rule(_ENTRY, "an error code must go with the exceptions that have one, and with nothing else", about="event")
def inject_error_code(s: State) -> Offence:
    info = s.injected
    if not info:
        return None
    protected = not s.unrestricted or s.register("cr0") & CR0_PE
    must = bool(protected and info >> 8 & 7 == _HARDWARE and info & 0xFF in _HAS_CODE)
    return None if bool(info >> 11 & 1) == must else _information(info)


@book.rule(_ENTRY, "bits 30:12 of the VM-entry interruption information must be 0", about="event")
def inject_reserved(s: State) -> Offence:
    # Bit 13 is FRED's "nested exception".
    return _information(s.injected) if s.injected & 0x7FFF_D000 else None


@book.rule(_ENTRY, "bits 31:16 of an injected error code must be 0", about="event")
def inject_error_code_high(s: State) -> Offence:
    info = s.injected
    if not info >> 11 & 1:
        return None
    code = s.field("vm_entry_exception_error_code")
    return f"error code={code:#x}, {_information(info)}" if code >> 16 else None


@book.rule(_ENTRY, "the length of a software interrupt or exception must be 1 to 15 (0 on some CPUs)", about="event")
def inject_length(s: State) -> Offence:
    info = s.injected
    if not info or info >> 8 & 7 not in _SOFTWARE:
        return None
    length = s.field("vm_entry_instruction_length")
    return None if 0 < length < 16 else f"instruction length={length}, {_information(info)}"


@book.rule(_ENTRY, "entry to SMM must be off outside SMM")
def control_smm(s: State) -> Offence:
    entry = s.field("vm_entry_controls")
    return _controls(entry=entry) if entry & _TO_SMM else None


def _information(info: int) -> str:
    return f"VM-entry interruption information={info:#x}"
