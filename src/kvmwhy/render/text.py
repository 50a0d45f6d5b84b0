"""A diagnosis for a person: the answer, the evidence, what to do, and the raw words last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.abi.kvm_run import EXIT_MEMORY_FAULT, EXIT_SYSTEM_EVENT, exit_name, memory_fault_flags, system_event_type
from kvmwhy.arch.x86.operand import Operand
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.answer import Proof
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.knowledge.pages.page import Page
from kvmwhy.diagnosis.phrasing import call_in_words
from kvmwhy.record import At, Failure
from kvmwhy.render.describe import about
from kvmwhy.render.page import Line
from kvmwhy.render.remarks import damage, differs
from kvmwhy.render.safe import safe
from kvmwhy.render.trace_event import event_line
from kvmwhy.render.whose import percent, whose

_SUBERROR_TEXT = {
    1: "emulation failure",
    2: "a second event during the delivery of one",
    3: "an event could not be delivered",
    4: "an exit that KVM has no handler for",
}
_WHO = {"guest": "guest's author", "vmm": "VMM's author", "host": "host's operator"}
_LABEL = 13
_MOST_EVENTS = 8
_MOST_PLACES = 4
_MOST_ADVICE_IN_BRIEF = 2
_MOST_ORIGINS = 3
_LEAST_SHARE = 0.08  # an origin below is not worth its evidence


def explanation(diagnosis: Diagnosis, others: Sequence[Failure] = ()) -> list[Line]:
    """The whole text of one failure: the two answers, what to do, the evidence, and the raw words last.

    ``others`` are vCPUs that stopped alike in the same moment.
    """
    facts = diagnosis.facts
    lines = _answers(diagnosis)
    lines += _what_to_do(diagnosis)
    lines += _collect(diagnosis)
    lines += [Line(), Line(style="head", label="What is shown", label_style="head")]
    lines += _what_happened(facts)
    lines += _alike(others)
    lines += _evidence(diagnosis)
    lines += _words(facts)
    lines += _faults(facts)
    lines += _about(facts)
    lines += _trace(facts)
    lines += _pages(diagnosis)
    lines += _raw(facts)
    lines += _stored(diagnosis)
    if torn := damage(facts):
        only_repaired = set(torn) == set(facts.failure.repairs)
        head = "About the evidence" if only_repaired else "Damage in the evidence"
        lines += [Line(), Line(style="head", label=head, label_style="head")]
        lines += [Line(text, "bad", "- ", 2) for text in torn]
    return lines


def _answers(diagnosis: Diagnosis) -> list[Line]:
    """What happened and whose doing it was, a sentence each."""
    lines = [Line(safe(diagnosis.answer), "answer")]
    if sentence := whose(diagnosis.origins, diagnosis.mechanism.id if diagnosis.mechanism else None):
        lines.append(Line(sentence))
    return lines


def in_brief(diagnosis: Diagnosis) -> list[Line]:
    """Both answers and the best advice: what fits where one failure follows another."""
    return [*_answers(diagnosis), *_role_advice(diagnosis)[:_MOST_ADVICE_IN_BRIEF]]


def _what_to_do(diagnosis: Diagnosis) -> list[Line]:
    lines = _role_advice(diagnosis)
    return [Line(), Line(style="head", label="What to do", label_style="head"), *lines] if lines else []


def _role_advice(diagnosis: Diagnosis) -> list[Line]:
    """Each role's advice, the likeliest first; the catalogue's where the facts chose none."""
    advice: list[tuple[str, str]] = [(a.role, a.text) for a in diagnosis.advice]
    if not advice and diagnosis.findings[0].cause.family != "undecided":  # what to collect is said below
        advice = [(who, text) for who, text in diagnosis.findings[0].advice._asdict().items() if text]
    return [Line(safe(text), "plain", f"{_WHO[who] + ':':<{17}}", 2) for who, text in advice]


def _collect(diagnosis: Diagnosis) -> list[Line]:
    """What is missing here, and would settle it."""
    if not diagnosis.collect:
        return []
    lines = [Line(), Line(style="head", label="What would settle it", label_style="head")]
    return lines + [Line(safe(text), "plain", "- ", 2) for text in diagnosis.collect]


def _evidence(diagnosis: Diagnosis) -> list[Line]:
    """What the two answers rest on, and what speaks against them."""
    lines: list[Line] = []
    if (mechanism := diagnosis.mechanism) and (mechanism.for_ or mechanism.against):
        head = f"Why {mechanism.id} ({mechanism.certainty})"
        lines += [Line(), Line(style="head", label=head, label_style="head")]
        lines += _proofs(mechanism.for_, mechanism.against)
    for origin in diagnosis.origins[:_MOST_ORIGINS]:
        if origin.share >= _LEAST_SHARE and (origin.for_ or origin.against):
            head = f"Why {origin.id} ({percent(origin.share)})"
            lines += [Line(), Line(style="head", label=head, label_style="head")]
            lines += _proofs(origin.for_, origin.against)
    return lines


def _proofs(for_: tuple[Proof, ...], against: tuple[Proof, ...]) -> list[Line]:
    """Each with the line in which it was seen."""
    lines = [Line(safe(proof.text) + _seen(proof.at), "plain", "+ ", 2, "good") for proof in for_]
    return lines + [Line(safe(proof.text) + _seen(proof.at), "plain", "- ", 2, "bad") for proof in against]


def _seen(at: At | None) -> str:
    if at is None:
        return ""
    if at.line is not None:
        return f" (line {at.line})"
    return f" (data[{at.word}])" if at.word is not None else ""


def _pages(diagnosis: Diagnosis) -> list[Line]:
    """The catalogue's pages that apply, and their evidence."""
    findings = [finding for finding in diagnosis.findings if finding.cause.family != "undecided"]
    if not findings:
        return []
    lines = [Line(), Line(style="head", label="In the catalogue (kvmwhy cause ID)", label_style="head")]
    for finding in findings:
        lines += _finding(finding)
    return lines


def _stored(diagnosis: Diagnosis) -> list[Line]:
    """How a record that was read back had been answered, and whether the answer differs today."""
    stored = diagnosis.failure.stored
    if stored is None:
        return []
    by = (
        f"kvmwhy {safe(stored.version)}, knowledge of {safe(stored.knowledge or 'unknown date')}"
        if stored.version
        else "an earlier kvmwhy"
    )
    lines = [Line(), Line(style="head", label="This record was answered before", label_style="head"), _row("By", by)]
    different = differs(diagnosis)
    if different is None or different:
        was = ", ".join(safe(text) for text in (stored.mechanism, stored.origin) if text)
        lines.append(_row("Then", safe(stored.answer or "") + (f" [{was}]" if was else "")))
    if different is not None:
        lines.append(_row("Today", "the answer differs" if different else "the answer is the same"))
    return lines


def _alike(others: Sequence[Failure]) -> list[Line]:
    """The other vCPUs of the moment, and where each of them was."""
    if not others:
        return []
    places = Counter(_whereabouts(other) for other in others)
    few = places.most_common(_MOST_PLACES)
    rows = [place if n == 1 else f"{place} ({n} vCPUs)" for place, n in few]
    if rest := places.total() - sum(n for _, n in few):
        rows.append(f"and {rest} more")
    vcpus = "another vCPU" if len(others) == 1 else f"{len(others)} other vCPUs"
    return [_row("Alike", f"{vcpus} stopped so at that time: {'; '.join(rows)}")]


def _exit_fields(failure: Failure) -> str:
    words = {}
    if failure.exit_reason == EXIT_MEMORY_FAULT and "flags" in failure.exit_fields:
        words["flags"] = memory_fault_flags(failure.exit_fields["flags"])
    elif failure.exit_reason == EXIT_SYSTEM_EVENT and "type" in failure.exit_fields:
        words["type"] = system_event_type(failure.exit_fields["type"])
    shown = (
        f"{safe(name)} {value:#x}" + (f" ({words[name]})" if name in words else "")
        for name, value in failure.exit_fields.items()
    )
    return ", ".join(shown)


def _whereabouts(failure: Failure) -> str:
    source, cpu = failure.source, failure.cpu
    name = f"vCPU {source.vcpu}, " if source.vcpu is not None else ""
    line = f"line {source.line}, " if source.line is not None else ""
    rip = cpu.get("rip") if cpu else None
    return f"{name}{line}RIP {_shown(rip)}"


def _row(label: str, text: str) -> Line:
    return Line(text, "plain", f"{label:<{_LABEL}}", 2)


def _what_happened(facts: Facts) -> list[Line]:
    failure = facts.failure
    lines = [_row("Failure", _failure(facts))]
    source = failure.source
    where = [f"guest {safe(source.guest)}"] if source.guest else []
    where += [safe(source.path)] if source.path else []
    if source.line:
        where.append(f"line {source.line}")
    if source.count > 1:
        where.append(f"seen {source.count} times")
    if where:
        lines.append(_row("Where", ", ".join(where)))
    lines += _cpu_rows(facts)
    lines += _instruction(facts)
    if facts.access and (facts.access.gva is not None or facts.access.gpa is not None or facts.access.what):
        lines.append(_row("Access", _access(facts)))
    if failure.exit_fields:
        lines.append(_row("Exit fields", _exit_fields(failure)))
    if failure.cpu and facts.reset and facts.reset.state in {"reset", "mixture", "zero", "startup"}:
        lines.append(_row("Guest state", facts.reset.why))
    if failure.arch not in {None, "x86"}:
        lines.append(_row("Architecture", safe(f"{failure.arch}: {failure.arch_from}")))
        return lines
    vendor = facts.vendor.vendor
    lines.append(_row("Vendor", f"{vendor.upper() if vendor else 'unknown'}: {safe(facts.vendor.why)}"))
    return lines


def _shown(number: int | None) -> str:
    return "not shown" if number is None else f"{number:#x}"


def _failure(facts: Facts) -> str:
    failure = facts.failure
    match failure.kind:
        case "internal-error":
            if failure.suberror is None:
                return "KVM internal error; its suberror is not shown"
            name = SUBERRORS.get(failure.suberror, "unknown")
            text = _SUBERROR_TEXT.get(failure.suberror, "a suberror that no kernel up to 7.3 has")
            return f"KVM internal error, suberror {failure.suberror} ({name}): {text}"
        case "entry-failure":
            words = facts.entry.sentence if facts.entry else _shown(failure.hardware_error)
            return f"VM entry failed, hardware error {words}"
        case "unknown-exit":
            return f"unknown exit, hardware reason {_reason_words(failure) or _shown(failure.hardware_reason)}"
        case "run-error":
            return f"KVM_RUN failed: {failure.errno or 'an error that is not shown'}"
        case "exception-exit":
            if failure.exception is None:
                return "KVM_EXIT_EXCEPTION; its vector and error code are not shown"
            return f"exception {failure.exception} exit, error code {_shown(failure.exception_error_code)}"
        case "shutdown":
            return "the guest shut down (triple fault)"
        case "setup-refused":
            call = safe(call_in_words(failure.setup.call)) if failure.setup else "a request to KVM"
            return f"{call} was refused: {failure.errno or 'for a reason that is not an errno'}"
        case "symptom":
            return "a symptom; the record of the failure is not in this text"
        case "host-trouble" if failure.source.vmm is not None:
            return "the VMM tells of trouble of the host's"
        case "host-trouble":
            return "no line of a VMM is shown; these are lines of the host's kernel"
        case "not-kvm":
            return f"printed by {safe(failure.speaker.name) if failure.speaker else 'another program'}, not by KVM"
        case "healthy":
            return "none: nothing fails in what is shown"
        case "undef-injected":
            return "KVM refused a register or an instruction, gave the guest an exception, and went on"
        case "unread":
            return "a line about a failure, in a form that kvmwhy does not know"
    if failure.silent:
        return "KVM could not emulate an instruction, gave the guest #UD, and went on: no VMM was told"
    if failure.errno is not None:
        return f"a request to KVM failed: {failure.errno}"
    if failure.exit_reason is not None:
        return f"the vCPU's last exit was {exit_name(failure.exit_reason)} ({failure.exit_reason})"
    if failure.control is not None:
        return f"a dump of the {failure.control.kind.upper()}; what it was printed for is not shown"
    if failure.cpu is None:
        return "no line of a VMM is shown; these are lines of the host's kernel"
    return "a dump of registers; what it was printed for is not shown"


def _reason_words(failure: Failure) -> str | None:
    if failure.arch in {None, "x86"}:
        return None
    from kvmwhy.render.describe.other_arch import hardware_reason

    return hardware_reason(failure)


def _cpu_rows(facts: Facts) -> list[Line]:
    failure = facts.failure
    if failure.arch in {None, "x86"}:
        return [_row("CPU", _cpu(facts))] if failure.cpu or failure.emulation else []
    from kvmwhy.render.describe import other_arch

    rows = (
        ("CPU", other_arch.state(failure)),
        ("Exit", other_arch.exit_words(failure)),
        ("Instruction", other_arch.instruction(failure)),
    )
    return [_row(label, words) for label, words in rows if words]


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
        report = "from KVM's report" if facts.failure.emulation is None else "from the trace of the emulation"
        basis = {"report": report, "code": "from the VMM's dump"}.get(facts.instruction_source or "", "")
        if facts.mode is None and facts.code_mode:
            basis += f", read as {facts.code_mode.bitness}-bit code: {facts.code_mode.why}"
        lines = [_row("Instruction", f"{insn.text}    [{insn.bytes.hex(' ')}] {basis}")]
    elif insn.invalid:
        lines = [_row("Instruction", f"[{insn.bytes.hex(' ')}] is not an instruction")]
    else:
        begins = f", the beginning of {insn.mnemonic}" if insn.mnemonic else ""
        what = "KVM read no more than" if facts.instruction_source == "report" else "cut off after"
        lines = [_row("Instruction", f"{what} [{insn.bytes.hex(' ')}]{begins}")]
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


def _faults(facts: Facts) -> list[Line]:
    """From the first exception to the triple fault."""
    failure = facts.failure
    if not facts.is_x86 or not (failure.faults or failure.kind == "shutdown"):
        return []
    from kvmwhy.diagnosis.triple_fault import sentences

    story = sentences(failure)
    if not story:
        return []
    head = Line(style="head", label="How it came to the triple fault", label_style="head")
    return [Line(), head, *(Line(safe(sentence), "plain", "- ", 2) for sentence in story)]


def _about(facts: Facts) -> list[Line]:
    """A refused set-up, a symptom, or another hypervisor's failure in words."""
    sentences = about(facts.failure)
    if not sentences:
        return []
    head = Line(style="head", label="What it means", label_style="head")
    return [Line(), head, *(Line(safe(sentence), "plain", "- ", 2) for sentence in sentences)]


def _finding(finding: Finding) -> list[Line]:
    lines = [Line(f"{finding.cause.title} ({finding.confidence})", "plain", f"{finding.cause.id}: ", 2)]
    lines += [Line(safe(text), "plain", "+ ", 4, "good") for text in finding.for_]
    lines += [Line(safe(text), "plain", "- ", 4, "bad") for text in finding.against]
    lines += [Line(reference, "dim", "see ", 4) for reference in finding.cause.references]
    return lines


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
    if not failure.data and failure.ndata is None:  # a layout of no words is no layout
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


def page(page: Page) -> list[Line]:
    """One page about a mechanism, an origin or a number."""
    lines = [Line(page.title, "answer"), Line(f"{page.id}, a page about one {_KIND[page.kind]}", "dim"), Line()]
    for head, text in (("What it is", page.what), ("How to recognise it", page.recognise)):
        lines += [Line(style="head", label=head, label_style="head"), Line(text, indent=2), Line()]
    if any(page.fix):
        lines += [Line(style="head", label="What to do", label_style="head"), *_advice(page.fix, 2), Line()]
    if page.see:
        lines += [Line(style="head", label="See also", label_style="head")]
        lines += [Line(reference, "plain", "- ", 2) for reference in page.see]
    return lines


_KIND = {"mechanism": "mechanism: what happened", "origin": "origin: whose doing it was", "number": "error line"}


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
