"""Suberror 3, and an emulation in the middle of a delivery: an event could not be delivered."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.answer import Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import article, hexadecimal

_STRUCTURES: Final = {
    "stack frame": "its stack frame lies",
    "IDT": "its entry of the IDT lies",
    "TSS": "what it needs of the TSS lies",
    "GDT": "its segment's entry of the GDT lies",
    "page tables": "the page tables lie",
}


def event_delivery(facts: Facts) -> Mechanism | None:
    """KVM_INTERNAL_ERROR_DELIVERY_EV: vmx_handle_exit, and since 6.14 kvm_prepare_event_vectoring_exit."""
    if facts.failure.suberror != 3:
        return None
    return _answer(facts, [Proof("suberror 3 says that an event was being delivered", facts.at("suberror"))])


def vectored(facts: Facts) -> Mechanism:
    """Suberror 1 with valid vectoring information: KVM emulated what was no instruction's access."""
    word = facts.vectoring or 0
    name = "info2" if facts.vendor.vendor == "vmx" else "intr_info"
    proof = Proof(f"the vectoring information {word:#x} is valid: no instruction is at fault", facts.at_word(name))
    return _answer(facts, [proof])


def _answer(facts: Facts, for_: list[Proof]) -> Mechanism:
    delivery, access = facts.delivery, facts.access
    against = []
    event = delivery.event if delivery and delivery.event else None
    name = (event or "an event").split(" (", maxsplit=1)[0].split(",", maxsplit=1)[0]
    text = f"{name[0].upper()}{name[1:]} could not be delivered"
    of_delivery = facts.failure.suberror == 3
    if event:
        name_of_word = "info2" if facts.vendor.vendor == "vmx" else "intr_info"
        word = facts.at("data[0]") if of_delivery else facts.at_word(name_of_word)
        for_.append(Proof(f"the event in delivery was {event}", word))
    place = access.place if access else None
    structure = _STRUCTURES.get((delivery.structure or "") if delivery else "")
    if access is not None and access.gpa is not None:
        word = facts.at("data[3]") if of_delivery else facts.at_word("info2")
        for_.append(Proof(f"the delivery touched guest physical address {hexadecimal(access.gpa)}", word))
        where = f", {article(place.text)}" if place and place.ram is False else ""
        what = structure or "what it touched is"
        text += f": {what} at {hexadecimal(access.gpa)}{where}"
        if place and place.ram:
            against.append(Proof(f"{hexadecimal(access.gpa)} is {article(place.text)}, which is normally RAM"))
    elif facts.explained and facts.explained.name:
        text += f": the CPU left the guest with {facts.explained.name} in the middle of it"
    if facts.failure.silent:
        text += "; KVM gave the guest #UD for it, and told no VMM"
    return Mechanism("event-delivery", f"{text}.", "certain", tuple(for_), tuple(against))
