"""A diagnosis for a person: the answer, the evidence, what to do, and the raw words last."""

from __future__ import annotations

from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.arch.x86.operand import Operand
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.render.describe import about
from kvmwhy.render.json import damage
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.render.trace_event import event_line

_SUBERROR_TEXT = {
    1: "emulation failure",
    2: "a second event during the delivery of one",
    3: "an event could not be delivered",
    4: "an exit that KVM has no handler for",
}
_WHO = {"guest": "guest's author", "vmm": "VMM's author", "host": "host's operator"}
_LABEL = 13
_MOST_EVENTS = 8


def explanation(diagnosis: Diagnosis) -> list[Line]:
    """The whole text of one failure."""
    facts = diagnosis.facts
    lines = [Line(safe(diagnosis.answer), "answer"), Line()]
    lines += _what_happened(facts)
    lines += _words(facts)
    lines += _about(facts)
    found = diagnosis.findings
    collect = found[-1] if len(found) > 1 and found[-1].cause.family == "undecided" else None
    causes = found[:-1] if collect else found
    for n, finding in enumerate(causes, 1):
        lines += _finding(finding, n if len(causes) > 1 else None)
    lines += _settle(collect)
    lines += _trace(facts)
    lines += _raw(facts)
    if torn := damage(facts):
        only_repaired = set(torn) == set(facts.failure.repairs)
        head = "About the evidence" if only_repaired else "Damage in the evidence"
        lines += [Line(), Line(style="head", label=head, label_style="head")]
        lines += [Line(text, "bad", "- ", 2) for text in torn]
    return lines


def _row(label: str, text: str) -> Line:
    return Line(text, "plain", f"{label:<{_LABEL}}", 2)


def _what_happened(facts: Facts) -> list[Line]:
    failure = facts.failure
    lines = [_row("Failure", _failure(facts))]
    source = failure.source
    where = [safe(source.path)] if source.path else []
    if source.line:
        where.append(f"line {source.line}")
    if source.count > 1:
        where.append(f"seen {source.count} times")
    if where:
        lines.append(_row("Where", ", ".join(where)))
    if failure.cpu or failure.emulation:
        lines.append(_row("CPU", _cpu(facts)))
    lines += _instruction(facts)
    if facts.access:
        lines.append(_row("Access", _access(facts)))
    if failure.cpu and facts.reset and facts.reset.state in {"reset", "mixture", "zero", "startup"}:
        lines.append(_row("Guest state", facts.reset.why))
    vendor = facts.vendor.vendor
    lines.append(_row("Vendor", f"{vendor.upper() if vendor else 'unknown'}: {safe(facts.vendor.why)}"))
    return lines


def _failure(facts: Facts) -> str:
    failure = facts.failure
    match failure.kind:
        case "internal-error":
            if failure.suberror is None:
                return "KVM internal error; the number of the suberror is missing"
            name = SUBERRORS.get(failure.suberror, "unknown")
            text = _SUBERROR_TEXT.get(failure.suberror, "a suberror that no kernel up to 7.3 has")
            return f"KVM internal error, suberror {failure.suberror} ({name}): {text}"
        case "entry-failure":
            said = facts.entry.sentence if facts.entry else f"{failure.hardware_error or 0:#x}"
            return f"VM entry failed, hardware error {said}"
        case "unknown-exit":
            return f"unknown exit, hardware reason {failure.hardware_reason or 0:#x}"
        case "run-error":
            return f"KVM_RUN failed: {failure.errno or 'an error that is not shown'}"
        case "exception-exit":
            return f"exception {failure.exception} exit, error code {failure.exception_error_code or 0:#x}"
        case "shutdown":
            return "the guest shut down (triple fault)"
    if failure.silent:
        return "KVM could not emulate an instruction, gave the guest #UD, and went on: no VMM was told"
    if failure.errno is not None:
        return f"a request to KVM failed: {failure.errno}"
    if failure.exit_reason is not None:
        return f"the vCPU's last exit was {exit_name(failure.exit_reason)} ({failure.exit_reason})"
    if failure.cpu is None:
        return "none of a guest is shown; these are the host's own troubles"
    return "a register dump whose first line is missing"


def _cpu(facts: Facts) -> str:
    cpu = facts.failure.cpu
    mode = f"{facts.mode.name} ({facts.mode.why})" if facts.mode else "mode not known from what was printed"
    parts = [mode]
    if facts.cpl is not None:
        parts.append(f"CPL {facts.cpl}")
    if cpu and cpu.smm:
        parts.append("in SMM")
    if facts.rip is not None:
        linear = facts.linear_rip
        at = f"RIP {facts.rip:#x}"
        parts.append(at + (f", linear {linear:#x}" if linear is not None and linear != facts.rip else ""))
    return "; ".join(parts)


def _instruction(facts: Facts) -> list[Line]:
    insn = facts.instruction
    if insn is None:
        if facts.fetch_failed:
            return [_row("Instruction", "none: KVM could not read one byte of it")]
        return []
    if insn.text:
        said = {"report": "from KVM's report", "code": "from the VMM's dump"}.get(facts.instruction_source or "", "")
        if facts.mode is None and facts.code_mode:
            said += f", read as {facts.code_mode.bitness}-bit code: {facts.code_mode.why}"
        lines = [_row("Instruction", f"{insn.text}    [{insn.bytes.hex(' ')}] {said}")]
    elif insn.invalid:
        lines = [_row("Instruction", f"[{insn.bytes.hex(' ')}] is not an instruction")]
    else:
        begins = f", which begin {insn.mnemonic}" if insn.mnemonic else ""
        lines = [_row("Instruction", f"cut off after [{insn.bytes.hex(' ')}]{begins}")]
    lines += [_row("Operand", _operand(o)) for o in facts.operands if o.linear is not None or o.missing]
    return lines


def _operand(operand: Operand) -> str:
    size = f"{operand.size} bytes" if operand.size else "size set by the CPU's state"
    if operand.linear is None:
        return f"{operand.access}, {size}; its address needs {', '.join(operand.missing)}, not shown"
    segment = ""
    if operand.effective is not None and operand.effective != operand.linear:
        segment = f" ({operand.segment}:{operand.effective:#x})"
    text = f"{operand.access}, {size} at {operand.linear:#x}{segment}"
    return text + ("; not canonical" if operand.canonical is False else "")


def _access(facts: Facts) -> str:
    access = facts.access
    if access is None:
        return ""
    parts: list[str] = [access.kind]
    if access.gva is not None:
        parts.append(f"linear {access.gva:#x}")
    parts.append("physical address not shown" if access.gpa is None else f"physical {access.gpa:#x}")
    text = ", ".join(parts)
    return f"{text}: {access.what}" if access.what else text


def _words(facts: Facts) -> list[Line]:
    if not facts.explained:
        return []
    return [
        Line(),
        Line(style="head", label="What the words say", label_style="head"),
        *(Line(safe(s), "plain", "- ", 2) for s in facts.explained.sentences),
    ]


def _about(facts: Facts) -> list[Line]:
    """A refused set-up, a symptom, or another hypervisor's failure in words."""
    sentences = about(facts.failure)
    if not sentences:
        return []
    head = Line(style="head", label="What it means", label_style="head")
    return [Line(), head, *(Line(safe(sentence), "plain", "- ", 2) for sentence in sentences)]


def _finding(finding: Finding, number: int | None) -> list[Line]:
    which = f"Cause {number}" if number else "Cause"
    lines = [
        Line(),
        Line(
            f"{finding.cause.title}  [{finding.cause.id}]",
            "plain",
            f"{which} ({finding.confidence}): ",
            label_style="head",
        ),
    ]
    lines += [Line(safe(text), "plain", "+ ", 2, "good") for text in finding.for_]
    lines += [Line(safe(text), "plain", "- ", 2, "bad") for text in finding.against]
    advice = finding.advice
    if any(advice):
        lines.append(Line(style="label", label="What to do", indent=2))
        lines += _advice(advice, 4)
    lines += [Line(reference, "dim", "see ", 2) for reference in finding.cause.references]
    return lines


def _settle(undecided: Finding | None) -> list[Line]:
    """Beside causes that are only possible: what would tell them apart."""
    if undecided is None or undecided.advice.host is None:
        return []
    return [
        Line(),
        Line(style="head", label="What would settle it", label_style="head"),
        Line(undecided.advice.host, indent=2),
    ]


def _advice(fix: Fix, indent: int) -> list[Line]:
    return [Line(text, "plain", f"{_WHO[who] + ':':<{17}}", indent) for who, text in fix._asdict().items() if text]


def _trace(facts: Facts) -> list[Line]:
    """The end of the road that led there, as the trace had it."""
    events = facts.failure.trace[-_MOST_EVENTS:]
    if not events:
        return []
    start = next((e.time for e in reversed(events) if e.time is not None), 0.0)
    lines = [Line(), Line(style="head", label="Before the failure, on this vCPU", label_style="head")]
    isa = next((isa for e in facts.failure.trace if isinstance(isa := e.fields.get("isa"), int)), None)
    for event in events:
        when = "" if event.time is None else f"{(event.time - start) * 1e6:>+12,.0f} µs  "
        lines.append(Line(safe(f"{when}{event_line(event, isa=isa)}"), "dim", "", 2))
    return lines


def _raw(facts: Facts) -> list[Line]:
    failure = facts.failure
    if not failure.data and facts.layout is None:
        return []
    lines = [Line(), Line(style="head", label="Raw words", label_style="head")]
    also = [r.layout for r in facts.reading.also] if facts.reading else []
    if facts.layout:
        text = facts.layout + (f", or {' or '.join(also)}" if also else "")
        lines.append(_row("layout", text))
    if failure.ndata is not None:
        lines.append(_row("ndata", str(failure.ndata)))
    lines += [_row(f"data[{n}]", f"0x{word:016x}") for n, word in enumerate(failure.data)]
    return lines


def cause_page(cause: Cause) -> list[Line]:
    """One page of the catalogue."""
    lines = [Line(cause.title, "answer"), Line(f"{cause.id}, of the family {cause.family}", "dim"), Line()]
    for head, text in (
        ("What happened", cause.what),
        ("How to recognise it", cause.recognise),
        ("What it is confused with", cause.confused_with),
        ("Example", cause.example),
    ):
        lines += [Line(style="head", label=head, label_style="head"), Line(text, indent=2), Line()]
    if any(cause.fix):
        lines += [Line(style="head", label="What to do", label_style="head"), *_advice(cause.fix, 2), Line()]
    lines += [Line(style="head", label="References", label_style="head")]
    lines += [Line(reference, "plain", "- ", 2) for reference in cause.references]
    return lines
