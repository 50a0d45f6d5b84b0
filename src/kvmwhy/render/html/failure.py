"""One failure as an article: the answer, what to do, the pictures, the evidence, and the log it was read from."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.answer import Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Failure
from kvmwhy.render.code_pane import Row, code_rows
from kvmwhy.render.describe import about
from kvmwhy.render.html.evidence import events, kernels, ladder, registers, shown_registers, words
from kvmwhy.render.html.markup import linked, number, plain, proof, prose
from kvmwhy.render.html.pictures import memory_map, share
from kvmwhy.render.remarks import damage
from kvmwhy.render.screen import DOER, commands, where
from kvmwhy.render.whose import phrase, whose

_ROLES: Final = {"guest": "Guest's author", "vmm": "VMM's author", "host": "Host's operator"}
_NEIGHBOURS: Final = 5
_LEAST_SHARE: Final = 0.02


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
        _section("The access", memory_map(facts) + ladder(facts)),
        _section("What the words say", words(facts, excerpt.numbers)),
        _section("Why this answer", _why(diagnosis, excerpt)),
        _section("Whose doing it was", _whose(diagnosis, excerpt)),
        _section("What each kernel makes of it", kernels(facts)),
        _section("Registers", registers(facts)),
        _section("Before the failure", events(facts)),
        _section("About the evidence", _bullets(damage(facts))),
        _section("The log", _log(diagnosis, excerpt)),
    ]
    # No text has a raw quotation mark, so that these are the markup's own.
    body = "".join(sections).replace(' id="', f' id="f{ordinal}-').replace(' href="#', f' href="#f{ordinal}-')
    return f'<article id="f{ordinal}">{body}</article>'


def _section(head: str, body: str, kind: str = "") -> str:
    return f"<section{kind}><h2>{head}</h2>{body}</section>" if body else ""


def _bullets(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{prose(text)}</li>" for text in texts) + "</ul>" if texts else ""


def _answer(diagnosis: Diagnosis, others: Sequence[Failure]) -> str:
    sentence = whose(diagnosis.origins, diagnosis.mechanism and diagnosis.mechanism.id)
    doing = f"<p>{plain(sentence)}</p>" if sentence else ""
    meaning = _bullets(about(diagnosis.failure))
    return (
        f'<section class="answer"><h1>{prose(diagnosis.answer)}</h1>'
        f'<p class="dim">{plain(where(diagnosis, others))}</p>{doing}{meaning}</section>'
    )


def _what_to_do(diagnosis: Diagnosis) -> str:
    """Each role's advice, that of the one whose doing it most likely was in front; what would settle it; commands."""
    doer = DOER.get(diagnosis.origins[0].id) if diagnosis.origins else None
    advice: list[tuple[str, str]] = [(entry.role, entry.text) for entry in diagnosis.advice]
    if not advice:
        advice = [(who, text) for who, text in diagnosis.findings[0].advice._asdict().items() if text]
    advice.sort(key=lambda entry: entry[0] != doer)
    rows = "".join(
        f"<dt{' class=first' if who == doer else ''}>{_ROLES[who]}</dt><dd>{prose(text)}</dd>" for who, text in advice
    )
    wanted = _bullets(diagnosis.collect)
    parts = [f"<dl>{rows}</dl>" if rows else "", f"<h3>What would settle it</h3>{wanted}" if wanted else ""]
    path = diagnosis.failure.source.path or "FILE"
    lines = [
        f"kvmwhy {command}" + ("" if command.startswith("cause") else f" {path}") for command in commands(diagnosis)
    ]
    parts.append(f"<h3>Go on with</h3><pre>{chr(10).join(map(plain, lines))}</pre>")
    return "".join(parts)


def _place(row: Row) -> str:
    return "" if row.address is None else number(f"{row.address:#x}", row.address)


def _code(facts: Facts) -> str:
    """The instruction between its neighbours, and where its operands lay."""
    rows = code_rows(facts, before=_NEIGHBOURS, behind=_NEIGHBOURS)
    if not rows:
        return ""
    body = "".join(
        f'<tr{" class=here" if row.at_rip else ""}><td class="c">{_place(row)}</td>'
        f'<td class="c">{row.code.hex(" ")}</td><td class="c">{linked(row.text or "(cut off)")}</td></tr>'
        for row in rows
    )
    operands = [
        f"{operand.access} of {operand.size or 'some'} bytes at {operand.linear:#x}"
        for operand in facts.operands
        if operand.linear is not None
    ]
    return f'<div class="scroll"><table>{body}</table></div>{_bullets(operands)}'


def _why(diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    mechanism = diagnosis.mechanism
    if mechanism is None:
        return ""
    body = _proofs(mechanism.for_, mechanism.against, diagnosis, excerpt)
    return f"<p><code>{plain(mechanism.id)}</code>, {mechanism.certainty}</p>{body}"


def _proofs(for_: Sequence[Proof], against: Sequence[Proof], diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    def shown(evidence: Proof) -> str:
        words, names = len(diagnosis.failure.data), shown_registers(diagnosis.facts)
        return proof(evidence, lines=excerpt.numbers, words=words, registers=names)

    rows = [f'<li><b class="good">+</b> {shown(evidence)}</li>' for evidence in for_]
    rows += [f'<li><b class="bad">−</b> {shown(evidence)}</li>' for evidence in against]
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
            f"<details{' open' if n == 0 else ''}><summary>What speaks {'for it and against it' if origin.for_ and origin.against else 'against it' if origin.against else 'for it'}</summary>{proofs}</details>"
            if proofs
            else ""
        )
        parts.append(
            f'<div class="share"><span>{name}{reports}</span>{share(origin.share)}'
            f"<span>{round(origin.share * 100)} %</span></div>{more}"
        )
    return "".join(parts)


def _log(diagnosis: Diagnosis, excerpt: Excerpt) -> str:
    """The lines as they were, numbered; those that a fact was read from are marked."""
    if not excerpt.lines:
        return ""
    source = diagnosis.failure.source
    fact_lines = {source.line, *diagnosis.failure.seen_at.values()}
    width = len(str(excerpt.numbers.stop))
    lines = "".join(
        f'<span class="l{" said" if n in fact_lines else ""}" id="L{n}">{n:>{width}}  {linked(line)}</span>'
        for n, line in zip(excerpt.numbers, excerpt.lines, strict=True)
    )
    return f'<pre tabindex="0">{lines}</pre>'
