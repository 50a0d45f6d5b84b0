"""How a guest came to a triple fault: the first exception, what came in its place, and which structure was missing.

From what the evidence shows of exceptions: QEMU's ``-d int``, a trace, or the CPU's tables as they were read when it
happened. Where only the IDT's limit is known, that alone may tell.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.abi.x86.exceptions import MNEMONICS, PUSHES_ERROR_CODE, describe_vector
from kvmwhy.arch.x86.exception_delivery import DF, GP, NP, PF, SS, TS, chain, is_shutdown, undeliverable
from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.arch.x86.paging import Read
from kvmwhy.record import Cpu, Event, Failure, Fault

_MOST: Final = 4
_VALID, _TYPE, _EXCEPTION, _HAS_CODE = 1 << 31, 7 << 8, 3 << 8, 1 << 11
_BY_CODE: Final = frozenset({4 << 8, 5 << 8, 6 << 8})  # an instruction that raises it
_EXCEPTIONS: Final = 32  # vectors below are of exceptions
_EXCEPTION_NMI: Final = 0  # VMX' exit reason
_SVM_EXCEPTIONS: Final = range(0x40, 0x60)
_SVM_SHUTDOWN: Final = 0x7F
_VMX_TRIPLE_FAULT: Final = 2
_NEAR: Final = 4096  # bytes below RSP that a push, or a few, may touch
_U64: Final = (1 << 64) - 1
_SMEP, _NXE = 20, 11  # bits of CR4 and EFER


class Chain(NamedTuple):
    """``faults``, oldest first. ``is_whole``: the last one is the double fault, or what had to become it."""

    faults: tuple[Fault, ...]
    is_whole: bool


def chain_of(failure: Failure) -> Chain:
    """The exceptions that are shown, with what the registers add. Empty if there are none."""
    faults = failure.faults or tuple(_of_trace(failure.trace)[-_MOST:])
    cpu = failure.cpu
    if cpu is not None and len(faults) == 1 and is_shutdown(rest := chain(faults[0], cpu, None)):
        faults = rest
    elif cpu is not None:
        faults = tuple(_with_tables(fault, cpu) for fault in faults)
    whole = bool(faults) and (
        faults[-1].vector == DF or (len(faults) > 1 and faults[-1].vector in {GP, NP, SS, TS, PF})
    )
    return Chain(faults, whole)


def with_faults(failure: Failure, read: Read, syntax: Syntax = "intel") -> Failure:
    """The record of a triple fault with what the guest's tables and its stack show of it."""
    from kvmwhy.arch.x86.shutdown import faults_by_tables, first_exception
    from kvmwhy.diagnosis.facts import gather

    cpu = failure.cpu
    if cpu is None:
        return failure
    facts = gather(failure, syntax=syntax)
    shown = chain_of(failure).faults
    mnemonic = facts.instruction.mnemonic if facts.instruction else None
    first = shown[0] if shown else first_exception(cpu, read, facts.linear_rip, mnemonic, facts.operands)
    more: Failure = replace(failure, faults=faults_by_tables(cpu, read, first))
    return more


def _with_tables(fault: Fault, cpu: Cpu) -> Fault:
    """Why it could not be delivered, if the limits of the tables say so."""
    if fault.broken is not None or (broken := undeliverable(fault.vector, cpu, None)) is None:
        return fault
    with_it: Fault = replace(fault, broken=broken.what, at=broken.at, value=broken.value)
    return with_it


def _of_trace(events: tuple[Event, ...]) -> list[Fault]:
    """Exceptions that left the guest, or that KVM put into it, at the end of a trace; the same one comes once.

    While nothing is delivered RIP stays where it is: what was met elsewhere the guest survived.
    """
    faults: list[Fault] = []
    rip: int | None = None
    for event in events:
        fault = None
        if event.name == "kvm_exit":
            rip = _number(event, "guest_rip")
            fault = _of_exit(event)
            if fault is None and not _is_end(event):
                faults = []  # the guest ran, or KVM did something else for it
        elif event.name == "kvm_inj_exception":
            fault = _injected(event, rip)
        if faults and rip is not None and faults[-1].rip not in {rip, None}:
            faults = []
        if fault and (not faults or (faults[-1].vector, faults[-1].error_code) != (fault.vector, fault.error_code)):
            faults.append(fault)
    return faults


def _of_exit(event: Event) -> Fault | None:
    """An exception that was intercepted, or that was being delivered when the vCPU left its guest."""
    reason, info = _number(event, "exit_reason"), _number(event, "intr_info") or 0
    rip, code = _number(event, "guest_rip"), _number(event, "error_code")
    if event.fields.get("isa") == 2:
        info1, info2 = _number(event, "info1"), _number(event, "info2")
        if reason is not None and reason in _SVM_EXCEPTIONS:
            vector = reason - _SVM_EXCEPTIONS.start
            has_code = vector in PUSHES_ERROR_CODE
            return _fault(vector, info1 if has_code else None, info2 if vector == PF else None, rip)
        if reason != _SVM_SHUTDOWN:
            return None
    elif reason != _EXCEPTION_NMI:
        return None
    vector = info & 0xFF
    by_code = info & _TYPE in _BY_CODE and vector < _EXCEPTIONS  # INT3, INTO, INT1
    if not info & _VALID or not (info & _TYPE == _EXCEPTION or by_code):
        return None
    address = _number(event, "info1") if vector == PF and event.fields.get("isa") != 2 else None
    return _fault(vector, code if info & _HAS_CODE else None, address, rip)


def _injected(event: Event, rip: int | None) -> Fault | None:
    vector = _number(event, "exception")
    if vector is None:
        return None
    has_code = vector in PUSHES_ERROR_CODE and bool(event.fields.get("has_error", 1))  # up to 5.17 it prints 0 for none
    return _fault(vector, _number(event, "error_code") if has_code else None, None, rip)


def _fault(vector: int, code: int | None, cr2: int | None, rip: int | None) -> Fault:
    return Fault(vector=vector, error_code=code, cr2=cr2, rip=rip, by="trace")


def _is_end(event: Event) -> bool:
    reason = _number(event, "exit_reason")
    return reason == (_SVM_SHUTDOWN if event.fields.get("isa") == 2 else _VMX_TRIPLE_FAULT)


def _number(event: Event, name: str) -> int | None:
    value = event.fields.get(name)
    return value if isinstance(value, int) else None


# -- in words --------------------------------------------------------------------------------------

_ORDER: Final = ("First", "Then", "Then", "Then")
_STRUCTURES: Final = {
    "idt": "IDT", "gate": "IDT", "handler": "IDT", "gdt": "GDT", "not": "GDT", "code": "GDT", "tss": "TSS",
    "stack": "stack",
}  # fmt: skip
_BROKEN: Final = {
    "idt-limit": "the IDT at {at} ends before its gate: its limit is {value}",
    "idt-unmapped": "its gate at {at} is not mapped",
    "gate-type": "its gate at {at} is no interrupt or trap gate: it holds {value}",
    "gate-not-present": "its gate at {at} is not present: it holds {value}",
    "gate-null-selector": "its gate names no code segment: the selector is {value}",
    "gdt-limit": "its gate names the code segment {at}, and the GDT ends before that: its limit is {value}",
    "gdt-unmapped": "the descriptor of the code segment that its gate names, at {at}, is not mapped",
    "not-a-code-segment": "its gate names the segment {at}, which is no code segment: its descriptor is {value}",
    "code-segment-not-present": "its gate names the code segment {at}, which is not present: its descriptor is {value}",
    "not-a-64-bit-segment": "its gate names the code segment {at}, which has no 64-bit code: its descriptor is {value}",
    "handler-not-canonical": "its gate at {at} leads to {value}, which is no canonical address",
    "tss-limit": "the TSS at {at} ends before the stack pointer that is needed: its limit is {value}",
    "tss-unmapped": "the TSS at {at} is not mapped",
    "stack-not-canonical": "the stack at {at} is not at a canonical address",
    "stack-limit": "the stack at {at} is too small to push what the CPU pushes",
    "stack-unmapped": "the stack at {at} is not mapped",
    "stack-read-only": "the stack at {at} may not be written",
}  # fmt: skip


def sentences(failure: Failure) -> tuple[str, ...]:
    """What happened, an exception a sentence; what could have stopped it."""
    chain = chain_of(failure)
    if len(chain.faults) == 1 and chain.faults[0].vector == DF and chain.faults[0].by == "tables":
        return (
            f"The double fault, with which a CPU answers an exception that it cannot deliver{_why(chain.faults[0])}.",
            "Which exception came first is not shown.",
        )
    story = []
    before: Fault | None = None
    for order, fault in zip(_ORDER, chain.faults, strict=False):
        story.append(f"{order} {exception(fault, before, failure.cpu)}{_why(fault)}.")
        before = fault
    if chain.faults and chain.is_whole:
        story.append("Nothing is left to deliver then: the CPU shuts down, and KVM says so (a triple fault).")
    elif not chain.faults and (empty := _no_idt(failure.cpu)):
        story.append(empty)
    return tuple(story)


def first_words(failure: Failure) -> str | None:
    """The first exception, for the answer."""
    chain = chain_of(failure)
    if not chain.faults:
        return None
    return exception(chain.faults[0], None, failure.cpu) + _why(chain.faults[0])


def missing_structure(failure: Failure) -> str | None:
    """Which of IDT, GDT, TSS and stack stopped the first delivery that did not succeed."""
    for fault in chain_of(failure).faults:
        if fault.broken is not None:
            return _STRUCTURES.get(fault.broken.split("-")[0])
    return "IDT" if no_gate_at_all(failure.cpu) is not None else None


def exception(fault: Fault, before: Fault | None, cpu: Cpu | None) -> str:
    """``#PF (page fault) at RIP 0x8072: a write by the kernel to 0x1000, which is not mapped``."""
    name = describe_vector(fault.vector)
    at = f" at RIP {fault.rip:#x}" if fault.rip is not None and (before is None or before.rip != fault.rip) else ""
    must = ", by the CPU's tables" if fault.by == "tables" and before is not None else ""
    code = _code(fault, before, cpu)
    return f"{name}{must}{at}" + (f": {code}" if code else "")


def _code(fault: Fault, before: Fault | None, cpu: Cpu | None) -> str:
    code = fault.error_code
    if fault.vector == PF:
        return _page_fault(fault, before, cpu)
    if fault.vector not in {GP, NP, SS, TS} or not code:
        return ""
    if code & 2:
        return f"error code {code:#x}, about the IDT's gate for {_gate(code, before)}"
    table = "LDT" if code & 4 else "GDT"
    return f"error code {code:#x}, about entry {code >> 3} of the {table}"


def _gate(code: int, before: Fault | None) -> str:
    """The vector; QEMU's emulator gives the gate's offset in 64-bit mode (vector × 16)."""
    vector = code >> 3
    if before is not None and before.vector != vector and code >> 4 == before.vector:
        vector = before.vector
    return MNEMONICS.get(vector, f"vector {vector}")


def _page_fault(fault: Fault, before: Fault | None, cpu: Cpu | None) -> str:
    code = fault.error_code
    address = "an address that is not shown" if fault.cr2 is None else f"{fault.cr2:#x}"
    if code is None:
        words = f"for {address}"
    else:
        who = "user code" if code & 4 else "the kernel"
        kind = "an instruction fetch" if code & 16 else "a write" if code & 2 else _reads(cpu)
        why = "which is not mapped"
        if code & 8:
            why = "whose page-table entry has a reserved bit set"
        elif code & 32:
            why = "which a protection key forbids"
        elif code & 1:
            why = "which its page's rights forbid"
        words = f"{kind} by {who} of {address}, {why} (error code {code:#x})"
    place = _structure_at(fault.cr2, cpu)
    return words + (f"; {place}" if place and before is not None else "")


def _reads(cpu: Cpu | None) -> str:
    """Without NX and SMEP an instruction fetch has no bit of its own (SDM vol. 3A, 4.7)."""
    cr4, efer = (cpu.get("cr4"), cpu.get("efer")) if cpu else (None, None)
    tells_fetches = (cr4 or 0) >> _SMEP & 1 or (efer or 0) >> _NXE & 1
    return "a read" if tells_fetches else "a read or fetch"


def _structure_at(address: int | None, cpu: Cpu | None) -> str | None:
    """Which of the CPU's structures an address is in."""
    if address is None or cpu is None:
        return None
    for name in ("idt", "gdt", "ldt", "tr"):
        table = cpu.segments.get(name)
        if table and table.limit and table.base <= address <= table.base + table.limit:
            return f"that is in the {'TSS' if name == 'tr' else name.upper()}"
    rsp, ss = cpu.get("rsp"), cpu.segments.get("ss")
    if rsp is not None:
        for base in (0, ss.base if ss else 0):
            if 0 <= (base + rsp - address & _U64) <= _NEAR:
                return "that is the stack"
    return None


def _why(fault: Fault) -> str:
    if fault.broken is None:
        return ""
    shown = {
        name: "an unknown address" if v is None else f"{v:#x}" for name, v in (("at", fault.at), ("value", fault.value))
    }
    words = _BROKEN.get(fault.broken, "a structure that it needs is missing").format(**shown)
    return f"; it could not be delivered, for {words}"


def _no_idt(cpu: Cpu | None) -> str | None:
    """An IDT in which no exception has a gate."""
    limit = no_gate_at_all(cpu)
    if limit is None:
        return None
    return (
        f"Which exception was the first is not shown, but none could be delivered: the IDT's limit is {limit:#x}, so "
        "that not even its first gate is there. Load an IDT (lidt) before the first exception can come."
    )


def no_gate_at_all(cpu: Cpu | None) -> int | None:
    """The IDT's limit, if it ends before its first gate. Real mode is not judged."""
    if cpu is None:
        return None
    broken = undeliverable(0, cpu, None)
    return broken.value if broken and broken.what == "idt-limit" else None
