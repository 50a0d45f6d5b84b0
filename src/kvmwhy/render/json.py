"""The JSON contract: one object per distinct failure. Every u64 is a ``0x`` string.

Keys are only ever added; a change of meaning takes a new ``schema``. Besides what other programs
rely on, the object holds all that was read, so that kvmwhy can read its own output back.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Code, ControlBlock, Cpu, Emulation, Event, Exit, Host
from kvmwhy.render.safe import safe

SCHEMA: Final = 1
_encode = msgspec.json.Encoder().encode


def to_json(diagnosis: Diagnosis) -> bytes:
    """One line of JSON, without its newline. ASCII control characters are escaped by JSON itself."""
    return _encode(to_object(diagnosis))


def to_object(diagnosis: Diagnosis) -> dict[str, Any]:
    facts = diagnosis.facts
    failure = facts.failure
    source = failure.source
    suberror = failure.suberror
    return {
        "schema": SCHEMA,
        "kind": failure.kind,
        "answer": diagnosis.answer,
        "source": {
            "path": None if source.path is None else safe(source.path),
            "line": source.line,
            "vmm": source.vmm,
            "vcpu": source.vcpu,
            "count": source.count,
            "last_line": source.last_line,
            "time": None if source.time is None else safe(source.time),
            "last_time": None if source.last_time is None else safe(source.last_time),
            "writer": None if source.writer is None else safe(source.writer),
        },
        "suberror": suberror,
        "suberror_name": None if suberror is None else SUBERRORS.get(suberror),
        "hardware_error": _hex(failure.hardware_error),
        "hardware_reason": _hex(failure.hardware_reason),
        "exception": failure.exception,
        "exception_error_code": _hex(failure.exception_error_code),
        "errno": failure.errno,
        "exit_reason": failure.exit_reason,
        "ndata": failure.ndata,
        "data": [hex(word) for word in failure.data],
        "layout": facts.layout,
        "layout_also": [other.layout for other in facts.reading.also] if facts.reading else [],
        "vendor": facts.vendor.vendor,
        "vendor_from": safe(facts.vendor.why),
        "exit": _exit(facts),
        "cpu": _cpu(facts),
        "code": _code(failure.code),
        "instruction": _instruction(facts),
        "access": _access(facts),
        "causes": [_cause(f) for f in diagnosis.findings],
        "host": _host(failure.host),
        "cpu_shared": failure.cpu_shared,
        "silent": failure.silent,
        "exit_seen": _exit_seen(failure.exit),
        "control": _control(failure.control),
        "emulation": _emulation(failure.emulation),
        "trace": [_event(event) for event in failure.trace],
        "damage": damage(facts),
        "repairs": [safe(text) for text in failure.repairs],
        "torn": [safe(text) for text in failure.damage],
    }


def damage(facts: Facts) -> list[str]:
    """What was torn, repaired or does not add up; the log's own words among it made harmless."""
    remarks = facts.reading.remarks if facts.reading else ()
    ambiguous: tuple[str, ...] = ()
    if facts.reading and facts.reading.ambiguous:
        layouts = ", ".join(r.layout for r in (facts.reading.failure, *facts.reading.also))
        ambiguous = (f"the words fit several layouts ({layouts}): their exit information is not decoded",)
    return [safe(text) for text in dict.fromkeys((*facts.failure.repairs, *facts.failure.damage, *remarks, *ambiguous))]


def _host(host: Host) -> dict[str, Any]:
    return {
        "kernel": None if host.kernel is None else safe(host.kernel),
        "qemu": None if host.qemu is None else safe(host.qemu),
        "ram_bytes": _hex(host.ram_bytes),
        "vendor": host.vendor,
        "vendor_from": None if host.vendor_from is None else safe(host.vendor_from),
        "hypervisor": None if host.hypervisor is None else safe(host.hypervisor),
        "rivals": [safe(name) for name in host.rivals],
        "unrestricted_guest_hint": host.unrestricted_guest_hint,
        "facts": [safe(fact) for fact in host.facts],
    }


def _exit_seen(seen: Exit | None) -> dict[str, Any] | None:
    """The words as the text gave them by name; ``exit`` has what they were taken for."""
    if seen is None:
        return None
    numbers = ("reason", "info1", "info2", "intr_info", "error_code")
    return {**{name: _hex(getattr(seen, name)) for name in numbers}, "isa": seen.isa}


def _control(block: ControlBlock | None) -> dict[str, Any] | None:
    if block is None:
        return None
    return {"kind": block.kind, "fields": {safe(name): hex(value) for name, value in block.fields.items()}}


def _emulation(said: Emulation | None) -> dict[str, Any] | None:
    if said is None:
        return None
    return {"rip": hex(said.rip), "cs_base": hex(said.cs_base), "insn": said.insn.hex(" "), "mode": said.mode}


def _event(event: Event) -> dict[str, Any]:
    """Numbers and texts apart, since a number is written as a text."""
    fields = event.fields.items()
    return {
        "name": safe(event.name),
        "time": event.time,
        "numbers": {safe(name): hex(value) for name, value in fields if isinstance(value, int)},
        "texts": {safe(name): safe(value) for name, value in fields if isinstance(value, str)},
    }


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)


def _exit(facts: Facts) -> dict[str, Any] | None:
    failure, explained = facts.failure, facts.explained
    words = [safe(s) for s in explained.sentences] if explained else []
    name = explained.name if explained else None
    reason = info1 = info2 = intr_info = error_code = None
    if facts.words:
        reason, info1, info2, intr_info, error_code = facts.words
    elif failure.suberror == 3 and len(failure.data) > 1:
        reason = failure.data[1]
        info1 = failure.data[2] if len(failure.data) > 2 else None
    elif failure.suberror == 4 and failure.data:
        reason = failure.data[0]
    elif facts.entry:
        words, name = [safe(facts.entry.sentence)], facts.entry.name
        if facts.entry.scheme == "vmx-exit-reason":
            reason = failure.hardware_error
    elif failure.suberror != 2 or not words:
        return None
    return {
        "reason": _hex(reason),
        "name": name,
        "info1": _hex(info1),
        "info2": _hex(info2),
        "intr_info": _hex(intr_info),
        "error_code": _hex(error_code),
        "words": words,
    }


def _cpu(facts: Facts) -> dict[str, Any] | None:
    cpu: Cpu | None = facts.failure.cpu
    if cpu is None:
        return None
    return {
        "mode": facts.mode.name if facts.mode else None,
        "mode_from": facts.mode.why if facts.mode else None,
        "smm": cpu.smm,
        "cpl": facts.cpl,
        "cpl_printed": cpu.cpl,
        "halted": cpu.halted,
        "wide": cpu.wide,
        "shared": facts.failure.cpu_shared,
        **{name: hex(value) for name, value in cpu.registers.items()},
        "segments": {
            name: {
                "selector": hex(s.selector),
                "base": hex(s.base),
                "limit": hex(s.limit),
                "attributes": hex(s.attributes),
            }
            for name, s in cpu.segments.items()
        },
    }


def _code(code: Code | None) -> dict[str, Any] | None:
    if code is None:
        return None
    return {
        "window": _window(code.window),
        "rip_at": code.rip_at,
    }


def _window(window: tuple[int | None, ...]) -> str:
    if None in window:
        return " ".join("??" if byte is None else f"{byte:02x}" for byte in window)
    return bytes(window).hex(" ")  # type: ignore[arg-type]  # no None among them


def _instruction(facts: Facts) -> dict[str, Any] | None:
    insn = facts.instruction
    if insn is None:
        return None
    return {
        "address": _hex(facts.rip if facts.rip is not None else insn.address),
        "bytes": insn.bytes.hex(" "),
        "text": insn.text,
        "complete": insn.complete,
        "source": facts.instruction_source,
        "operands": [
            {
                "segment": o.segment,
                "effective": _hex(o.effective),
                "linear": _hex(o.linear),
                "size": o.size,
                "access": o.access,
            }
            for o in facts.operands
        ],
        "emulator": None
        if facts.verdict is None
        else {
            "outcome": facts.verdict.outcome,
            "since": facts.verdict.since,
            "never": facts.verdict.never,
            "slot": facts.verdict.slot,
        },
    }


def _access(facts: Facts) -> dict[str, Any] | None:
    access = facts.access
    if access is None:
        return None
    return {"kind": access.kind, "gva": _hex(access.gva), "gpa": _hex(access.gpa), "what": access.what}


def _cause(finding: Any) -> dict[str, Any]:
    advice = finding.advice
    return {
        "id": finding.cause.id,
        "family": finding.cause.family,
        "confidence": finding.confidence,
        "title": finding.cause.title,
        "for": [safe(text) for text in finding.for_],
        "against": [safe(text) for text in finding.against],
        "fix": {who: text for who, text in advice._asdict().items() if text},
        "references": list(finding.cause.references),
    }
