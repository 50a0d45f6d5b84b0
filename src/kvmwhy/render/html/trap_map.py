"""The atlas of arm64 or riscv64 as one page: families of accesses by setups, and below it what becomes of each form."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, NamedTuple

from kvmwhy.emulator import trap_wording
from kvmwhy.render.html import map_page
from kvmwhy.render.html.map_page import Column, Look, Map, Mark, class_of, history
from kvmwhy.render.html.markup import plain
from kvmwhy.render.trap_map import Cell, End, Family, Form

_MARKS: Final = {
    "y": Mark("✓", "KVM_EXIT_MMIO"),
    "v": Mark("?", "KVM_EXIT_ARM_NISV: the VMM has to decode it"),
    "n": Mark("✗", "KVM_RUN fails"),
    "x": Mark("!", "the guest gets an exception"),
    "d": Mark("○", "no fault, and nobody is told"),
    "o": Mark("∞", "KVM_RUN does not return, or otherwise"),
    "s": Mark("◐", "not all of its forms alike"),
}
_NONE: Final = "not on this CPU"
_MOST: Final = 2  # ends that a cell names

_STYLE: Final = """
.map { table-layout: auto; } .map th[scope=row] { width: auto; font: .85em system-ui, sans-serif; color: var(--ink); text-align: left; white-space: nowrap; position: sticky; left: 0; background: var(--card); padding-right: .5rem; }
.map th[scope=col], .map th[scope=colgroup] { vertical-align: bottom; font: .75em/1.3 system-ui, sans-serif; } .map th[scope=colgroup] { border-bottom: 1px solid var(--line); }
.map td { height: 2.9rem; min-width: 4.5rem; } .map td a { white-space: normal; } .map td a::before { display: inline; margin-right: .3em; } .map i { font-style: normal; display: none; }
.list td { max-width: 60rem; } @media (max-width: 38rem) { .map th[scope=row] { white-space: normal; max-width: 6.5rem; } }
"""


class Content(NamedTuple):
    """What the page shows. ``setups`` are the columns of the map, kernels on emulated CPUs the ``columns`` to choose."""

    arch: str
    title: str
    about: str
    columns: Sequence[Column]
    chosen: int
    setups: Sequence[str]
    families: Sequence[Family]


def page(content: Content, *, made: datetime) -> str:
    """The document."""
    there = {fate for family in content.families for cell in family.cells for fate in cell.fates}
    look = Look(
        {letter: mark for letter, mark in _MARKS.items() if letter in there},
        columns="Linux, and the emulated CPU",
        changed="where these differ",
        bad="what is not wholly KVM_EXIT_MMIO",
    )
    sections = [("map", "All families"), *((_id(family), family.name) for family in content.families)]
    # The text of a cell is that of the chosen column.
    chosen = "".join(
        f"body:has(#k{number}:checked) .map .t{number} {{ display: inline; }}\n"
        for number in range(len(content.columns))
    )
    shown = Map(
        content.title,
        content.about,
        content.columns,
        content.chosen,
        classes=(class_of(cell.fates) for family in content.families for cell in family.cells),
        sections=sections,
        main=_map(content) + "".join(_section(family, content.arch) for family in content.families),
        rules=_STYLE + chosen,
    )
    return map_page.page(shown, look, made=made)


def _id(family: Family) -> str:
    return "f-" + family.name.lower().replace(" ", "-")


def _map(content: Content) -> str:
    names = [trap_wording.split(setup) for setup in content.setups]
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(list(held))}">{plain(trap_wording.VMMS[option])}</th>'
        for option, held in groupby(option for _, option in names)
    )
    head = "".join(f'<th scope="col">{plain(name)}</th>' for name, _ in names)
    rows = "".join(
        f'<tr><th scope="row">{plain(family.name)}</th>'
        + "".join(_cell(family, cell, setup, content) for cell, setup in zip(family.cells, content.setups, strict=True))
        + "</tr>"
        for family in content.families
    )
    return (
        '<section id="map"><h2>All families</h2><div class="scroll" tabindex="0" role="group" aria-label="Map: all families">'
        f'<table class="map"><caption>Row: the kind of instruction; column: what the VMM asks for, and how the guest accesses</caption>'
        f"<thead><tr><td></td>{groups}</tr><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _cell(family: Family, cell: Cell, setup: str, content: Content) -> str:
    past = history([_ends(counts) for counts in cell.counts], content.columns)
    what = plain(f"{family.name}, {trap_wording.setup_names([setup])}: {past}")
    texts = "".join(f'<i class="t{number}">{plain(_brief(counts))}</i>' for number, counts in enumerate(cell.counts))
    return (
        f'<td class="{class_of(cell.fates)}" data-m="{plain(" ".join(family.mnemonics))}">'
        f'<a href="#{_id(family)}" title="{what}">{texts}</a></td>'
    )


def _ends(counts: Sequence[tuple[str, int]]) -> str:
    """``48 ENOSYS and 48 no fault``; of one end without its number."""
    if not counts:
        return _NONE
    if len(counts) == 1:
        return counts[0][0]
    return " and ".join(f"{count} {words}" for words, count in counts)


def _brief(counts: Sequence[tuple[str, int]]) -> str:
    if not counts:
        return _NONE
    words = ", ".join(words for words, _ in counts[:_MOST])
    return words + (" …" if len(counts) > _MOST else "")


def _section(family: Family, arch: str) -> str:
    count = sum(form.alike for form in family.forms)
    rows = "".join(_form(form, arch) for form in family.forms)
    return (
        f'<section id="{_id(family)}"><h2>{plain(family.name)}</h2><details><summary>{count} forms, one of those that fare alike</summary>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="Forms: {plain(family.name)}"><table class="list"><thead><tr>'
        '<th scope="col">form</th><th scope="col">word</th><th scope="col">forms</th><th scope="col">what becomes of it</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _form(form: Form, arch: str) -> str:
    ends = "".join(_end(end, is_only=len(form.ends) == 1) for end in form.ends)
    digits = trap_wording.digits(form.word, arch)
    name = form.text or f".inst 0x{digits}"
    return (
        f'<tr data-m="{plain(name.lower())}"><th scope="row" class="c">{plain(name)}</th><td class="c">{digits}</td>'
        f"<td>{form.alike}</td><td>{ends}</td></tr>"
    )


def _end(end: End, *, is_only: bool) -> str:
    where = "" if is_only else f'<span class="dim">{plain(", ".join(column.name for column in end.columns))}: </span>'
    if len(end.outcomes) == 1:
        return f"<div>{where}{plain(end.outcomes[0][0])} in every setup</div>"
    usual, *others = sorted(end.outcomes, key=lambda outcome: len(outcome[1]), reverse=True)
    special = "; ".join(
        f"<b>{plain(words)}</b> ({plain(trap_wording.setup_names(setups))})" for words, setups in others
    )
    return f"<div>{where}{special}; else <b>{plain(usual[0])}</b></div>"
