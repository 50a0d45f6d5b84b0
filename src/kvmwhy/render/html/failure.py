"""One failure as an article: the answer, what to do, the pictures, the evidence, and the log it was read from."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.answer import Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Cpu, Failure
from kvmwhy.render.code_pane import code_rows
from kvmwhy.render.describe import about
from kvmwhy.render.html.markup import linked, number, plain, proof
from kvmwhy.render.html.pictures import memory_map, share
from kvmwhy.render.remarks import damage
from kvmwhy.render.screen import commands, where
from kvmwhy.render.trace_event import event_line
from kvmwhy.render.whose import percent, phrase

_ROLES: Final = {"guest": "Guest's author", "vmm": "VMM's author", "host": "Host's operator"}
_NEIGHBOURS: Final = 5
_MOST_EVENTS: Final = 24
_LEAST_SHARE: Final = 0.02
_A_ROW: Final = 4  # registers


class Excerpt(NamedTuple):
    """The lines that a failure was read from; ``first`` is the number of the first of them."""

    first: int = 1
    lines: tuple[str, ...] = ()

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + len(self.lines))


def article(diagnosis: Diagnosis, others: Sequence[Failure], excerpt: Excerpt, ordinal: int) -> str:
    """The whole of one failure. ``ordinal`` counts those of the page."""
    facts = diagnosis.facts
    sections = [
        _answer(diagnosis, others),
        _section("What to do", _what_to_do(diagnosis)),
        _section("The code", _code(facts)),
        _section("The access", memory_map(facts) + _walk(facts)),
        _section("What the words say", _words(facts)),
        _section("Why this answer", _why(diagnosis, excerpt)),
        _section("Whose doing it was", _whose(diagnosis, excerpt)),
        _section("Kernels that can carry it out", _kernels(facts)),
        _section("Registers", _registers(facts)),
        _section("Before the failure", _events(facts)),
        _section("About the evidence", _bullets(damage(facts))),
        _section("The log", _log(diagnosis, excerpt)),
    ]
    # No text has a raw quotation mark, so that these are the markup's own.
    body = "".join(sections).replace(' id="', f' id="f{ordinal}-').replace(' href="#', f' href="#f{ordinal}-')
    return f'<article id="f{ordinal}">{body}</article>'


def _section(head: str, body: str, kind: str = "") -> str:
    return f"<section{kind}><h2>{head}</h2>{body}</section>" if body else ""


def _bullets(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{linked(text)}</li>" for text in texts) + "</ul>" if texts else ""


def _answer(diagnosis: Diagnosis, others: Sequence[Failure]) -> str:
    best = diagnosis.origins[:1]
    doing = "".join(
        f"<p>Most likely {plain(phrase(o.id, diagnosis.mechanism and diagnosis.mechanism.id))}: {percent(o.share)}.</p>"
        for o in best
    )
    meaning = _bullets(about(diagnosis.failure))
    return (
        f'<section class="answer"><h1>{linked(diagnosis.answer)}</h1>'
        f'<p class="dim">{plain(where(diagnosis, others))}</p>{doing}{meaning}</section>'
    )


def _what_to_do(diagnosis: Diagnosis) -> str:
    advice: list[tuple[str, str]] = [(entry.role, entry.text) for entry in diagnosis.advice]
    if not advice:
        advice = [(who, text) for who, text in diagnosis.findings[0].advice._asdict().items() if text]
    rows = "".join(f"<dt>{_ROLES[who]}</dt><dd>{linked(text)}</dd>" for who, text in advice)
    wanted = _bullets(diagnosis.collect)
    parts = [f"<dl>{rows}</dl>" if rows else "", f"<h3>What would settle it</h3>{wanted}" if wanted else ""]
    path = diagnosis.failure.source.path or "FILE"
    lines = [f"kvmwhy {line}" + ("" if line.startswith("cause") else f" {path}") for line in commands(diagnosis)]
    parts.append(f"<h3>Go on with</h3><pre>{chr(10).join(map(plain, lines))}</pre>")
    return "".join(parts)


def _code(facts: Facts) -> str:
    """The instruction amid its neighbours, and where its operands lay."""
    rows = code_rows(facts, before=_NEIGHBOURS, behind=_NEIGHBOURS)
    if not rows:
        return ""
    body = "".join(
        f'<tr{" class=here" if row.at_rip else ""}><td class="c">{number(f"{row.address:#x}", row.address)}</td>'
        f'<td class="c">{row.code.hex(" ")}</td><td class="c">{linked(row.text or "(cut off)")}</td></tr>'
        for row in rows
    )
    operands = [
        f"{operand.access} of {operand.size or 'some'} bytes at {operand.linear:#x}"
        for operand in facts.operands
        if operand.linear is not None
    ]
    return f'<div class="scroll"><table>{body}</table></div>{_bullets(operands)}'


_LEVELS: Final = (("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12))


def _walk(facts: Facts) -> str:
    """Where the CPU looks a linear address up: the index into each table of four levels."""
    access, cpu = facts.access, facts.failure.cpu
    cr3, cr4 = (cpu.get(name) if cpu else None for name in ("cr3", "cr4"))
    long = facts.mode is not None and facts.mode.name in {"long64", "compat32", "compat16"}
    if access is None or access.gva is None or cr3 is None or not long or (cr4 or 0) & 1 << 12:
        return ""
    steps = [f"CR3 {number(f'{cr3:#x}', cr3)}"]
    steps += [f"{name} [{access.gva >> shift & 0x1FF:#x}]" for name, shift in _LEVELS]
    steps.append(f"offset {access.gva & 0xFFF:#x}")
    if access.gpa is not None:
        steps.append(f"physical {number(f'{access.gpa:#x}', access.gpa)}")
    items = "".join(f"<li>{step}</li>" for step in steps)
    return f"<h3>Page walk of {number(f'{access.gva:#x}', access.gva)}</h3><ol class=walk>{items}</ol>"


def _words(facts: Facts) -> str:
    """The raw words, each with its index, and the sentences that they make."""
    failure = facts.failure
    rows = "".join(
        f'<tr id="w{n}"><th scope="row">data[{n}]</th><td class="c">{number(f"0x{word:016x}", word)}</td></tr>'
        for n, word in enumerate(failure.data)
    )
    sentences = _bullets(facts.explained.sentences if facts.explained else ())
    return sentences + (f"<table>{rows}</table>" if rows else "")


def _why(diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    mechanism = diagnosis.mechanism
    if mechanism is None:
        return ""
    body = _proofs(mechanism.for_, mechanism.against, diagnosis, excerpt)
    return f"<p><code>{plain(mechanism.id)}</code>, {mechanism.certainty}</p>{body}"


def _proofs(for_: Sequence[Proof], against: Sequence[Proof], diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    words = len(diagnosis.failure.data)
    rows = [f'<li><b class="good">+</b> {proof(p, lines=excerpt.numbers, words=words)}</li>' for p in for_]
    rows += [f'<li><b class="bad">−</b> {proof(p, lines=excerpt.numbers, words=words)}</li>' for p in against]
    return f"<ul>{''.join(rows)}</ul>" if rows else ""


def _whose(diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    """Each origin worth naming, with its share, its public reports, and what speaks for and against it."""
    total = sum(origin.reports for origin in diagnosis.origins)
    parts = []
    for n, origin in enumerate(diagnosis.origins):
        if origin.share < _LEAST_SHARE:
            break
        name = plain(phrase(origin.id, diagnosis.mechanism and diagnosis.mechanism.id))
        reports = f" <small>{origin.reports} of {total} public reports</small>" if total else ""
        proofs = _proofs(origin.for_, origin.against, diagnosis, excerpt)
        more = (
            f"<details{' open' if n == 0 else ''}><summary>What speaks for it</summary>{proofs}</details>"
            if proofs
            else ""
        )
        parts.append(
            f'<div class="share"><span>{name}{reports}</span>{share(origin.share)}'
            f"<span>{round(origin.share * 100)} %</span></div>{more}"
        )
    return "".join(parts)


def _kernels(facts: Facts) -> str:
    """What the measured kernels do with this instruction, this host's marked."""
    insn, mode = facts.instruction, facts.code_mode
    if not facts.emulated or insn is None or not insn.complete or mode is None:
        return ""
    from kvmwhy.emulator import wording
    from kvmwhy.emulator.atlas import atlas

    row = atlas().look_up(insn.bytes, mode.name)
    if row is None:
        return ""
    rows = [
        f'<tr><th scope="row">{label} {plain(wording.series(span.kernels))}</th>'
        f'<td class="{"good" if span.verdict.kind == "emulated" and not span.verdict.wrong else "bad"}">'
        f"{linked(wording.say(span.verdict))}</td></tr>"
        for vendor, label in (("svm", "kvm-amd"), ("vmx", "kvm-intel"))
        for span in wording.spans(row, vendor)
    ]
    kernel = facts.failure.host.kernel
    host = f"<p>This host runs Linux {plain(kernel)}.</p>" if kernel else ""
    return f"{host}<table>{''.join(rows)}</table>" if rows else ""


def _registers(facts: Facts) -> str:
    """General and control registers, and the segments; what an access used stands out by its value."""
    cpu = facts.failure.cpu
    if cpu is None or not cpu.is_dump:
        return ""
    cells = [
        f'<th scope="row" id="r-{plain(name)}">{plain(name.upper())}</th><td class="c">{number(f"{value:#x}", value)}</td>'
        for name, value in cpu.registers.items()
    ]
    rows = "".join(f"<tr>{''.join(cells[at : at + _A_ROW])}</tr>" for at in range(0, len(cells), _A_ROW))
    why = f"<p>{linked(facts.reset.why)}</p>" if facts.reset and facts.is_x86 else ""
    return f'{why}<div class="scroll"><table>{rows}</table></div>{_segments(cpu)}'


def _segments(cpu: Cpu) -> str:
    rows = "".join(
        f'<tr><th scope="row" id="r-{plain(name)}">{plain(name.upper())}</th>'
        + "".join(
            f'<td class="c">{number(f"{value:#x}", value)}</td>'
            for value in (segment.selector, segment.base, segment.limit, segment.attributes)
        )
        + "</tr>"
        for name, segment in cpu.segments.items()
    )
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "selector", "base", "limit", "attributes"))
    return (
        f'<details><summary>Segments</summary><div class="scroll"><table><tr>{head}</tr>{rows}</table></div></details>'
    )


def _events(facts: Facts) -> str:
    """The end of the trace, each event with its distance to the last."""
    events = facts.failure.trace[-_MOST_EVENTS:]
    if not events:
        return ""
    end = next((event.time for event in reversed(events) if event.time is not None), 0.0)
    isa = next((isa for event in facts.failure.trace if isinstance(isa := event.fields.get("isa"), int)), None)
    rows = "".join(
        f'<tr><td class="c">{"" if event.time is None else f"{(event.time - end) * 1e6:+,.0f} µs"}</td>'
        f'<td class="c">{linked(event_line(event, isa=isa))}</td></tr>'
        for event in events
    )
    return f'<div class="scroll"><table>{rows}</table></div>'


def _log(diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    """The lines as they were, numbered; those that a fact was read from are marked."""
    if not excerpt.lines:
        return ""
    source = diagnosis.failure.source
    said = {source.line, *diagnosis.failure.seen_at.values()}
    width = len(str(excerpt.numbers.stop))
    lines = "".join(
        f'<span class="l{" said" if n in said else ""}" id="L{n}">{n:>{width}}  {linked(line)}</span>'
        for n, line in zip(excerpt.numbers, excerpt.lines, strict=True)
    )
    return f'<pre tabindex="0">{lines}</pre>'
