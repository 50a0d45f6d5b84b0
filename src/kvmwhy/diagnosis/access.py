"""The memory access that KVM could not carry out: its kind, its address, and what lives there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from kvmwhy.arch.x86.operand import Operand
from kvmwhy.arch.x86.physical_map import Place
from kvmwhy.diagnosis.code_window import EMPTY, Window
from kvmwhy.diagnosis.emulation import Fetch

if TYPE_CHECKING:
    from kvmwhy.diagnosis.facts import Facts

_EVERY_PC: Final = 16 << 20  # so much RAM any PC has, where nothing says how much this one has

AccessKind = Literal["fetch", "read", "write", "event-delivery", "page-walk"]


class Access(Struct, frozen=True):
    """``what`` says what lives there. ``assumed``: if the linear address is mapped one to one."""

    kind: AccessKind
    gva: int | None
    gpa: int | None
    place: Place | None
    what: str | None
    why: str
    assumed: bool = False


def access_of(facts: Facts) -> Access | None:
    """Of suberrors 1 and 3, and of what a trace has in their place."""
    match facts.failure.suberror:
        case 1 | None if facts.vectoring:
            return _vectored_access(facts)
        case 1:
            return _emulation_access(facts)
        case 3:
            return _delivery_access(facts)
        case None if facts.failure.emulation:
            return _emulation_access(facts)
    return None


def rip_outside_ram(facts: Facts) -> bool:
    """What lives at RIP is no RAM: surely without paging, most likely if CR0 is not shown.

    Flash can be executed, where a machine maps it; a window of zeros or ff there is none.
    """
    if facts.paging:
        return False
    place = facts.place_of(facts.linear_rip)
    if place is None or place.ram is not False:
        return False
    return place.name not in {"flash", "reset-vector"} or facts.window in EMPTY


def nothing_at_rip(facts: Facts) -> bool:
    """The VMM read what memory looks like that is not there, and nothing says that RAM is there."""
    if facts.window not in EMPTY or facts.paging:
        return False
    place = facts.place_of(facts.linear_rip)
    if place is None and facts.linear_rip is not None and facts.linear_rip < _EVERY_PC:
        return False
    return place is None or place.ram is not True


def _vectored_access(facts: Facts) -> Access | None:
    """Suberror 1 while an event was being delivered: the words are about the delivery's access."""
    word_access = facts.word_access
    gpa = word_access.gpa if word_access else None
    place = facts.place_of(gpa)
    delivery = facts.delivery
    what = "; ".join(t for t in (delivery.what if delivery else None, place.text if place else None) if t) or None
    return Access(
        "event-delivery", delivery.gva if delivery else None, gpa, place, what, "an event was being delivered"
    )


def _emulation_access(facts: Facts) -> Access | None:
    word_access = facts.word_access
    straddles = straddling(facts)
    if straddles is None and (facts.fetch_failed or (word_access and word_access.kind == "fetch")):
        return _fetch(
            facts,
            word_access.gpa if word_access else None,
            word_access.why if word_access and word_access.kind == "fetch" else None,
        )
    if straddles is not None:
        fetched = word_access.gpa if word_access and word_access.kind == "fetch" else None
        beyond = fetched if fetched is not None and fetched & 0xFFF == 0 else None  # the next page's first byte
        return _placed(
            facts, "fetch", straddles, beyond, "the instruction goes on in the next page, and its bytes end here"
        )
    operand = _memory_operand(facts)
    gpa = word_access.gpa if word_access else None
    kind = word_access.kind if word_access else None
    if operand is None and kind is None:
        # Old kernels said nothing: the VMM's own view of the code must do.
        if facts.window == Window.UNREADABLE:
            walk = ", by the guest's own page tables" if facts.paging else ""
            return _fetch(facts, None, f"the VMM could not read the code at RIP either{walk}")
        if rip_outside_ram(facts) or nothing_at_rip(facts):
            return _fetch(facts, None, None)
        return None
    why = word_access.why if word_access and word_access.kind else "the instruction's own operand"
    if kind is None and operand is not None:
        saves = (facts.instruction.mnemonic or "").startswith(("xsave", "fxsave")) if facts.instruction else False
        kind = "write" if saves or operand.access in {"write", "cond-write"} else "read"
        if facts.words is None:
            if rip_outside_ram(facts):
                return _fetch(facts, None, None)
            if facts.verdict and facts.verdict.outcome == "handler":
                return None  # KVM can do this one: whatever failed, it was not this operand
    return _placed(facts, kind or "read", operand.linear if operand else None, gpa, why)


def _fetch(facts: Facts, gpa: int | None, why: str | None) -> Access:
    why = why or ("KVM could read no byte there" if facts.fetch == Fetch.NO_BYTES else "RIP points there")
    return _placed(facts, "fetch", facts.linear_rip, gpa, why)


def straddling(facts: Facts) -> int | None:
    """The address at which an instruction was cut off by the end of its page, if it was.

    In KVM's own bytes, or in those that the VMM could read: it prints ``??`` for what is not there.
    """
    insn = facts.reading.failure.insn if facts.reading else None
    emulation, code = facts.failure.emulation, facts.failure.code
    if insn is None and emulation is not None and facts.fetch == Fetch.FAULTED:
        insn = emulation.insn  # how far KVM had read; the exit itself was the fetch of more
    if insn is None and facts.instruction_source == "code" and code is not None and None in code.window:
        insn = code.at_rip()
    if not insn or facts.linear_rip is None or facts.instruction is None or facts.instruction.complete:
        return None
    end = facts.linear_rip + len(insn)
    return end if end & 0xFFF == 0 else None


def _memory_operand(facts: Facts) -> Operand | None:
    """The operand that was accessed: the one at the reported GPA, else the one spelt out."""
    candidates = [o for o in facts.operands if o.linear is not None]
    gpa = facts.word_access.gpa if facts.word_access else None
    if gpa is not None:
        near = [o for o in candidates if o.linear is not None and (gpa - o.linear) & 0xFFF < max(o.size, 1)]
        if near:
            return near[0]
    if len(candidates) > 1 and facts.paging is False:
        outside = [o for o in candidates if (p := facts.place_of(o.linear)) and p.ram is False]
        candidates = outside or candidates
    return candidates[0] if candidates else None


def _delivery_access(facts: Facts) -> Access | None:
    delivery, word_access = facts.delivery, facts.word_access
    if delivery is None or word_access is None:
        return None
    kind: AccessKind = (
        "page-walk" if word_access.kind == "page-walk" or delivery.structure == "page tables" else "event-delivery"
    )
    place = facts.place_of(delivery.gpa)
    what = "; ".join(text for text in (delivery.what, place.text if place else None) if text) or None
    return Access(kind, delivery.gva, delivery.gpa, place, what, delivery.why)


def _placed(facts: Facts, kind: AccessKind, gva: int | None, gpa: int | None, why: str) -> Access:
    if gpa is None and facts.paging is False:
        gpa = gva
    if gpa is None and gva is not None and gva < 1 << 32:
        # Firmware and boot code map low memory one to one. Whoever uses this says that it is assumed.
        place = facts.place_of(gva)
        if place and place.ram is False:
            return Access(kind, gva, None, place, f"{place.text}, if mapped one to one", why, assumed=True)
    place = facts.place_of(gpa)
    return Access(kind, gva, gpa, place, place.text if place else None, why)
