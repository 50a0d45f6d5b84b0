"""Which event was being delivered, and which structure of the guest KVM met on the way.

The address to look at is not RIP: it is the pushed frame, the IDT, the TSS or a page table.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.abi.x86.intr_info import decode_event, describe_event
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.record import Cpu, Failure

_FRAME = 48  # SS, RSP, RFLAGS, CS, RIP, error code: the most that is pushed at once


class Delivery(Struct, frozen=True):
    """``structure``: stack frame | IDT | TSS | GDT | page tables | None. ``what`` says it in words."""

    event: str | None
    vector: int | None
    gpa: int | None
    gva: int | None
    structure: str | None
    what: str | None
    why: str


def delivery_of(failure: Failure, word: int | None, gpa: int | None, mode: Mode | None) -> Delivery:
    """Name the event in ``word``, and find which structure of the guest lies at ``gpa``."""
    event, vector = None, None
    if word is not None:
        event, vector = describe_event(word, "vmx"), decode_event(word, vendor="vmx").vector
    cpu = failure.cpu
    if cpu is None or failure.cpu_shared:
        return Delivery(event, vector, gpa, None, None, None, "the words name the address")
    structure, gva, why = _structure(cpu, mode, vector, gpa)
    if structure == "IDT" and vector is None and gva is not None:
        # AMD does not report the event; the entry that was read names it.
        vector = (gva - cpu.segments["idt"].base) // gate_size(mode)
        event = f"{MNEMONICS.get(vector, 'an interrupt')} (vector {vector}, from the IDT entry that was read)"
    what = {
        "stack frame": "the stack frame that the CPU was pushing",
        "IDT": "the IDT entry of this event",
        "TSS": "a field of the TSS",
        "GDT": "an entry of the GDT",
        "page tables": "the guest's page tables (the root in CR3)",
    }.get(structure or "")
    return Delivery(event, vector, gpa, gva, structure, what, why)


def gate_size(mode: Mode | None) -> int:
    """Bytes of one entry of the IDT: real mode's vectors have 4, long mode's gates 16."""
    if mode is None:
        return 8
    return {"real16": 4, "long64": 16, "compat16": 16, "compat32": 16}.get(mode.name, 8)


def _structure(cpu: Cpu, mode: Mode | None, vector: int | None, gpa: int | None) -> tuple[str | None, int | None, str]:
    """Compare the address with each structure: whole without paging, by page offset with it."""
    candidates = _candidates(cpu, mode, vector)
    if gpa is None:
        return None, None, "the words name no address"
    cr0, cr3 = cpu.get("cr0") or 0, cpu.get("cr3")
    paging = bool(cr0 >> 31)
    if paging and cr3 is not None and gpa >> 12 == cr3 >> 12 & (1 << 40) - 1:
        return "page tables", None, f"the address {gpa:#x} lies in the page that CR3 points to"
    same = [c for c in candidates if 0 <= gpa - c.start < c.size]
    # With paging only the page offset is certain; boot code maps its tables one to one.
    fits = same or [c for c in candidates if paging and c.size < 0x1000 and (gpa - c.start) & 0xFFF < c.size]
    if len(fits) != 1:
        both = " and ".join(c.name for c in fits)
        return None, None, f"the address fits {both}" if fits else "the address fits no structure shown"
    structure = fits[0]
    gva = gpa if same else structure.start + ((gpa - structure.start) & 0xFFF)
    called = {"stack frame": "the stack frame", "IDT": "the IDT"}.get(structure.name, f"the {structure.name}")
    how = "lies in" if same else "has the same offset in its page as"
    return structure.name, gva, f"{gpa:#x} {how} {called} at {structure.start:#x}"


class _Structure(Struct, frozen=True):
    name: str
    start: int  # linear
    size: int


def _candidates(cpu: Cpu, mode: Mode | None, vector: int | None) -> list[_Structure]:
    """What an event delivery touches."""
    structures = []
    long = mode is not None and mode.name in {"long64", "compat16", "compat32"}
    rsp, ss = cpu.get("rsp"), cpu.segments.get("ss")
    if rsp is not None:
        base = 0 if long or ss is None else ss.base
        frame = _FRAME if long else _FRAME // 2
        structures.append(_Structure("stack frame", base + rsp - frame, frame))
    idt = cpu.segments.get("idt")
    gate = gate_size(mode)
    if idt is not None and vector is not None:
        structures.append(_Structure("IDT", idt.base + vector * gate, gate))
    elif idt is not None:
        structures.append(_Structure("IDT", idt.base, min(idt.limit + 1, 256 * gate)))
    tr, gdt = cpu.segments.get("tr"), cpu.segments.get("gdt")
    if tr is not None and tr.base and mode and mode.name != "real16":
        structures.append(_Structure("TSS", tr.base, 104))
    if gdt is not None and gdt.base and mode and mode.name != "real16":
        structures.append(_Structure("GDT", gdt.base, min(gdt.limit, 0xFFFF) + 1))
    return structures
