"""What an answer rests on, as parts of a page: the words, the page walk, the kernels, the registers, the last events."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from kvmwhy.arch.x86.paging import paging_mode
from kvmwhy.arch.x86.reset_state import by_register
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Cpu
from kvmwhy.render.html.markup import linked, number, plain, prose
from kvmwhy.render.html.pictures import time_line
from kvmwhy.render.trace_event import event_line

_MOST_EVENTS: Final = 24
_A_ROW: Final = 4  # registers
_LMA: Final = 1 << 10
_LONG: Final = frozenset({"long64", "compat32", "compat16"})
# The table of each level, and the lowest bit of the linear address that it looks at (SDM vol. 3A, 4.3 to 4.5).
_LEVELS: Final[dict[str, tuple[tuple[str, int], ...]]] = {
    "32-bit": (("PDE", 22), ("PTE", 12)),
    "pae": (("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
    "4-level": (("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
    "5-level": (("PML5E", 48), ("PML4E", 39), ("PDPTE", 30), ("PDE", 21), ("PTE", 12)),
}
_TOPS: Final = {"32-bit": 32, "pae": 32, "4-level": 48, "5-level": 57}
_FRAMES: Final = {"32-bit": 0xFFFF_F000, "pae": 0xFFFF_FFE0}
_FRAME: Final = 0x000F_FFFF_FFFF_F000
_NAMES_IN_CODE: Final = re.compile(r"[a-z]\w{1,4}")
_FIRST_WORDS: Final = {"final": 3, "final-no-bytes": 1}


# -- the words -----------------------------------------------------------------------------------


def words(facts: Facts, lines: Container[int]) -> str:
    """Each raw word with what it means and the line that it stands in; else the sentences alone."""
    failure = facts.failure
    sentences = list(facts.explained.sentences) if facts.explained else []
    meaning = _meanings(facts, sentences)
    rest = [sentence for sentence in sentences if sentence not in meaning.values()]
    rows = "".join(
        f'<tr id="w{n}"><th scope="row">data[{n}]</th><td class="c">{number(f"0x{word:016x}", word)}</td>'
        f"<td>{prose(meaning.get(n, ''))}</td><td>{_line(failure.seen_at.get(f'data[{n}]'), lines)}</td></tr>"
        for n, word in enumerate(failure.data)
    )
    listed = "".join(f"<li>{prose(sentence)}</li>" for sentence in rest)
    return (f"<ul>{listed}</ul>" if listed else "") + (f'<table class="words">{rows}</table>' if rows else "")


def _meanings(facts: Facts, sentences: list[str]) -> dict[int, str]:
    """The sentence of each word, which names the word's value: they are in one order."""
    meaning: dict[int, str] = {}
    at = 0
    for sentence in sentences:
        head = sentence.partition(":")[0].rpartition(" ")[2]
        try:
            value = int(head, 0)
        except ValueError:
            continue
        here = next(
            (n for n in range(at, len(facts.failure.data)) if facts.failure.data[n] == value and n >= _first(facts)),
            None,
        )
        if here is not None:
            meaning[here], at = sentence, here + 1
    if (first := _first(facts)) == 3:
        meaning[0] = "flags: the record has the instruction's bytes"
        meaning[1] = "the count of the instruction's bytes, and the first of them"
        meaning[2] = "the rest of the instruction's bytes"
    elif first == 1:
        meaning[0] = "flags"
    return meaning


def _first(facts: Facts) -> int:
    """Where the words of the exit begin: behind flags and instruction bytes, in suberror 1's layouts that have them."""
    reading = facts.reading
    if facts.failure.suberror != 1 or reading is None or reading.failure.layout not in _FIRST_WORDS:
        return 0
    return _FIRST_WORDS[reading.failure.layout]


def _line(line: int | None, lines: Container[int]) -> str:
    if line is None:
        return ""
    return f'<a href="#L{line}">line {line}</a>' if line in lines else f"line {line}"


# -- the page walk -------------------------------------------------------------------------------


def ladder(facts: Facts) -> str:
    """Where the CPU looks a linear address up: which entry of which table, level by level."""
    access, cpu = facts.access, facts.failure.cpu
    paging = _paging(facts)
    if access is None or access.gva is None or cpu is None or paging is None:
        return ""
    cr3 = cpu.get("cr3")
    gva = access.gva if _TOPS[paging] > 32 else access.gva & 0xFFFF_FFFF
    size = 4 if paging == "32-bit" else 8
    rungs, top = [], _TOPS[paging]
    table = "the table at CR3" if cr3 is None else f"CR3 {number(f'{cr3:#x}', cr3)}"
    for n, (name, shift) in enumerate(_LEVELS[paging]):
        index = gva >> shift & (1 << top - shift) - 1
        at = (
            f", at {number(f'{place:#x}', place)}"
            if n == 0 and cr3 is not None and (place := (cr3 & _FRAMES.get(paging, _FRAME)) + index * size)
            else ""
        )
        rungs.append(f"<li><b>{name}</b> {index:#x} of {table}{at} <small>bits {top - 1}–{shift}</small></li>")
        table, top = f"the table that the {name} names", shift
    rungs.append(
        f"<li><b>offset</b> {gva & 0xFFF:#x} <small>bits 11–0; an entry with PS set ends the walk sooner</small></li>"
    )
    if access.gpa is not None:
        rungs.append(f"<li><b>physical</b> {number(f'{access.gpa:#x}', access.gpa)}</li>")
    return f'<h3>Page walk of {number(f"{gva:#x}", gva)}, {paging} paging</h3><ol class="walk">{"".join(rungs)}</ol>'


def _paging(facts: Facts) -> str | None:
    """None where paging is off, or where that is not shown."""
    cpu, mode = facts.failure.cpu, facts.mode
    if cpu is None or mode is None or (cr0 := cpu.get("cr0")) is None or not facts.is_x86:
        return None
    efer = _LMA if mode.name in _LONG else cpu.get("efer") or 0
    paging = paging_mode(cr0, cpu.get("cr4") or 0, efer)
    return None if paging == "none" else paging


# -- the kernels ---------------------------------------------------------------------------------


def kernels(facts: Facts) -> str:
    """What the measured kernels do with this instruction: a strip with this host's marked, and in words."""
    insn, mode = facts.instruction, facts.code_mode
    if not facts.emulated or insn is None or not insn.complete or mode is None:
        return ""
    from kvmwhy.abi.uname import series_of
    from kvmwhy.emulator import wording
    from kvmwhy.emulator.atlas import atlas

    row = atlas().look_up(insn.bytes, mode.name)
    if row is None:
        return ""
    here = series_of(facts.failure.host.kernel)
    measured = {
        kernel.series: verdict.is_right
        for kernel, verdict in zip(row.kernels, row.verdicts, strict=True)
        if verdict is not None and kernel.vendor == "svm" and not kernel.module_args
    }
    outcomes: dict[tuple[int, int], bool | None] = dict(measured)
    if here is not None and here not in outcomes:
        answer = row.in_kernel(here)
        known = answer.below or answer.above
        outcomes[here] = None if answer.changed or known is None else known[1].is_right
    strip = "".join(_chip(version, works, is_here=version == here) for version, works in sorted(outcomes.items()))
    rows = [
        f'<tr><th scope="row">{label} {plain(wording.series(span.kernels))}</th>'
        f'<td class="{"good" if span.verdict.is_right else "bad"}">'
        f"{linked(wording.say(span.verdict))}</td></tr>"
        for vendor, label in (("svm", "kvm-amd"), ("vmx", "kvm-intel"))
        for span in wording.spans(row, vendor)
    ]
    if not rows:
        return ""
    kernel = facts.failure.host.kernel
    host = (
        f"<p>This host runs Linux {plain(kernel)}.</p>" if kernel else "<p>Which kernel the host runs is not shown.</p>"
    )
    return f'<p>Rightly carried out by kvm-amd, where it was measured:</p><ol class="strip">{strip}</ol>{host}<table>{"".join(rows)}</table>'


def _chip(version: tuple[int, int], works: bool | None, *, is_here: bool) -> str:
    kind, mark = (
        ("open", "? not measured") if works is None else ("good", "✓ carried out") if works else ("bad", "✗ not")
    )
    here = " here" if is_here else ""
    return f'<li class="{kind}{here}"><b>{version[0]}.{version[1]}</b> {mark}{" <small>this host</small>" if is_here else ""}</li>'


# -- the registers -------------------------------------------------------------------------------


def shown_registers(facts: Facts) -> Container[str]:
    """The registers and segments that have a place on the page."""
    cpu = facts.failure.cpu
    return {*cpu.registers, *cpu.segments} if cpu is not None and cpu.is_dump else frozenset()


def registers(facts: Facts) -> str:
    """What differs from the CPU's state at reset, with what the instruction names marked; then the rest."""
    cpu = facts.failure.cpu
    if cpu is None or not cpu.is_dump:
        return ""
    at_reset = by_register(cpu) if facts.is_x86 else {}
    differ = [name for name in cpu.registers if at_reset.get(name) is False]
    others = [name for name in cpu.registers if at_reset.get(name) is not False]
    why = f"<p>{prose(facts.reset.why)}</p>" if facts.reset and facts.is_x86 else ""
    if not facts.is_x86 or not facts.reset or not differ:
        return f"{why}{_table(facts, cpu, list(cpu.registers))}{_segments(cpu)}"
    rest = (
        f"<details><summary>{len(others)} more: as at reset, or without one value there</summary>{_table(facts, cpu, others)}</details>"
        if others
        else ""
    )
    return f"{why}<h3>Differ from reset</h3>{_table(facts, cpu, differ)}{rest}{_segments(cpu)}"


def _table(facts: Facts, cpu: Cpu, names: list[str]) -> str:
    used = set(_NAMES_IN_CODE.findall(facts.instruction.text or "")) if facts.instruction else set()
    cells = []
    for name in names:
        value = cpu.registers[name]
        mark = " class=here" if not used.isdisjoint({name, name[1:], f"e{name[1:]}"}) else ""
        cells.append(
            f'<th scope="row" id="r-{plain(name)}"{mark}>{plain(name.upper())}</th><td class="c">{number(f"{value:#x}", value)}</td>'
        )
    rows = "".join(f"<tr>{''.join(cells[at : at + _A_ROW])}</tr>" for at in range(0, len(cells), _A_ROW))
    return f'<div class="scroll"><table>{rows}</table></div>'


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
    head = "".join(f'<th scope="col">{name}</th>' for name in ("register", "selector", "base", "limit", "attributes"))
    return (
        f'<details><summary>Segments</summary><div class="scroll"><table><tr>{head}</tr>{rows}</table></div></details>'
    )


# -- the last events -----------------------------------------------------------------------------


def events(facts: Facts) -> str:
    """The end of the trace: guest's and host's time as a bar, and each event with its distance to the last."""
    shown = facts.failure.trace[-_MOST_EVENTS:]
    if not shown:
        return ""
    end = next((event.time for event in reversed(shown) if event.time is not None), 0.0)
    isa = next((isa for event in facts.failure.trace if isinstance(isa := event.fields.get("isa"), int)), None)
    rows = "".join(
        f'<tr><td class="c">{"" if event.time is None else f"{(event.time - end) * 1e6:+,.0f} µs"}</td>'
        f'<td class="c">{linked(event_line(event, isa=isa))}</td></tr>'
        for event in shown
    )
    head = '<tr><th scope="col">before the last</th><th scope="col">event</th></tr>'
    return f'{time_line(shown)}<div class="scroll"><table>{head}{rows}</table></div>'
