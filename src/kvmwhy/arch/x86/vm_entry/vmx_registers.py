"""SDM vol. 3C, 27.3.1.1, 27.3.1.3 and 27.3.1.4: the guest's registers, descriptor tables, RIP and RFLAGS.

Left out, since no dump shows what they need: reserved bits that differ from CPU to CPU (PERF_GLOBAL_CTRL,
RTIT_CTL, LBR_CTL, optional bits of CR3), UINV and FRED.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.vm_entry.rule import Book, Offence, canonical, each, is_pat
from kvmwhy.arch.x86.vm_entry.state import (
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_CET,
    CR4_PAE,
    CR4_PCIDE,
    CR4_VMXE,
    EFER_LMA,
    EFER_LME,
    RFLAGS_IF,
    NotShownError,
    State,
)

book: Final = Book("SDM vol. 3C", "guest")
_LOAD_DEBUG, _LOAD_PAT, _LOAD_EFER, _LOAD_BNDCFGS, _LOAD_CET = 1 << 2, 1 << 14, 1 << 15, 1 << 16, 1 << 20

# Bits that no CPU had by 2025.
_CR4_RESERVED: Final = 1 << 15 | 1 << 19 | 1 << 26 | 7 << 29 | ~0x1_FFFF_FFFF & (1 << 64) - 1
_CR4_EVERYWHERE: Final = 0x7FF | CR4_VMXE  # VME to OSXMMEXCPT: every CPU with VMX has them
_DEBUGCTL_RESERVED: Final = 7 << 3 | (1 << 64) - (1 << 16)
_EFER_DEFINED: Final = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11  # SCE, LME, LMA, NXE
_CR3_HIGH: Final = ((1 << 12) - 1) << 52 & ~(3 << 61)  # 61 and 62 are LAM's
_RFLAGS_RESERVED: Final = 1 << 3 | 1 << 5 | 1 << 15 | (1 << 64) - (1 << 22)


def _loads(s: State, control: int) -> bool:
    return bool(s.field("vm_entry_controls") & control)


@book.rule("27.3.1.1", "CR0.NE must be 1, and so must PE and PG without unrestricted guest")
def cr0_fixed(s: State) -> Offence:
    cr0 = s.field("guest_cr0")
    must = CR0_NE if s.unrestricted else CR0_NE | CR0_PE | CR0_PG
    return f"CR0={cr0:#x}" if ~cr0 & must else None


@book.rule("27.3.1.1", "bits 63:32 of CR0 must be 0")
def cr0_high(s: State) -> Offence:
    cr0 = s.register("cr0")
    return f"CR0={cr0:#x}" if cr0 >> 32 else None


@book.rule("27.3.1.1", "CR0.PE must be 1 if CR0.PG is", mended=True)
def cr0_pg_pe(s: State) -> Offence:
    cr0 = s.register("cr0")
    return f"CR0={cr0:#x}" if cr0 & CR0_PG and not cr0 & CR0_PE else None


@book.rule("27.3.1.1", "CR4.VMXE must be 1")
def cr4_fixed(s: State) -> Offence:
    cr4 = s.field("guest_cr4")
    return None if cr4 & CR4_VMXE else f"CR4={cr4:#x}"


@book.rule("27.3.1.1", "reserved bits of CR4 must be 0")
def cr4_reserved(s: State) -> Offence:
    """Which are reserved IA32_VMX_CR4_FIXED1 says (SDM vol. 3D, A.8). What Linux uses for itself, the CPU has."""
    cr4 = s.register("cr4")
    if cr4 & _CR4_RESERVED:
        return f"CR4={cr4:#x}"
    if s.dumped and cr4 & ~(_CR4_EVERYWHERE | s.fields.get("host_cr4", 0)):
        raise NotShownError(f"IA32_VMX_CR4_FIXED1 of this CPU, for CR4={cr4:#x}")
    return None


@book.rule("27.3.1.1", "CR0.WP must be 1 if CR4.CET is")
def cr4_cet_wp(s: State) -> Offence:
    cr4 = s.register("cr4")
    if not cr4 & CR4_CET:
        return None
    cr0 = s.register("cr0")
    return None if cr0 & CR0_WP else f"CR4={cr4:#x}, CR0={cr0:#x}"


@book.rule("27.3.1.1", "CR0.PG and CR4.PAE must be 1 if the guest is to be in IA-32e mode")
def long_paging(s: State) -> Offence:
    if not s.long:
        return None
    cr0, cr4 = s.register("cr0"), s.register("cr4")
    return None if cr0 & CR0_PG and cr4 & CR4_PAE else f"CR0={cr0:#x}, CR4={cr4:#x}"


@book.rule("27.3.1.1", "CR4.PCIDE must be 0 unless the guest is to be in IA-32e mode")
def cr4_pcide(s: State) -> Offence:
    cr4 = s.register("cr4")
    return f"CR4={cr4:#x}" if cr4 & CR4_PCIDE and not s.long else None


@book.rule("27.3.1.1", "bits 63 and 60:52 of CR3 must be 0")
def cr3_high(s: State) -> Offence:
    cr3 = s.register("cr3")
    return f"CR3={cr3:#x}" if cr3 & _CR3_HIGH else None


@book.rule("27.3.1.1", "reserved bits of DEBUGCTL must be 0")
def debugctl_reserved(s: State) -> Offence:
    value = s.field("guest_debugctl")
    return f"DEBUGCTL={value:#x}" if value & _DEBUGCTL_RESERVED and _loads(s, _LOAD_DEBUG) else None


@book.rule("27.3.1.1", "bits 63:32 of DR7 must be 0")
def dr7_high(s: State) -> Offence:
    dr7 = s.register("dr7")
    return f"DR7={dr7:#x}" if dr7 >> 32 and (not s.dumped or _loads(s, _LOAD_DEBUG)) else None


@book.rule("27.3.1.1", "SYSENTER_ESP and SYSENTER_EIP must be canonical")
def sysenter_canonical(s: State) -> Offence:
    return each(("SYSENTER_ESP", "SYSENTER_EIP"), lambda name: canonical(s, name, s.field(f"guest_{name.lower()}")))


@book.rule("27.3.1.1", "each byte of PAT must be a memory type (0, 1, 4 to 7)")
def pat_type(s: State) -> Offence:
    if not _loads(s, _LOAD_PAT):
        return None
    pat = s.field("guest_pat")
    return None if is_pat(pat) else f"PAT={pat:#x}"


@book.rule("27.3.1.1", "reserved bits of EFER must be 0")
def efer_reserved(s: State) -> Offence:
    efer = s.register("efer")
    return f"EFER={efer:#x}" if efer & ~_EFER_DEFINED and (not s.dumped or _loads(s, _LOAD_EFER)) else None


@book.rule("27.3.1.1", 'EFER.LMA must be as the VM-entry control "IA-32e mode guest"')
def efer_lma(s: State) -> Offence:
    efer = s.register("efer")
    if not _loads(s, _LOAD_EFER):
        return None
    return None if bool(efer & EFER_LMA) == s.long else f"EFER={efer:#x}, IA-32e mode guest={int(s.long)}"


@book.rule("27.3.1.1", "EFER.LMA and EFER.LME must be the same if CR0.PG is 1")
def efer_lme(s: State) -> Offence:
    efer, cr0 = s.register("efer"), s.register("cr0")
    if not cr0 & CR0_PG or (s.dumped and not _loads(s, _LOAD_EFER)):
        return None
    return None if bool(efer & EFER_LMA) == bool(efer & EFER_LME) else f"EFER={efer:#x}, CR0={cr0:#x}"


@book.rule("27.3.1.1", "bits 11:2 of BNDCFGS must be 0, and its address canonical")
def bndcfgs(s: State) -> Offence:
    if not _loads(s, _LOAD_BNDCFGS):
        return None
    value = s.field("guest_bndcfgs")
    return f"BNDCFGS={value:#x}" if value & 0xFFC else canonical(s, "BNDCFGS", value & ~0xFFF)


@book.rule("27.3.1.1", "S_CET must have no reserved bit, SSP must be aligned, and their addresses canonical")
def cet(s: State) -> Offence:
    if not _loads(s, _LOAD_CET):
        return None
    control, ssp = s.field("guest_s_cet"), s.field("guest_ssp")
    if control & 0x3C0 or control >> 10 & 3 == 3:
        return f"S_CET={control:#x}"
    if ssp & 3:
        return f"SSP={ssp:#x}"
    addresses = {"S_CET": control & ~0xFFF, "SSP": ssp, "SSP table": s.field("guest_ssp_table")}
    return each(addresses, lambda name: canonical(s, name, addresses[name]))


@book.rule("27.3.1.3", "the base of GDTR must be canonical")
def gdtr_canonical(s: State) -> Offence:
    return canonical(s, "GDTR.base", s.table("gdt")[0])


@book.rule("27.3.1.3", "the base of IDTR must be canonical")
def idtr_canonical(s: State) -> Offence:
    return canonical(s, "IDTR.base", s.table("idt")[0])


@book.rule("27.3.1.3", "bits 31:16 of the limits of GDTR and IDTR must be 0")
def table_limit(s: State) -> Offence:
    def test(name: str) -> Offence:
        limit = s.table(name)[1]
        return f"{name.upper()}R.limit={limit:#x}" if limit >> 16 else None

    return each(("gdt", "idt"), test)


@book.rule("27.3.1.4", "bits 63:32 of RIP must be 0 outside 64-bit mode")
def rip_high(s: State) -> Offence:
    rip = s.register("rip")
    if not rip >> 32 or (s.long and s.segment("cs").long):
        return None
    return f"RIP={rip:#x}"


@book.rule("27.3.1.4", "RIP must be canonical in 64-bit mode")
def rip_canonical(s: State) -> Offence:
    rip = s.register("rip")
    return canonical(s, "RIP", rip) if rip >> 32 and s.long and s.segment("cs").long else None


@book.rule("27.3.1.4", "bit 1 of RFLAGS must be 1, bits 63:22, 15, 5 and 3 must be 0")
def rflags_reserved(s: State) -> Offence:
    rflags = s.register("rflags")
    return f"RFLAGS={rflags:#x}" if rflags & _RFLAGS_RESERVED or not rflags & 2 else None


@book.rule("27.3.1.4", "RFLAGS.VM must be 0 in IA-32e mode and while CR0.PE is 0", mended=True)
def rflags_vm(s: State) -> Offence:
    if not s.vm86:
        return None
    rflags = s.register("rflags")
    if s.long:
        return f"RFLAGS={rflags:#x} in IA-32e mode"
    cr0 = s.register("cr0")
    return None if cr0 & CR0_PE else f"RFLAGS={rflags:#x}, CR0={cr0:#x}"


@book.rule("27.3.1.4", "RFLAGS.IF must be 1 if an external interrupt is injected")
def rflags_if(s: State) -> Offence:
    if not s.injected or s.injected >> 8 & 7:
        return None
    rflags = s.register("rflags")
    return None if rflags & RFLAGS_IF else f"RFLAGS={rflags:#x}, VM-entry interruption information={s.injected:#x}"
