"""The JSON of one explained failure: a diagnosis laid out as ``kvmwhy.contract`` types it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from kvmwhy import __version__
from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.contract import (
    AccessPart,
    AnsweredBy,
    CausePart,
    CodePart,
    ControlPart,
    EmulationPart,
    EmulatorPart,
    EventPart,
    ExitPart,
    ExitSeenPart,
    Explanation,
    FaultPart,
    FixPart,
    HostEventPart,
    HostPart,
    InstructionPart,
    MechanismPart,
    OperandPart,
    OriginPart,
    ProofPart,
    SetupPart,
    SourcePart,
    SpeakerPart,
    StoredPart,
    SymptomPart,
    Vendor,
)
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.diagnosis.answer import Mechanism, Origin, Proof
from kvmwhy.diagnosis.cause import Finding
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.knowledge.edition import EDITION
from kvmwhy.record import Code, ControlBlock, Emulation, Event, Exit, Failure, Fault, Host, Setup, Source
from kvmwhy.render.remarks import damage, differs
from kvmwhy.render.safe import safe
from kvmwhy.render.whose import whose

_DERIVED: Final = frozenset(
    {"answer", "causes", "damage", "exit", "instruction", "access", "layout", "layout_also", "vendor", "vendor_from"}
)
_encode: Final = msgspec.json.Encoder().encode


def to_json(diagnosis: Diagnosis) -> bytes:
    """One line of JSON, without its newline. ASCII control characters are escaped by JSON itself."""
    return _encode(to_explanation(diagnosis))


def to_object(diagnosis: Diagnosis) -> dict[str, Any]:
    """The same as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(to_explanation(diagnosis))
    return plain


def to_record(failure: Failure) -> bytes:
    """What was seen, and not what follows from it, in one line that kvmwhy reads back."""
    seen = to_object(diagnose(failure))
    return msgspec.json.encode({name: value for name, value in seen.items() if name not in _DERIVED and value})


def to_explanation(diagnosis: Diagnosis) -> Explanation:
    facts = diagnosis.facts
    failure = facts.failure
    return Explanation(
        kind=failure.kind,
        answer=safe(
            " ".join(
                filter(
                    None,
                    (
                        diagnosis.answer,
                        whose(diagnosis.origins, diagnosis.mechanism.id if diagnosis.mechanism else None),
                    ),
                )
            ),
            800,
        ),
        mechanism=_mechanism(diagnosis.mechanism),
        origins=_origins(diagnosis.origins),
        collect=[safe(text) for text in diagnosis.collect],
        answered_by=AnsweredBy(version=__version__, knowledge=EDITION),
        source=_source(failure.source),
        arch=failure.arch,
        arch_from=_text(failure.arch_from),
        suberror=failure.suberror,
        suberror_name=None if failure.suberror is None else SUBERRORS.get(failure.suberror),
        hardware_error=_hex(failure.hardware_error),
        hardware_reason=_hex(failure.hardware_reason),
        exception=failure.exception,
        exception_error_code=_hex(failure.exception_error_code),
        errno=failure.errno,
        exit_reason=failure.exit_reason,
        ndata=failure.ndata,
        data=[hex(word) for word in failure.data],
        data_apart={str(index): hex(word) for index, word in failure.data_apart.items()},
        layout=facts.layout,
        layout_also=[other.layout for other in facts.reading.also] if facts.reading else [],
        vendor=cast("Vendor | None", facts.vendor.vendor),
        vendor_from=safe(facts.vendor.why),
        exit=_exit(facts),
        cpu=_cpu(facts),
        code=_code(failure.code),
        instruction=_instruction(facts),
        access=_access(facts),
        causes=[_cause(finding) for finding in diagnosis.findings],
        host=_host(failure.host),
        setup=_setup(failure.setup),
        symptom=None
        if failure.symptom is None
        else SymptomPart(
            kind=safe(failure.symptom.kind),
            numbers=_numbers(failure.symptom.fields),
            texts=_texts(failure.symptom.fields),
        ),
        speaker=None
        if failure.speaker is None
        else SpeakerPart(
            name=safe(failure.speaker.name),
            numbers=_numbers(failure.speaker.fields),
            texts=_texts(failure.speaker.fields),
        ),
        seen_at={safe(name): line for name, line in failure.seen_at.items()},
        cpu_shared=failure.cpu_shared,
        silent=failure.silent,
        exit_seen=_exit_seen(failure.exit),
        exit_fields={safe(name): hex(value) for name, value in failure.exit_fields.items()},
        control=_control(failure.control),
        emulation=_emulation(failure.emulation),
        faults=[_fault(fault) for fault in failure.faults],
        triple_fault=_triple_fault(failure),
        trace=[_event(event) for event in failure.trace],
        stored=_stored(diagnosis),
        damage=damage(facts),
        repairs=[safe(text) for text in failure.repairs],
        torn=[safe(text) for text in failure.damage],
    )


def _stored(diagnosis: Diagnosis) -> StoredPart | None:
    stored = diagnosis.failure.stored
    if stored is None:
        return None
    different = differs(diagnosis)
    return StoredPart(
        schema=stored.schema,
        version=_text(stored.version),
        knowledge=_text(stored.knowledge),
        answer=_text(stored.answer),
        mechanism=_text(stored.mechanism),
        origin=_text(stored.origin),
        same=None if different is None else not different,
    )


def _text(text: str | None) -> str | None:
    return None if text is None else safe(text)


def _hex(value: int | None) -> str | None:
    return None if value is None else hex(value)


def _numbers(fields: dict[str, int | str]) -> dict[str, str]:
    """Numbers and texts apart, since a number is written as a text."""
    return {safe(name): hex(value) for name, value in fields.items() if isinstance(value, int)}


def _texts(fields: dict[str, int | str]) -> dict[str, str]:
    return {safe(name): safe(value) for name, value in fields.items() if isinstance(value, str)}


# -- the answers -----------------------------------------------------------------------------------


def _proofs(proofs: tuple[Proof, ...]) -> list[ProofPart]:
    return [ProofPart(text=safe(proof.text), at=proof.at) for proof in proofs]


def _mechanism(mechanism: Mechanism | None) -> MechanismPart | None:
    if mechanism is None:
        return None
    return MechanismPart(
        id=mechanism.id,
        text=safe(mechanism.text),
        certainty=mechanism.certainty,
        for_=_proofs(mechanism.for_),
        against=_proofs(mechanism.against),
    )


@lru_cache(maxsize=1024)  # as diagnosis.origin remembers them
def _origins(origins: tuple[Origin, ...]) -> list[OriginPart]:
    return [
        OriginPart(
            id=origin.id,
            share=round(origin.share, 4),
            reports=origin.reports,
            for_=_proofs(origin.for_),
            against=_proofs(origin.against),
        )
        for origin in origins
    ]


def _cause(finding: Finding) -> CausePart:
    return CausePart(
        id=finding.cause.id,
        family=finding.cause.family,
        confidence=finding.confidence,
        title=finding.cause.title,
        for_=[safe(text) for text in finding.for_],
        against=[safe(text) for text in finding.against],
        fix=FixPart(**finding.advice._asdict()),
        references=list(finding.cause.references),
    )


# -- what was seen ---------------------------------------------------------------------------------


def _source(source: Source) -> SourcePart:
    return SourcePart(
        path=_text(source.path),
        line=source.line,
        vmm=source.vmm,
        guest=_text(source.guest),
        vcpu=source.vcpu,
        count=source.count,
        alike=source.alike,
        last_line=source.last_line,
        time=_text(source.time),
        last_time=_text(source.last_time),
        writer=_text(source.writer),
    )


def _host(host: Host) -> HostPart:
    return HostPart(
        kernel=_text(host.kernel),
        qemu=_text(host.qemu),
        ram_bytes=_hex(host.ram_bytes),
        vendor=host.vendor,
        vendor_from=_text(host.vendor_from),
        hypervisor=_text(host.hypervisor),
        is_physical=host.is_physical,
        rivals=[safe(name) for name in host.rivals],
        unrestricted_guest_hint=host.unrestricted_guest_hint,
        events=[
            HostEventPart(
                kind=event.kind,
                at=event.at,
                time=event.time,
                numbers=_numbers(event.fields),
                texts=_texts(event.fields),
            )
            for event in host.events
        ],
        cpu_name=_text(host.cpu_name),
        dmi=_text(host.dmi),
        parameters={safe(name): safe(value) for name, value in host.parameters.items()},
        machine=_text(host.machine),
        cpu_model=_text(host.cpu_model),
        devices=[safe(name) for name in host.devices],
        confidential=host.confidential,
        remarks=[safe(slug) for slug in host.remarks],
    )


def _setup(setup: Setup | None) -> SetupPart | None:
    if setup is None:
        return None
    return SetupPart(
        call=safe(setup.call),
        msr=_hex(setup.msr),
        value=_hex(setup.value),
        register=_text(setup.register),
        firmware_error=_hex(setup.firmware_error),
        status=_hex(setup.status),
        detail=setup.detail,
        numbers=_numbers(setup.fields),
        texts=_texts(setup.fields),
    )


def _exit_seen(seen: Exit | None) -> ExitSeenPart | None:
    """The words as the text gave them by name; ``exit`` has what they were taken for."""
    if seen is None:
        return None
    return ExitSeenPart(
        reason=_hex(seen.reason),
        info1=_hex(seen.info1),
        info2=_hex(seen.info2),
        intr_info=_hex(seen.intr_info),
        error_code=_hex(seen.error_code),
        isa=seen.isa,
    )


def _control(block: ControlBlock | None) -> ControlPart | None:
    if block is None:
        return None
    return ControlPart(kind=block.kind, fields={safe(name): hex(value) for name, value in block.fields.items()})


def _emulation(emulation: Emulation | None) -> EmulationPart | None:
    if emulation is None:
        return None
    return EmulationPart(
        rip=hex(emulation.rip),
        cs_base=hex(emulation.cs_base),
        insn=emulation.insn.hex(" "),
        mode=emulation.mode,
    )


def _triple_fault(failure: Failure) -> list[str]:
    if failure.arch not in {None, "x86"} or not (failure.kind == "shutdown" or failure.faults):
        return []
    from kvmwhy.diagnosis.triple_fault import sentences

    return [safe(words) for words in sentences(failure)]


def _fault(fault: Fault) -> FaultPart:
    return FaultPart(
        vector=fault.vector,
        error_code=_hex(fault.error_code),
        cr2=_hex(fault.cr2),
        rip=_hex(fault.rip),
        by=fault.by,
        broken=fault.broken,
        at=_hex(fault.at),
        value=_hex(fault.value),
    )


def _event(event: Event) -> EventPart:
    return EventPart(
        name=safe(event.name),
        time=_nanoseconds(event.time),
        numbers=_numbers(event.fields),
        texts=_texts(event.fields),
    )


def _code(code: Code | None) -> CodePart | None:
    return None if code is None else CodePart(window=_window(code.window), rip_at=code.rip_at)


def _window(window: tuple[int | None, ...]) -> str:
    if None in window:
        return " ".join("??" if byte is None else f"{byte:02x}" for byte in window)
    return bytes(window).hex(" ")  # type: ignore[arg-type]  # no None among them


# -- what follows from it --------------------------------------------------------------------------


def _exit(facts: Facts) -> ExitPart | None:
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
    elif failure.exit is not None:
        seen = failure.exit
        reason, info1, info2 = seen.reason, seen.info1, seen.info2
        intr_info, error_code = seen.intr_info, seen.error_code
        name = name or _exit_name(seen)
    elif failure.suberror != 2 or not words:
        return None
    return ExitPart(
        reason=_hex(reason),
        name=name,
        info1=_hex(info1),
        info2=_hex(info2),
        intr_info=_hex(intr_info),
        error_code=_hex(error_code),
        words=words,
    )


def _exit_name(seen: Exit) -> str | None:
    """Of an exit that a trace or a kernel's log named itself; a refused entry's reason has the high bit set."""
    if seen.isa == "vmx":
        return vmx.reason_name(seen.reason & 0xFFFF)
    return svm.code_name(seen.reason) if seen.isa == "svm" else None


def _cpu(facts: Facts) -> dict[str, Any] | None:
    cpu = facts.failure.cpu
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


def _instruction(facts: Facts) -> InstructionPart | None:
    insn = facts.instruction
    if insn is None:
        return None
    verdict = facts.verdict
    return InstructionPart(
        address=_hex(facts.rip),
        bytes=insn.bytes.hex(" "),
        text=insn.text,
        complete=insn.complete,
        source=facts.instruction_source,
        operands=[
            OperandPart(
                segment=operand.segment,
                effective=_hex(operand.effective),
                linear=_hex(operand.linear),
                size=operand.size,
                access=operand.access,
            )
            for operand in facts.operands
        ],
        emulator=verdict
        and EmulatorPart(outcome=verdict.outcome, since=verdict.since, never=verdict.never, slot=verdict.slot),
    )


def _access(facts: Facts) -> AccessPart | None:
    access = facts.access
    if access is None:
        return None
    return AccessPart(kind=access.kind, gva=_hex(access.gva), gpa=_hex(access.gpa), what=access.what)


def _nanoseconds(seconds: float | None) -> int | None:
    """The nearest whole number, computed without rounding twice: the same seconds come back."""
    if seconds is None:
        return None
    numerator, denominator = seconds.as_integer_ratio()
    return (numerator * _NANO * 2 + denominator) // (2 * denominator)


_NANO: Final = 1_000_000_000
