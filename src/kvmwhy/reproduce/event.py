"""The event whose delivery failed, as KVM_SET_VCPU_EVENTS takes it."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.intr_info import EXTERNAL_INTERRUPT, HARDWARE_EXCEPTION, NMI, decode_event
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.machine.x86.state import Events

_WITH_CODE: Final = {8, 10, 11, 12, 13, 14, 17, 21, 29, 30}
_PE: Final = 1
_NMI, _UD = 2, 6


def raised_by(code: bytes) -> int | None:
    """The vector, if the instruction at RIP raises an event by itself: INT3, INT n, INTO, INT1, UD2."""
    if code[:1] == b"\xcd":
        return code[1] if len(code) > 1 else None
    return {b"\xcc": 3, b"\xce": 4, b"\xf1": 1}.get(code[:1], _UD if code[:2] == b"\x0f\x0b" else None)


def event_of(facts: Facts, code: bytes) -> tuple[Events | None, str | None]:
    """What to inject before the guest runs, and what had to be assumed. (None, None): its own code raises it."""
    word = _word(facts)
    vector = facts.delivery.vector if facts.delivery else None
    if word is None:
        if raised_by(code) is not None:
            return None, None
        if vector is None:
            return _exception(facts, _UD), "the report does not name the event: #UD is delivered instead"
        if vector == _NMI:
            return Events(nmi_injected=1), None
        if vector < 32:
            return _exception(facts, vector), None
        return Events(interrupt_injected=1, interrupt_nr=vector), None
    event = decode_event(word, vendor="vmx")
    if event.type == EXTERNAL_INTERRUPT:
        return Events(interrupt_injected=1, interrupt_nr=event.vector), None
    if event.type == NMI:
        return Events(nmi_injected=1), None
    if event.type == HARDWARE_EXCEPTION and event.vector < 32:
        return _exception(facts, event.vector, with_code=event.has_error_code), None
    if raised_by(code) is not None:
        return None, None
    return Events(interrupt_injected=1, interrupt_nr=event.vector, interrupt_soft=1), None


def _word(facts: Facts) -> int | None:
    """Interruption information. AMD reports none for suberror 3."""
    if facts.vectoring is not None:
        return facts.vectoring
    data = facts.failure.data
    if facts.failure.suberror == 3 and facts.vendor.vendor == "vmx" and data:
        return data[0]
    return None


def _exception(facts: Facts, vector: int, *, with_code: bool | None = None) -> Events:
    cpu = facts.failure.cpu
    protected = bool(cpu and (cpu.get("cr0") or 0) & _PE)
    has = with_code if with_code is not None else vector in _WITH_CODE and protected
    return Events(
        exception_injected=1,
        exception_nr=vector,
        exception_has_error_code=int(has),
        exception_error_code=(facts.words.error_code if facts.words and facts.words.intr_info >> 31 else 0)
        if has
        else 0,
    )
