"""``dump_vmcs`` of arch/x86/kvm/vmx/vmx.c, 4.2 to 7.3, as forms; and what they are of a failure.

What changed with time: the head line names VMCS and CPU since 5.15; EFER and PAT shared a line until
5.12 (5518da62d4f9); PDPTEs were only printed under PAE paging until then; CR3 targets went in 5.8;
the control words moved to other lines with the tertiary controls (5.19); `kvm_intel: ` stands before
each line since 6.3.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.format_strings import Section
from kvmwhy.record import ControlBlock, Cpu, Exit, Segment

HEAD: Final = "last attempted VM-entry on CPU"
GUEST: Final = "*** Guest State ***"
# By one of these a line of a dump is known whose head was lost: no other program prints them.
MARKS: Final = (
    "sel=0x", "actual=0x", "PDPTR0 = ", "PDPTR2 = ", "Sysenter RSP=", "GDTR:", "IDTR:", "DebugExceptions = ",
    "ActivityState = ",
    "InterruptStatus = ", "PerfGlobCtl = 0x", "BndCfgS = 0x", "S_CET = 0x", " CR3=", "FSBase=", "GDTBase=",
    "CPUBased=", "EntryControls=", "ExceptionBitmap=",
    "VMEntry: intr_info=", "VMExit: intr_info=", "qualification=", "IDTVectoring: info=", "TSC Offset = 0x",
    "TSC Multiplier = 0x", "SVI|RVI = ",
    "APIC-access addr = 0x", "virt-APIC addr = 0x", "PostedIntrVec = 0x", "EPT pointer = 0x", "PLE Gap=",
    "Virtual processor ID = 0x", "VE info address = 0x",
)  # fmt: skip
SEGMENTS: Final = ("CS", "DS", "SS", "ES", "FS", "GS", "LDTR", "TR")
_NAMES: Final = {"LDTR": "ldt", "TR": "tr", "GDTR": "gdt", "IDTR": "idt"}

_SYSENTER: Final = "Sysenter RSP=%x CS:RIP=%x:%x"


def _segment(name: str) -> tuple[str, str]:
    key = _NAMES.get(name, name.lower())
    return f"{name}: sel=0x%x, attr=0x%x, limit=0x%x, base=0x%x", f"{key}.sel {key}.attr {key}.limit {key}.base"


def _table(name: str) -> tuple[str, str]:
    key = _NAMES[name]
    return f"{name}: limit=0x%x, base=0x%x", f"{key}.limit {key}.base"


SECTIONS: Final = (
    Section(
        GUEST,
        (
            ("CR0: actual=0x%x, shadow=0x%x, gh_mask=%x", "guest_cr0 cr0_read_shadow cr0_guest_host_mask"),
            ("CR4: actual=0x%x, shadow=0x%x, gh_mask=%x", "guest_cr4 cr4_read_shadow cr4_guest_host_mask"),
            ("CR3 = 0x%x", "cr3"),
            ("PDPTR0 = 0x%x PDPTR1 = 0x%x", "guest_pdptr0 guest_pdptr1"),
            ("PDPTR2 = 0x%x PDPTR3 = 0x%x", "guest_pdptr2 guest_pdptr3"),
            ("RSP = 0x%x RIP = 0x%x", "rsp rip"),
            ("RFLAGS=0x%x DR7 = 0x%x", "rflags dr7"),
            (_SYSENTER, "guest_sysenter_esp guest_sysenter_cs guest_sysenter_eip"),
            *map(_segment, SEGMENTS),
            *map(_table, ("GDTR", "IDTR")),
            ("EFER = 0x%x PAT = 0x%x", "efer guest_pat"),
            ("EFER = 0x%x", "efer"),
            ("PAT = 0x%x", "guest_pat"),
            ("DebugCtl = 0x%x DebugExceptions = 0x%x", "guest_debugctl guest_pending_debug_exceptions"),
            ("PerfGlobCtl = 0x%x", "guest_perf_global_ctrl"),
            ("BndCfgS = 0x%x", "guest_bndcfgs"),
            ("PKRS = 0x%x", "guest_pkrs"),
            ("S_CET = 0x%x, SSP = 0x%x, SSP TABLE = 0x%x", "guest_s_cet guest_ssp guest_ssp_table"),
            ("Interruptibility = %x ActivityState = %x", "guest_interruptibility guest_activity_state"),
            ("InterruptStatus = %x", "guest_interrupt_status"),
        ),
    ),
    Section(
        "*** Host State ***",
        (
            ("RIP = 0x%x RSP = 0x%x", "host_rip host_rsp"),
            (
                "CS=%x SS=%x DS=%x ES=%x FS=%x GS=%x TR=%x",
                "host_cs host_ss host_ds host_es host_fs host_gs host_tr",
            ),
            ("FSBase=%x GSBase=%x TRBase=%x", "host_fs_base host_gs_base host_tr_base"),
            ("GDTBase=%x IDTBase=%x", "host_gdtr_base host_idtr_base"),
            ("CR0=%x CR3=%x CR4=%x", "host_cr0 host_cr3 host_cr4"),
            (_SYSENTER, "host_sysenter_esp host_sysenter_cs host_sysenter_eip"),
            ("EFER = 0x%x PAT = 0x%x", "host_efer host_pat"),
            ("EFER = 0x%x", "host_efer"),
            ("PAT = 0x%x", "host_pat"),
            ("PerfGlobCtl = 0x%x", "host_perf_global_ctrl"),
            ("PKRS = 0x%x", "host_pkrs"),
            ("S_CET = 0x%x, SSP = 0x%x, SSP TABLE = 0x%x", "host_s_cet host_ssp host_ssp_table"),
        ),
    ),
    Section(
        "*** Control State ***",
        (
            (
                "CPUBased=0x%x SecondaryExec=0x%x TertiaryExec=0x%x",
                "cpu_based_controls secondary_controls tertiary_controls",
            ),
            (
                "PinBased=0x%x EntryControls=%x ExitControls=%x",
                "pin_based_controls vm_entry_controls vm_exit_controls",
            ),
            (
                "PinBased=%x CPUBased=%x SecondaryExec=%x",
                "pin_based_controls cpu_based_controls secondary_controls",
            ),
            ("EntryControls=%x ExitControls=%x", "vm_entry_controls vm_exit_controls"),
            ("ExceptionBitmap=%x PFECmask=%x PFECmatch=%x", "exception_bitmap pfec_mask pfec_match"),
            (
                "VMEntry: intr_info=%x errcode=%x ilen=%x",
                "vm_entry_interruption_info vm_entry_exception_error_code vm_entry_instruction_length",
            ),
            (
                "VMExit: intr_info=%x errcode=%x ilen=%x",
                "vm_exit_interruption_info vm_exit_interruption_error_code vm_exit_instruction_length",
            ),
            ("reason=%x qualification=%x", "exit_reason exit_qualification"),
            ("IDTVectoring: info=%x errcode=%x", "idt_vectoring_info idt_vectoring_error_code"),
            ("TSC Offset = 0x%x", "tsc_offset"),
            ("TSC Multiplier = 0x%x", "tsc_multiplier"),
            ("SVI|RVI = %x|%x", "svi rvi"),
            ("TPR Threshold = 0x%x", "tpr_threshold"),
            ("APIC-access addr = 0x%x", "apic_access_address"),
            ("virt-APIC addr = 0x%x", "virtual_apic_address"),
            ("PostedIntrVec = 0x%x", "posted_interrupt_vector"),
            ("EPT pointer = 0x%x", "ept_pointer"),
            ("PLE Gap=%x Window=%x", "ple_gap ple_window"),
            ("Virtual processor ID = 0x%x", "vpid"),
            ("VE info address = 0x%x", "ve_info_address"),
        ),
    ),
)

LAST: Final = "idt_vectoring_info"  # what comes behind it is not in every dump
_REGISTERS: Final[tuple[str, ...]] = ("cr3", "rsp", "rip", "rflags", "dr7", "efer")
_PARTS: Final = {"": "", "sel": "_selector", "base": "_base", "limit": "_limit", "attr": "_ar_bytes"}
UNUSABLE: Final = 1 << 16  # SDM vol. 3C, 24.4.1: access rights as the VMCS has them


def cpu_of(values: dict[str, int]) -> Cpu:
    """What the guest sees: CR0 and CR4 through their masks. What the CPU was given is in the fields."""
    registers: dict[str, int] = {name: values[name] for name in _REGISTERS if name in values}
    for name in ("cr0", "cr4"):
        parts = [values.get(key) for key in (f"guest_{name}", f"{name}_read_shadow", f"{name}_guest_host_mask")]
        actual, shadow, mask = parts
        if actual is not None and shadow is not None and mask is not None:
            registers[name] = actual & ~mask | shadow & mask
    segments = {}
    for name in ("cs", "ds", "ss", "es", "fs", "gs", "ldt", "tr", "gdt", "idt"):
        base, limit = values.get(f"{name}.base"), values.get(f"{name}.limit")
        if base is None or limit is None:
            continue
        rights = values.get(f"{name}.attr", 0)
        seen = rights & (0xF07F if rights & UNUSABLE else 0xF0FF)
        segments[name] = Segment(values.get(f"{name}.sel", 0), base, limit, seen << 8)
    return Cpu(registers=registers, segments=segments)


def control_of(values: dict[str, int]) -> ControlBlock:
    """All of it by the VMCS's own names: what the CPU was given, which the guest need not see."""
    fields: dict[str, int] = {}
    for name, value in values.items():
        key, _, part = name.partition(".")
        guests = part or name in _REGISTERS
        fields[f"guest_{key}{_PARTS[part]}" if guests else name] = value
    return ControlBlock("vmcs", fields)


def exit_of(values: dict[str, int]) -> Exit | None:
    if "exit_reason" not in values:
        return None
    return Exit(
        reason=values["exit_reason"],
        info1=values.get("exit_qualification"),
        info2=values.get("idt_vectoring_info"),
        intr_info=values.get("vm_exit_interruption_info"),
        error_code=values.get("vm_exit_interruption_error_code"),
        isa="vmx",
    )
