"""A diagnosis on one screen: the answer, where, the code, whose doing, what to do, and the commands that say more.

It fits 24 rows of 80 columns with room for the prompt. What does not fit is in ``explanation``, which is all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from kvmwhy.abi.internal_error import SUBERRORS
from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.arch.x86.operand import Operand
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.answer import Origin
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import hexadecimal
from kvmwhy.record import Failure
from kvmwhy.render.address_bar import address_bar, drawn
from kvmwhy.render.code_pane import Row, code_rows
from kvmwhy.render.page import Line, fold
from kvmwhy.render.safe import safe
from kvmwhy.render.whose import percent, phrase

Role = Literal["guest", "vmm", "host"]

ROWS: Final = 22
_WIDTH: Final = 80
_LABEL: Final = 9
_LEAST_SHARE: Final = 0.08
_MOST_ORIGINS: Final = 3
_OPEN: Final = 0.5  # a share below which what is missing is worth a line
_MOST_PROOFS: Final = 2
_PATH: Final = 40  # of a file's name
_LONGEST_PATH: Final = 4096  # PATH_MAX: of the one that an editor or grep's reader is to open
_CODE: Final = 24  # columns of an instruction's bytes
# Who can act on an origin; the CPU's and the confidential stack's updates are the host's to install.
DOER: Final = {
    "guest-code": "guest", "guest-firmware": "guest", "vm-configuration": "vmm", "vmm": "vmm", "vmm-race": "vmm",
    "host-kernel": "host", "host-setup": "host", "outer-hypervisor": "host", "cpu": "host",
    "confidential-stack": "host", "host-dying": "host",
}  # fmt: skip
_SENTENCE_END: Final = re.compile(r"\.(?= [A-Z])")
_ROLES: Final = {"guest": "guest", "vmm": "VMM", "host": "host"}


def screen(
    diagnosis: Diagnosis,
    others: Sequence[Failure] = (),
    *,
    syntax: Syntax = "intel",
    role: Role | None = None,
    number: int | None = None,
) -> list[Line]:
    """At most ``ROWS`` rows. ``role``: only what this one can do; ``number``: which of an input's failures it is."""
    facts = diagnosis.facts
    head = [Line(safe(diagnosis.answer), "answer"), Line(where(diagnosis, others), "dim", "", 2)]
    tail = [*_whose(diagnosis), *_fixes(diagnosis, role)]
    if missing := _missing(diagnosis):
        tail.append(missing)
    if torn := facts.failure.damage:
        more_torn = f" (and {len(torn) - 1} more)" if len(torn) > 1 else ""
        tail.append(Line(safe(torn[0], 150) + more_torn, "bad", _label("torn"), 2))
    more = [Line("kvmwhy " + " · ".join(commands(diagnosis, number)), "dim", _label("more"), 2)]
    room = ROWS - _rows(head) - _rows(tail) - _rows(more) - 2
    picture = next((lines for lines in pictures(diagnosis, syntax) if 0 < _rows(lines) <= room), None)
    lines = [*head, *([Line(), *picture] if picture else []), Line(), *tail, *more]
    return lines if _rows(lines) <= ROWS else [*_cut(lines[:-1], ROWS - _rows(more)), *more]


def brief(diagnosis: Diagnosis) -> list[Line]:
    """One line: what, whose, where."""
    source = diagnosis.failure.source
    place = safe(source.path or "-", _LONGEST_PATH) + (f":{source.line}" if source.line else "")
    mechanism = diagnosis.mechanism.id if diagnosis.mechanism else "undecided"
    doing = f"{diagnosis.origins[0].id} {_percent(diagnosis.origins[0])}" if diagnosis.origins else "-"
    return [Line(f"{place}: {mechanism}: {doing}: {safe(diagnosis.answer)}", whole=True)]


def table(diagnoses: Sequence[tuple[Diagnosis, Sequence[Failure]]]) -> list[Line]:
    """Many failures, a line each: number, what, whose, how often, where."""
    rows = [("n", "what happened", "whose doing", "count", "where")]
    several = len({diagnosis.failure.source.path for diagnosis, _ in diagnoses}) > 1
    for number, (diagnosis, others) in enumerate(diagnoses, 1):
        source = diagnosis.failure.source
        rows.append(
            (
                str(number),
                diagnosis.mechanism.id if diagnosis.mechanism else "undecided",
                f"{diagnosis.origins[0].id} {_percent(diagnosis.origins[0])}" if diagnosis.origins else "",
                str(source.count + sum(other.source.count for other in others)),
                _place(source.path, source.line, named=several),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [Line(text, "head" if n == 0 else "plain", whole=True) for n, text in enumerate(lines)]


def _place(path: str | None, line: int | None, *, named: bool) -> str:
    """The line; with the file, if there are several."""
    if not named and line:
        return f"line {line}"
    return _end(safe(path or "-"), _PATH) + (f":{line}" if line else "")


def _rows(lines: Sequence[Line]) -> int:
    return sum(len(fold(line, _WIDTH)) for line in lines)


def _cut(lines: list[Line], rows: int) -> list[Line]:
    """The first lines that fit."""
    kept: list[Line] = []
    for line in lines:
        if _rows([*kept, line]) > rows:
            break
        kept.append(line)
    return kept


def _label(text: str) -> str:
    return f"{text:<{_LABEL}}"


def where(diagnosis: Diagnosis, others: Sequence[Failure]) -> str:
    """Mechanism, place in the input, who ran it, how often: parts that are known."""
    facts, failure = diagnosis.facts, diagnosis.failure
    source, host = failure.source, failure.host
    mechanism = diagnosis.mechanism
    place = _end(safe(source.path or ""), _PATH) + (f":{source.line}" if source.line else "")
    vendor = facts.vendor.vendor
    name = (
        "" if failure.suberror is None else f"suberror {failure.suberror} {SUBERRORS.get(failure.suberror, '')}".strip()
    )
    count = source.count + sum(other.source.count for other in others)
    parts = (
        f"{mechanism.id} ({mechanism.certainty})" if mechanism else "",
        place.lstrip(":") if source.path else place.replace(":", "line "),
        name,
        f"{safe(source.vmm)} {safe(host.qemu or '')}".strip() if source.vmm else "",
        f"Linux {safe(host.kernel, 40)}" if host.kernel else "",
        vendor.upper() if vendor else failure.arch if failure.arch not in {None, "x86"} else "",
        f"{facts.mode.name}{f', CPL {facts.cpl}' if facts.cpl is not None else ''}" if facts.mode else "",
        f"{source.alike} vCPUs" if source.alike > 1 else f"vCPU {source.vcpu}" if source.vcpu is not None else "",
        f"{count} times" if count > source.alike else "",
    )
    return " · ".join(part for part in parts if part)


def _end(text: str, most: int) -> str:
    """Of a long path the end says more."""
    return text if len(text) <= most else "…" + text[-most + 1 :]


# -- the picture ---------------------------------------------------------------------------------


def pictures(diagnosis: Diagnosis, syntax: Syntax) -> Iterator[list[Line]]:
    """The code and the access; or one of them; or, without any, what the answer rests on."""
    facts = diagnosis.facts
    code, bar = _code(facts, syntax), _bar(facts, diagnosis.answer)
    if faults := _faults(facts):
        yield [*faults, *code]
        yield faults
    yield [*code, *bar]
    yield code
    yield bar
    yield _proofs(diagnosis)


def _faults(facts: Facts) -> list[Line]:
    """From the first exception to the triple fault."""
    failure = facts.failure
    if not facts.is_x86 or not (failure.faults or failure.kind == "shutdown"):
        return []
    from kvmwhy.diagnosis.triple_fault import sentences

    return [Line(safe(sentence), "plain", "- ", 2) for sentence in sentences(failure)]


def _code(facts: Facts, syntax: Syntax) -> list[Line]:
    """The instructions around RIP, with the operand computed."""
    rows = code_rows(facts, syntax=syntax, before=1, behind=1)
    width = max((len(hexadecimal(row.address)) for row in rows if row.address is not None), default=0)
    lines = [_code_line(row, width) for row in rows]
    operand = next((o for o in facts.operands if o.linear is not None), None)
    if rows and operand is not None:
        place = next(n for n, row in enumerate(rows) if row.at_rip)
        lines.insert(place + 1, Line(_operand(operand), "bad", " " * (width + 6), 0, whole=True))
    return lines


def _code_line(row: Row, width: int) -> Line:
    mark = "  >" if row.at_rip else "   "
    code = row.code.hex(" ")
    code = code if len(code) < _CODE else code[: _CODE - 2] + "…"
    place = "" if row.address is None else f"{row.address:#{width}x}  "
    text = f"{mark} {place}{code:<{_CODE}}{safe(row.text or '(cut off)')}"
    return Line(text, "plain" if row.at_rip else "dim", whole=True)


def _operand(operand: Operand) -> str:
    size = f"{operand.size} bytes" if operand.size else "an operand"
    return f"^ {operand.access} of {size} at {operand.linear:#x}"


def _bar(facts: Facts, answer: str) -> list[Line]:
    """The access in the guest's address space; what lives there, unless the answer has said so."""
    access = facts.access
    if access is None or access.gpa is None:
        return []
    bar = address_bar(access.gpa, ram_bytes=facts.failure.host.ram_bytes)
    if bar is None:
        return []
    ruler, ink, mark = drawn(bar)
    words = f"{access.kind} at {access.gpa:#x}"
    if access.what and access.what not in answer:
        words += f": {access.what}"
    room = _WIDTH - 6 - len(mark)
    below = (
        f"{mark} {words}" if len(words) <= room else f"{' ' * max(0, len(mark) - len(words) - 2)}{words} {mark.strip()}"
    )
    if len(below) > _WIDTH - 4:
        return [*(_drawn(text) for text in (ruler, ink, mark)), Line(safe(words), "bad", "", 4)]
    return [_drawn(ruler), _drawn(ink), Line(" " * 4 + safe(below), "bad", whole=True)]


def _drawn(text: str) -> Line:
    return Line(" " * 4 + text, "dim", whole=True)


def _proofs(diagnosis: Diagnosis) -> list[Line]:
    """Where there is no code to show: what the answer rests on."""
    proofs = diagnosis.mechanism.for_ if diagnosis.mechanism else ()
    return [Line(safe(proof.text, 150), "plain", "+ ", 4, "good") for proof in proofs[:_MOST_PROOFS]]


# -- whose, what to do, and what to ask next ----------------------------------------------------------


def _whose(diagnosis: Diagnosis) -> list[Line]:
    origins, mechanism = diagnosis.origins, diagnosis.mechanism.id if diagnosis.mechanism else None
    named = [origin for origin in origins if origin.share >= _LEAST_SHARE][:_MOST_ORIGINS]
    if not named:
        return []
    text = ", ".join(f"{phrase(origin.id, mechanism)} {_percent(origin)}" for origin in named)
    reports = sum(origin.reports for origin in origins)
    counted = f" (by the mechanism alone, {origins[0].reports} of {reports} public reports)" if reports else ""
    return [Line(text + counted, "plain", _label("whose"), 2)]


def _percent(origin: Origin) -> str:
    return percent(origin.share).replace(" %", "%").replace("over ", ">")


def _fixes(diagnosis: Diagnosis, role: Role | None) -> list[Line]:
    """One for each role; first for the one whose doing it most likely was."""
    doer = DOER.get(diagnosis.origins[0].id) if diagnosis.origins else None
    advice: list[tuple[str, str]] = [(entry.role, entry.text) for entry in diagnosis.advice]
    if not advice:
        advice = [(who, text) for who, text in diagnosis.findings[0].advice._asdict().items() if text]
    first: dict[str, str] = {}
    for who, text in advice:
        if role is None or who == role:
            first.setdefault(who, text)
    first = dict(sorted(first.items(), key=lambda entry: entry[0] != doer))
    labels = ["fix", *[""] * len(first)]
    return [
        Line(safe(_first_sentence(text)), "plain", f"{_label(label)}{_ROLES[who] + ':':<7}", 2)
        for label, (who, text) in zip(labels, first.items(), strict=False)
    ]


def _first_sentence(text: str) -> str:
    """What to do; why, and what else, is in the whole text."""
    end = _SENTENCE_END.search(text)
    return text if end is None else text[: end.start() + 1]


def _missing(diagnosis: Diagnosis) -> Line | None:
    """What would settle it, where whose doing it was is open."""
    if not diagnosis.collect or (diagnosis.origins and diagnosis.origins[0].share >= _OPEN):
        return None
    return Line(safe(diagnosis.collect[0]), "plain", _label("missing"), 2)


def commands(diagnosis: Diagnosis, number: int | None = None) -> list[str]:
    """What to ask kvmwhy next, without its name and the file's."""
    wanted = ["explain --full" + (f" --number {number}" if number is not None else "")]
    if diagnosis.mechanism:
        wanted.append(f"cause {diagnosis.mechanism.id}")
    if diagnosis.failure.suberror == 1 and diagnosis.facts.instruction is not None:
        wanted.append("reproduce")
    return [*wanted, "redact"]
