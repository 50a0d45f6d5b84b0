"""SDM vol. 3C, 27.2.2 to 27.2.4: the state that a VM exit would load. It is the host's kernel's."""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.vm_entry.rule import Book, Offence, canonical, each, is_pat
from kvmwhy.arch.x86.vm_entry.state import CR0_NE, CR0_PE, CR0_PG, CR4_PAE, CR4_VMXE, EFER_LMA, EFER_LME, State

book: Final = Book("SDM vol. 3C", "host")
_REGISTERS, _SEGMENTS = "27.2.2", "27.2.3"
_SELECTORS: Final = ("cs", "ss", "ds", "es", "fs", "gs", "tr")
_LOAD_PAT, _LOAD_EFER = 1 << 19, 1 << 21  # exit controls
_EFER_DEFINED: Final = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11


@book.rule(_REGISTERS, "the host's CR0 must have PE, NE and PG, and nothing above bit 31")
def host_cr0(s: State) -> Offence:
    cr0 = s.field("host_cr0")
    must = CR0_PE | CR0_NE | CR0_PG
    return f"host CR0={cr0:#x}" if ~cr0 & must or cr0 >> 32 else None


@book.rule(_REGISTERS, "the host's CR4 must have VMXE and PAE")
def host_cr4(s: State) -> Offence:
    cr4 = s.field("host_cr4")
    return f"host CR4={cr4:#x}" if ~cr4 & (CR4_VMXE | CR4_PAE) else None


@book.rule(_REGISTERS, "bits 63:52 of the host's CR3 must be 0")
def host_cr3(s: State) -> Offence:
    cr3 = s.field("host_cr3")
    return f"host CR3={cr3:#x}" if cr3 >> 52 else None


@book.rule(_REGISTERS, "the host's SYSENTER_ESP and SYSENTER_EIP must be canonical")
def host_sysenter(s: State) -> Offence:
    names = {"host SYSENTER_ESP": "host_sysenter_esp", "host SYSENTER_EIP": "host_sysenter_eip"}
    return each(names, lambda name: canonical(s, name, s.field(names[name])))


@book.rule(_REGISTERS, "each byte of the host's PAT must be a memory type (0, 1, 4 to 7)")
def host_pat(s: State) -> Offence:
    if not s.field("vm_exit_controls") & _LOAD_PAT:
        return None
    pat = s.field("host_pat")
    return None if is_pat(pat) else f"host PAT={pat:#x}"


@book.rule(_REGISTERS, "the host's EFER must have LMA and LME, and no reserved bits")
def host_efer(s: State) -> Offence:
    if not s.field("vm_exit_controls") & _LOAD_EFER:
        return None
    efer = s.field("host_efer")
    fits = not ~efer & (EFER_LMA | EFER_LME) and not efer & ~_EFER_DEFINED
    return None if fits else f"host EFER={efer:#x}"


@book.rule(_SEGMENTS, "RPL and TI of the host's selectors must be 0")
def host_selectors(s: State) -> Offence:
    def test(name: str) -> Offence:
        selector = s.field(f"host_{name}")
        return f"host {name.upper()}={selector:#06x}" if selector & 7 else None

    return each(_SELECTORS, test)


@book.rule(_SEGMENTS, "the host's CS and TR must not be null")
def host_null(s: State) -> Offence:
    return each(("cs", "tr"), lambda name: None if s.field(f"host_{name}") else f"host {name.upper()}=0x0000")


@book.rule(_SEGMENTS, "the bases of the host's FS, GS, GDTR, IDTR and TR must be canonical")
def host_bases(s: State) -> Offence:
    names = ("fs", "gs", "gdtr", "idtr", "tr")
    return each(names, lambda name: canonical(s, f"host {name.upper()}.base", s.field(f"host_{name}_base")))
