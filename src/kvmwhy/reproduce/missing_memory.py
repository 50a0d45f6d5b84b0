"""What in the guest's memory was not there: the one question that a plan has to answer first.

Reads the facts of a failure whose registers are whole; nothing here touches memory.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.arch.x86.operand import Operand
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Cpu
from kvmwhy.reproduce.event import raised_by
from kvmwhy.reproduce.tables import LEVELS, Leaf, entry_size, paging_of

Kind = Literal["nothing", "fetch", "operand", "walk", "IDT", "stack frame", "TSS", "GDT"]

_SMAP, _SMEP, _AC = 1 << 21, 1 << 20, 1 << 18
_FRAME: Final = 8
_APIC_ACCESS: Final = 44


class Aim(NamedTuple):
    """``linear`` is where the missing memory starts, ``gpa`` where that lies if the evidence names it.

    ``known``: KVM had met the page before. ``readonly``: it is there, but cannot be written.
    ``rights``: what the guest's page tables allow there, where a word says so.
    """

    kind: Kind
    linear: int = 0
    size: int = 1
    gpa: int | None = None
    known: bool = False
    readonly: bool = False
    rights: Leaf | None = None
    assumed: str | None = None


NOTHING: Final = Aim("nothing")


def aim(facts: Facts) -> Aim:
    """Of suberror 1 and 3; any other failure has no memory that is missing."""
    if facts.failure.suberror == 3 or facts.vectoring:
        return _delivery(facts)
    if not facts.emulated or not about_memory(facts):
        return NOTHING
    access, word_access = facts.access, facts.word_access
    if word_access is not None and word_access.kind == "page-walk":
        return _walk(facts, word_access.gpa)
    if access is None:
        return _without_words(facts)
    if access.kind == "fetch":
        linear = access.gva if access.gva is not None else facts.linear_rip
        if linear is None:
            return NOTHING
        gpa = (
            access.gpa
            if access.gpa is not None
            else word_access.gpa
            if word_access and word_access.kind == "fetch"
            else None
        )
        return Aim("fetch", linear, 1, gpa, _known(facts), rights=_rights(facts))
    if access.gva is None or (access.gpa is None and access.place is not None and access.place.ram):
        return NOTHING
    operand = next((o for o in facts.operands if o.linear == access.gva), None)
    return _operand(facts, access.gva, operand, access.gpa)


def _without_words(facts: Facts) -> Aim:
    """Kernels before 5.16 report none: an instruction cut off by a page that is not there, or a later handler."""
    instruction, linear = facts.instruction, facts.linear_rip
    if facts.words is not None or instruction is None:
        return NOTHING
    if (vector := raised_by(instruction.bytes)) is not None:
        why = "this instruction raises an event itself, so the delivery failed: the IDT is taken to have had no memory"
        return Aim("IDT", _gate(facts, vector), assumed=why)
    if not instruction.complete and facts.failure.code and linear is not None:
        end = linear + len(facts.failure.code.at_rip())
        return NOTHING if end & 0xFFF else Aim("fetch", end)
    operands = [o for o in facts.operands if o.linear is not None]
    judged = facts.verdict
    if not operands or judged is None or judged.outcome != "handler":
        return NOTHING
    note: str | None = None
    if judged.since:
        note = "its handler is younger than some kernels: the operand is taken to have had no memory"
    elif facts.paging:
        note = "a KVM that runs on hardware emulates paged code for its operand: that is taken to have had no memory"
    return _operand(facts, operands[0].linear or 0, operands[0], None)._replace(assumed=note) if note else NOTHING


def about_memory(facts: Facts) -> bool:
    """The exit was one that an access to no memory causes, or the words do not tell."""
    words, vendor = facts.words, facts.vendor.vendor
    if words is None:
        return True
    if words.no_exit_yet:
        return False
    if vendor == "vmx":
        basic = words.reason & 0xFFFF
        if words.reason & vmx.ENTRY_FAILURE:
            return False
        page_fault = basic == vmx.EXCEPTION_NMI and words.intr_info & 0x7FF == 0x30E
        return basic in {vmx.EPT_VIOLATION, vmx.EPT_MISCONFIG, _APIC_ACCESS} or page_fault
    return words.reason in {svm.NPF, svm.PF} if vendor == "svm" else True


def _operand(facts: Facts, linear: int, operand: Operand | None, gpa: int | None) -> Aim:
    size = max(operand.size if operand else 0, 1)
    if operand is not None and not operand.size:
        size = 0x200  # XSAVE and the like: at least the legacy area
    known, readonly = _known(facts), _readonly(facts)
    if gpa is not None and (gpa - linear) & 0xFFF and not gpa & 0xFFF:
        # It begins in RAM and runs out of it: the page behind is the one.
        linear = (linear & -0x1000) + 0x1000
    elif gpa is not None:
        gpa = (gpa & -0x1000) | linear & 0xFFF
    return Aim("operand", linear, size, gpa, known, readonly, _rights(facts))


def _known(facts: Facts) -> bool:
    """KVM had cached the page as MMIO: reason 0x31 (VMX), or a reserved bit in the page fault (SVM)."""
    words, data = facts.words, facts.failure.data
    if facts.failure.suberror == 3 and facts.vendor.vendor == "vmx":
        return len(data) > 1 and data[1] == vmx.EPT_MISCONFIG
    if words is None:
        return False
    if facts.vendor.vendor == "vmx":
        return words.reason == vmx.EPT_MISCONFIG
    return facts.vendor.vendor == "svm" and words.reason == svm.NPF and bool(words.info1 & 8)


def _readonly(facts: Facts) -> bool:
    """A write to a page that could be read: bits 1 and 3 of the qualification, 1 and 0 of an error code."""
    words = facts.words
    if words is None:
        return False
    if facts.vendor.vendor == "vmx":
        return words.reason == vmx.EPT_VIOLATION and words.info1 & 0xA == 0xA
    svm_fault = facts.vendor.vendor == "svm" and words.reason == svm.NPF
    return svm_fault and words.info1 & 0xB == 3


def _qualification(facts: Facts) -> int | None:
    """Of an EPT violation that this record is about."""
    words, data = facts.words, facts.failure.data
    if facts.vendor.vendor != "vmx":
        return None
    if facts.failure.suberror == 3:
        return data[2] if len(data) > 2 and data[1] == vmx.EPT_VIOLATION else None
    return words.info1 if words is not None and words.reason == vmx.EPT_VIOLATION else None


def _rights(facts: Facts) -> Leaf | None:
    """Bits 9 to 11 of an EPT qualification: what the guest's page tables allow (SDM vol. 3C, table 28-7)."""
    q = _qualification(facts)
    if q is None:
        return None
    if q & 0x180 != 0x180 or not q & 0xE00:
        return None
    user, write, execute = bool(q & 0x200), bool(q & 0x400), not q & 0x800
    cpu = facts.failure.cpu or Cpu()
    cr4, flags = cpu.get("cr4") or 0, cpu.get("rflags") or 0
    forbidden = _SMEP if q & 4 else _SMAP
    if user and facts.cpl != 3 and cr4 & forbidden and not (q & 3 and flags & _AC):
        user = False
    return Leaf(0, user or facts.cpl == 3, write or bool(q & 2), execute or bool(q & 4))


# -- page tables ---------------------------------------------------------------------------------------


def _paging(facts: Facts) -> str:
    cpu = facts.failure.cpu or Cpu()
    return paging_of(cpu.get("cr0") or 0, cpu.get("cr4") or 0, cpu.get("efer") or 0)


def _fit(facts: Facts, linear: int, gpa: int | None) -> int:
    """The deepest level of the walk for ``linear`` that reads its table at this offset; -1 if none does."""
    cpu = facts.failure.cpu or Cpu()
    if gpa is None:
        return -1
    paging = paging_of(cpu.get("cr0") or 0, cpu.get("cr4") or 0, cpu.get("efer") or 0)
    index = (gpa & 0xFFF) // entry_size(paging)
    return max((n for n, level in enumerate(LEVELS[paging]) if level.index_of(linear) == index), default=-1)


def _walk(facts: Facts, gpa: int | None) -> Aim:
    """A page table is not in memory: the operand's if KVM could read the instruction, else the code's."""
    operands = [o.linear for o in facts.operands if o.linear is not None]
    linear = facts.linear_rip or 0
    if not facts.fetch_failed and operands:
        linear = max(operands, key=lambda operand: _fit(facts, operand, gpa))
    known = _known(facts)
    if gpa is None:
        return Aim(
            "walk", linear, gpa=None, known=known, assumed="the report does not say which page table was not there"
        )
    return Aim("walk", linear, gpa=gpa, known=known)


# -- event delivery ------------------------------------------------------------------------------------


def _delivery(facts: Facts) -> Aim:
    delivery, word_access = facts.delivery, facts.word_access
    gpa = delivery.gpa if delivery else None
    walk = (word_access is not None and word_access.kind == "page-walk") or (
        delivery and delivery.structure == "page tables"
    )
    if delivery is None:
        return NOTHING
    if walk and _paging(facts) != "none":
        return _delivery_walk(facts, gpa)
    frame = _frame(facts)
    idt = _idt_entry(facts)
    match delivery.structure:
        case "IDT" | "TSS" | "GDT" | "stack frame" as kind if delivery.gva is not None:
            return Aim(kind, delivery.gva, gpa=gpa, known=_known(facts), rights=_rights(facts))
    writes = _writes(facts)
    kind, linear = ("IDT", idt) if writes is False else ("stack frame", frame)
    if gpa is not None and _paging(facts) == "none":
        linear = gpa
    else:
        linear = linear if gpa is None else (linear & -0x1000) | gpa & 0xFFF
    why = "the address fits no table that the report shows" if gpa is not None else "the report names no address"
    place = "the IDT" if kind == "IDT" else "the stack"
    note = f"{why}; {place} is taken as what lies there"
    return Aim(kind, linear, gpa=gpa, known=_known(facts), rights=_rights(facts), assumed=note)


def _writes(facts: Facts) -> bool | None:
    """Whether the access was a write, where a word says so."""
    data = facts.failure.data
    if facts.failure.suberror != 3:
        words = facts.words
        return None if words is None else bool(words.info1 & 2)
    if len(data) < 3 or (facts.vendor.vendor == "vmx" and data[1] & 0xFFFF != vmx.EPT_VIOLATION):
        return None
    return bool(data[2] & 2)


def _delivery_walk(facts: Facts, gpa: int | None) -> Aim:
    """Of the structures that a delivery touches, the one whose walk reads a table at this offset."""
    cpu = facts.failure.cpu or Cpu()
    tables = [cpu.segments[name].base for name in ("tr", "gdt")]
    candidates = [_idt_entry(facts), _frame(facts), *tables]
    best = max(candidates, key=lambda linear: _fit(facts, linear, gpa))
    note = None if _fit(facts, best, gpa) >= 0 else "no walk of this delivery reads a table at that offset"
    return Aim("walk", best, gpa=gpa, assumed=note)


def _frame(facts: Facts) -> int:
    """The highest piece of the frame: what is pushed first."""
    cpu = facts.failure.cpu or Cpu()
    base = 0 if facts.mode and facts.mode.bitness == 64 else cpu.segments["ss"].base
    mask = (1 << 64) - 1 if facts.mode and facts.mode.bitness == 64 else 0xFFFF_FFFF
    return base + (cpu.get("rsp") or 0) - _FRAME & mask


def _idt_entry(facts: Facts) -> int:
    known = facts.delivery is not None and facts.delivery.vector is not None
    return _gate(facts, facts.delivery.vector or 0 if known and facts.delivery else 0)


def _gate(facts: Facts, vector: int) -> int:
    cpu = facts.failure.cpu or Cpu()
    size = 4 if facts.mode and facts.mode.name == "real16" else 16 if (cpu.get("efer") or 0) & 1 << 10 else 8
    return cpu.segments["idt"].base + vector * size
