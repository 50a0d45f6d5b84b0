"""The atlas of x86 as one page: a heat map of the opcode space, and below it what each kernel makes of each form."""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from kvmwhy.emulator import wording
from kvmwhy.render.html import map_page
from kvmwhy.render.html.map_page import Column, Look, Map, Mark, class_of, history
from kvmwhy.render.html.markup import plain
from kvmwhy.render.opcode_map import Cell, Form, Panel

_LOOK: Final = Look(
    {
        "y": Mark("✓", "carried out"),
        "s": Mark("◐", "some forms carried out"),
        "n": Mark("✗", "not carried out"),
        "x": Mark("!", "the guest gets an exception"),
    },
    columns="Linux",
    changed="what changed between these kernels",
    bad="what is not carried out",
)
_WORDS: Final = {letter: mark.words for letter, mark in _LOOK.marks.items()} | {"-": "not measured"}
_MOST_NAMES: Final = 3


class Content(NamedTuple):
    """What the page shows: maps of 256 opcodes."""

    title: str
    about: str
    columns: Sequence[Column]
    chosen: int
    panels: Sequence[Panel]


def page(content: Content, *, made: datetime) -> str:
    """The document."""
    shown = Map(
        content.title,
        content.about,
        content.columns,
        content.chosen,
        classes=(class_of(cell.outcomes) for panel in content.panels for cell in panel.cells.values()),
        sections=[(f"p{panel.id}", panel.title) for panel in content.panels],
        main="".join(_panel(panel, content) for panel in content.panels),
    )
    return map_page.page(shown, _LOOK, made=made)


def _panel(panel: Panel, content: Content) -> str:
    count = sum(len(cell.forms) for cell in panel.cells.values())
    rows = "".join(
        _form(panel, cell, form, first=n == 0) for cell in panel.cells.values() for n, form in enumerate(cell.forms)
    )
    return (
        f'<section id="p{panel.id}"><h2>{plain(panel.title)}</h2>{_grid(panel, content)}'
        f"<details><summary>{count} forms, one of those that fare alike</summary>"
        f'<div class="scroll" tabindex="0" role="group" aria-label="Forms of {plain(panel.title)}"><table class="list"><thead><tr>'
        '<th scope="col">opcode</th><th scope="col">form</th><th scope="col">in code of</th><th scope="col">newest kernel</th><th scope="col">carried out since</th>'
        f"</tr></thead><tbody>{rows}</tbody></table></div></details></section>"
    )


def _grid(panel: Panel, content: Content) -> str:
    head = "".join(f'<th scope="col">{low:x}</th>' for low in range(16))
    lines = []
    for high in range(16):
        cells = "".join(_cell(panel, panel.cells.get(high << 4 | low), content) for low in range(16))
        lines.append(f'<tr><th scope="row">{high:x}</th>{cells}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="Map: {plain(panel.title)}"><table class="map">'
        f"<caption>Row: the opcode's high digit; column: the low one</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(panel: Panel, cell: Cell | None, content: Content) -> str:
    if cell is None:
        return "<td></td>"
    names = ", ".join(cell.names[:_MOST_NAMES]) + (" …" if len(cell.names) > _MOST_NAMES else "")
    what = f"{plain(names)} ({cell.opcode:02x}): {plain(history([_WORDS[outcome] for outcome in cell.outcomes], content.columns))}"
    return (
        f'<td class="{class_of(cell.outcomes)}" data-m="{plain(" ".join(cell.names))}"><a href="#o{panel.id}-{cell.opcode:02x}"'
        f' title="{what}" aria-label="{what}">{plain(cell.names[0])}</a></td>'
    )


def _form(panel: Panel, cell: Cell, form: Form, *, first: bool) -> str:
    place = f' id="o{panel.id}-{cell.opcode:02x}"' if first else ""
    spans = wording.spans(form.row)
    newest = wording.say(spans[-1].verdict) if spans else "not measured"
    return (
        f'<tr{place} data-m="{plain(form.text.lower())}"><td class="c">{plain(panel.id)} {cell.opcode:02x}</td><th scope="row" class="c">{plain(form.text)}</th>'
        f"<td>{', '.join(form.modes)}</td><td>{plain(newest)}</td><td>{plain(wording.since(form.row))}</td></tr>"
    )
