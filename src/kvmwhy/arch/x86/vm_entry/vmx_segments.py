"""SDM vol. 3C, 27.3.1.2: the guest's segment registers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kvmwhy.arch.x86.vm_entry.rule import Book, Offence, canonical, each
from kvmwhy.arch.x86.vm_entry.state import CODE_AND_DATA, CR0_PE, Loaded, State

book: Final = Book("SDM vol. 3C", "guest")
_SECTION: Final = "27.3.1.2"
_DATA: Final = ("ds", "es", "fs", "gs")
_ALL: Final = (*CODE_AND_DATA, "tr", "ldt")
_TI: Final = 1 << 2
_VM86_RIGHTS: Final = 0xF3
_CODE_TYPES: Final = (9, 11, 13, 15)


def _checked(s: State, names: tuple[str, ...]) -> Iterator[str]:
    """Those that are looked at one by one: in virtual-8086 mode only LDTR and TR, which other rules are for."""
    return iter(() if s.vm86 else names)


def _counts(segment: Loaded) -> bool:
    """CS and TR are always looked at, the others if they are usable."""
    return segment.name in {"CS", "TR"} or segment.usable


def _names(s: State) -> tuple[str, ...]:
    return ("tr", "ldt") if s.vm86 else _ALL


@book.rule(_SECTION, "the TI flag of TR's selector must be 0", mended=True)
def tr_ti(s: State) -> Offence:
    tr = s.segment("tr")
    return f"TR={tr.selector:#06x}" if tr.selector & _TI else None


@book.rule(_SECTION, "the TI flag of LDTR's selector must be 0 if LDTR is usable", mended=True)
def ldtr_ti(s: State) -> Offence:
    ldtr = s.segment("ldt")
    return f"LDTR={ldtr.selector:#06x}" if ldtr.usable and ldtr.selector & _TI else None


@book.rule(_SECTION, "without unrestricted guest, the RPLs of SS and CS must be the same", mended=True)
def ss_rpl(s: State) -> Offence:
    if s.unrestricted or s.vm86:
        return None
    cs, ss = s.segment("cs"), s.segment("ss")
    return None if cs.rpl == ss.rpl else f"CS={cs.selector:#06x}, SS={ss.selector:#06x}"


@book.rule(_SECTION, "in virtual-8086 mode a segment's base must be its selector times 16", mended=True)
def vm86_base(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        if segment.base == segment.selector << 4:
            return None
        return f"{segment.name}={segment.selector:#06x} with base {segment.base:#x}"

    return each(CODE_AND_DATA, test) if s.vm86 else None


@book.rule(_SECTION, "in virtual-8086 mode a segment's limit must be 0xffff", mended=True)
def vm86_limit(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        return None if segment.limit == 0xFFFF else f"{segment.name}.limit={segment.limit:#x}"

    return each(CODE_AND_DATA, test) if s.vm86 else None


@book.rule(_SECTION, "in virtual-8086 mode a segment's access rights must be 0xf3", mended=True)
def vm86_access(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        return None if segment.rights == _VM86_RIGHTS else f"{segment.name} access rights={segment.rights:#x}"

    return each(CODE_AND_DATA, test) if s.vm86 else None


@book.rule(_SECTION, "the bases of FS, GS, TR and, if usable, LDTR must be canonical")
def base_canonical(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        if name == "ldt" and not segment.usable:
            return None
        return canonical(s, f"{segment.name}.base", segment.base)

    return each(("fs", "gs", "tr", "ldt"), test)


@book.rule(_SECTION, "bits 63:32 of the bases of CS and of usable SS, DS and ES must be 0")
def segment_base(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        return f"{segment.name}.base={segment.base:#x}" if _counts(segment) and segment.base >> 32 else None

    return each(_checked(s, ("cs", "ss", "ds", "es")), test)


@book.rule(
    _SECTION, "CS must be an accessed code segment (or, with unrestricted guest, writable data of type 3)", mended=True
)
def cs_type(s: State) -> Offence:
    def test(name: str) -> Offence:
        cs = s.segment(name)
        return None if cs.type in _CODE_TYPES or (s.unrestricted and cs.type == 3) else f"CS.type={cs.type}"

    return each(_checked(s, ("cs",)), test)


@book.rule(_SECTION, "SS, if usable, must be an accessed, writable data segment (type 3 or 7)", mended=True)
def ss_type(s: State) -> Offence:
    def test(name: str) -> Offence:
        ss = s.segment(name)
        return f"SS.type={ss.type}" if ss.usable and ss.type not in {3, 7} else None

    return each(_checked(s, ("ss",)), test)


@book.rule(_SECTION, "DS, ES, FS and GS, if usable, must be accessed, and readable if they are code")
def data_type(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        if not segment.usable or (segment.type & 1 and segment.type & 0b1010 != 0b1000):
            return None
        return f"{segment.name}.type={segment.type}"

    return each(_checked(s, _DATA), test)


@book.rule(_SECTION, "S must be 1 of code and data segments, 0 of TR and LDTR", mended=True)
def segment_s(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        want = name not in {"tr", "ldt"}
        return f"{segment.name}.S={segment.s}" if _counts(segment) and segment.s != want else None

    return each(_names(s), test)


@book.rule(_SECTION, "CS.DPL must suit SS.DPL: the same, not above it if conforming, 0 if CS is data", mended=True)
def cs_dpl(s: State) -> Offence:
    if s.vm86:
        return None
    cs = s.segment("cs")
    if cs.type == 3:
        return f"CS.DPL={cs.dpl}, CS.type=3" if cs.dpl else None
    if cs.type not in _CODE_TYPES:
        return None
    ss = s.segment("ss")
    fits = cs.dpl == ss.dpl if cs.type in {9, 11} else cs.dpl <= ss.dpl
    return None if fits else f"CS.DPL={cs.dpl}, CS.type={cs.type}, SS.DPL={ss.dpl}"


@book.rule(
    _SECTION,
    "SS.DPL must be 0 while CR0.PE is 0 or CS is data, and without unrestricted guest equal to SS.RPL",
    mended=True,
)
def ss_dpl(s: State) -> Offence:
    if s.vm86:
        return None
    ss = s.segment("ss")
    if not s.unrestricted and ss.dpl != ss.rpl:
        return f"SS.DPL={ss.dpl}, SS={ss.selector:#06x}"
    if not ss.dpl:
        return None
    if s.segment("cs").type == 3:
        return f"SS.DPL={ss.dpl}, CS.type=3"
    cr0 = s.register("cr0")
    return None if cr0 & CR0_PE else f"SS.DPL={ss.dpl}, CR0={cr0:#x}"


@book.rule(
    _SECTION,
    "without unrestricted guest, the DPL of data and non-conforming code must not be below the RPL",
    mended=True,
)
def data_dpl(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        if not segment.usable or segment.type > 11 or segment.dpl >= segment.rpl:
            return None
        return f"{segment.name}.DPL={segment.dpl}, {segment.name}={segment.selector:#06x}"

    return None if s.unrestricted else each(_checked(s, _DATA), test)


@book.rule(_SECTION, "CS, TR and every usable segment must be present", mended=True)
def segment_present(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        return f"{segment.name}.P=0" if _counts(segment) and not segment.present else None

    # A VMM's dump shows an unusable TR as one that is not present; that is another rule.
    return each(_names(s) if s.dumped else (name for name in _names(s) if name != "tr"), test)


@book.rule(_SECTION, "bits 11:8 and 31:17 of the access rights must be 0")
def segment_reserved(s: State) -> Offence:
    def test(name: str) -> Offence:
        rights = s.field(f"guest_{name}_ar_bytes")
        if not rights & 0xFFFE_0F00 or not _counts(s.segment(name)):
            return None
        return f"{name.upper()} access rights={rights:#x}"

    return each(_names(s), test)


@book.rule(_SECTION, "CS.D must be 0 if CS.L is 1 in IA-32e mode")
def cs_l_d(s: State) -> Offence:
    if s.vm86:
        return None
    cs = s.segment("cs")
    return f"CS access rights={cs.rights:#x}" if cs.long and cs.big and s.long else None


@book.rule(
    _SECTION,
    "G must be 0 if any of the limit's bits 11:0 is 0, and 1 if any of its bits 31:20 is 1",
)
def segment_granularity(s: State) -> Offence:
    def test(name: str) -> Offence:
        segment = s.segment(name)
        wrong = segment.limit & 0xFFF != 0xFFF if segment.granular else segment.limit >> 20
        if not wrong or not _counts(segment):
            return None
        return f"{segment.name}.limit={segment.limit:#x} with G={segment.granular}"

    return each(_names(s), test)


@book.rule(_SECTION, "TR must be a busy TSS: type 11, or outside IA-32e mode type 3", mended=True)
def tr_type(s: State) -> Offence:
    tr = s.segment("tr")
    if tr.type == 11 or (tr.type == 3 and not s.long):
        return None
    return f"TR.type={tr.type}"


@book.rule(_SECTION, "TR must be usable", mended=True)
def tr_usable(s: State) -> Offence:
    tr = s.segment("tr")
    return None if tr.usable else f"TR access rights={tr.rights:#x}"


@book.rule(_SECTION, "LDTR, if usable, must have type 2", mended=True)
def ldtr_type(s: State) -> Offence:
    ldtr = s.segment("ldt")
    return f"LDTR.type={ldtr.type}" if ldtr.usable and ldtr.type != 2 else None
