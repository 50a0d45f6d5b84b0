"""The atlas as one page: a heat map of the opcode space, and below it what each kernel makes of each form.

The page needs no script: which kernel is shown, and what of the map, are radio buttons that the style asks with
``:has``. With one there is a field to find instructions by name as well.
"""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from kvmwhy import __version__
from kvmwhy.emulator import wording
from kvmwhy.render.html.assets import policy
from kvmwhy.render.html.markup import plain
from kvmwhy.render.opcode_map import Cell, Form, Outcome, Panel

_WORDS: Final[dict[Outcome, str]] = {
    "y": "carried out", "s": "some forms carried out", "n": "not carried out", "x": "the guest gets an exception",
    "-": "not measured",
}  # fmt: skip
_MARKS: Final[dict[Outcome, str]] = {"y": "✓", "s": "◐", "n": "✗", "x": "!", "-": "·"}
_MOST_NAMES: Final = 3

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #565b63; --line: #d9dce1; --card: #fff; --page: #f6f7f9;
  --mark: #1f5fc4; --y: #cdebd5; --s: #fbe7a8; --n: #f8cfcb; --x: #e2d5f2; --lit: #ffe58a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #a9afb7; --line: #363c44; --card: #1b1f24;
  --page: #121518; --mark: #85b4fa; --y: #1d4a2b; --s: #574600; --n: #5c2522; --x: #3f2f57; --lit: #6b5300; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1.25rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 0 0 .5rem; } p { margin: .4rem 0; }
a { color: var(--mark); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 1px; border-radius: 2px; }
section, fieldset, nav { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1rem 0; }
fieldset { padding: .4rem 1rem .6rem; } fieldset label { display: inline-block; margin: .15rem .9rem .15rem 0; }
legend { color: var(--dim); } .dim, caption, footer { color: var(--dim); } caption { text-align: left; font-size: .9em; }
input[type=search] { font: inherit; width: 20rem; max-width: 100%; padding: .3rem .5rem; color: var(--ink); background: var(--page);
  border: 1px solid var(--dim); border-radius: 4px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; }
.map { table-layout: fixed; min-width: 66rem; width: 100%; } .map th { font: .75em ui-monospace, monospace; color: var(--dim); font-weight: 400; padding: 2px; }
.map th[scope=row] { width: 2rem; } .map td { border: 1px solid var(--card); padding: 0; height: 2.1rem; }
.map td a { display: block; height: 100%; padding: 1px 3px; font: .68em/1.2 ui-monospace, monospace; color: var(--ink); text-decoration: none;
  overflow: hidden; white-space: nowrap; text-overflow: ellipsis; } .map td a::before { display: block; font-size: .95em; }
.list th, .list td { text-align: left; vertical-align: top; font-weight: 400; padding: .2rem .9rem .2rem 0; }
.list td.c, .list th.c { font: .85em/1.6 ui-monospace, monospace; white-space: nowrap; } thead th { color: var(--dim); border-bottom: 1px solid var(--line); }
tr:target { background: var(--lit); } .off { display: none; } .map td.off { display: table-cell; } .map td.off a { visibility: hidden; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.5rem; list-style: none; padding: 0; margin: 0; }
summary { cursor: pointer; color: var(--mark); } .key span { display: inline-block; padding: 0 .5rem; margin: .15rem .6rem .15rem 0; border-radius: 4px; }
@media (max-width: 38rem) { body { padding: .6rem; } section, nav { padding: .7rem; } }
@media print { body { max-width: none; padding: 0; font-size: 10px; } fieldset, nav, #finder { display: none; } .map { min-width: 0; }
  .map td, .key span { print-color-adjust: exact; } .scroll { overflow: visible; } }
"""

# Find by name: what does not match is left out of the lists, and empty in the maps.
_SCRIPT: Final = """
(function () {
  var finder = document.getElementById('finder'), field = document.getElementById('q'), count = document.getElementById('count');
  finder.hidden = false;
  field.addEventListener('input', function () {
    var wanted = field.value.trim().toLowerCase(), shown = 0;
    document.querySelectorAll('[data-m]').forEach(function (each) {
      var off = wanted !== '' && each.dataset.m.indexOf(wanted) < 0;
      each.classList.toggle('off', off);
      if (!off && each.tagName === 'TR') { shown += 1; }
    });
    document.querySelectorAll('details').forEach(function (each) { each.open = wanted !== '' && each.querySelector('tr[data-m]:not(.off)') !== null; });
    count.textContent = wanted === '' ? '' : shown + ' forms';
  });
})();
"""


class Column(NamedTuple):
    """A kernel to choose. ``note`` stands behind its name: this host's."""

    name: str
    note: str = ""


class Content(NamedTuple):
    """What the page shows: maps of 256 opcodes."""

    title: str
    about: str
    columns: Sequence[Column]
    chosen: int
    panels: Sequence[Panel]


def page(content: Content, *, made: datetime) -> str:
    """The document."""
    style = _STYLE + _rules(content)
    body = "".join(_panel(panel, content) for panel in content.panels)
    contents = "".join(f'<li><a href="#p{panel.id}">{plain(panel.title)}</a></li>' for panel in content.panels)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style, _SCRIPT)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{plain(content.title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{plain(content.title)}</h1><p>{plain(content.about)}</p></header><main>"
        f"{_choices(content)}{_key()}"
        f'<nav aria-label="Maps"><ul>{contents}</ul></nav>{body}</main>'
        f"<footer>kvmwhy {__version__}, {made:%Y-%m-%d %H:%M %Z}. Nothing on this page is loaded from elsewhere.</footer>"
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _choices(content: Content) -> str:
    kernels = "".join(
        f'<label><input type="radio" name="kernel" id="k{n}"{" checked" if n == content.chosen else ""}> '
        f"{plain(column.name)}{f' <b>({plain(column.note)})</b>' if column.note else ''}</label>"
        for n, column in enumerate(content.columns)
    )
    shown = "".join(
        f'<label><input type="radio" name="show" id="s{name}"{" checked" if name == "all" else ""}> {text}</label>'
        for name, text in (
            ("all", "everything"),
            ("changed", "what changed between these kernels"),
            ("bad", "what is not carried out"),
        )
    )
    return (
        f"<fieldset><legend>Linux</legend>{kernels}</fieldset><fieldset><legend>Show</legend>{shown}</fieldset>"
        '<p id="finder" hidden><label for="q">Find an instruction: </label><input type="search" id="q" autocomplete="off" spellcheck="false"> '
        '<span id="count" role="status"></span></p>'
    )


def _key() -> str:
    marks = "".join(
        f'<span class="key-{outcome}">{_MARKS[outcome]} {word}</span>'
        for outcome, word in _WORDS.items()
        if outcome != "-"
    )
    return f'<p class="key">{marks}</p>'


def _rules(content: Content) -> str:
    """Colours and marks: a cell's class has its outcome in each kernel, and the button says which counts."""
    classes = sorted({_class(cell) for panel in content.panels for cell in panel.cells.values()})
    rules = [f".key-{outcome} {{ background: var(--{outcome}); }}" for outcome in "ysnx"]
    for number in range(len(content.columns)):
        chosen = f"body:has(#k{number}:checked)"
        for outcome in ("y", "s", "n", "x"):
            here = ",".join(f".{name}" for name in classes if name[1 + number] == outcome)
            if here:
                rules.append(
                    f'{chosen} :is({here}) {{ background: var(--{outcome}); }} {chosen} :is({here}) a::before {{ content: "{_MARKS[outcome]}"; }}'
                )
        good = ",".join(f".{name}" for name in classes if name[1 + number] == "y")
        if good:
            rules.append(f"{chosen}:has(#sbad:checked) :is({good}) a {{ visibility: hidden; }}")
            rules.append(f"{chosen}:has(#sbad:checked) :is({good}) {{ background: none; }}")
    same = ",".join(f".{name}" for name in classes if len(set(name[1:]) - {"-"}) < 2)
    if same:
        rules.append(f"body:has(#schanged:checked) :is({same}) a {{ visibility: hidden; }}")
        rules.append(f"body:has(#schanged:checked) main :is({same}):is({same}) {{ background: none; }}")
    return "\n".join(rules)


def _class(cell: Cell) -> str:
    return "v" + "".join(cell.outcomes)


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
    what = f"{plain(names)} ({cell.opcode:02x}): {_history(cell, content)}"
    return (
        f'<td class="{_class(cell)}" data-m="{plain(" ".join(cell.names))}"><a href="#o{panel.id}-{cell.opcode:02x}"'
        f' title="{what}" aria-label="{what}">{plain(cell.names[0])}</a></td>'
    )


def _history(cell: Cell, content: Content) -> str:
    """``not carried out up to 6.18, carried out from 7.2 on``, oldest first."""
    parts, last = [], ""
    for outcome, column in zip(cell.outcomes, content.columns, strict=True):
        if _WORDS[outcome] != last:
            last = _WORDS[outcome]
            parts.append(f"{last} from {plain(column.name)} on")
    return ", ".join(parts) if len(parts) > 1 else f"{last} in all"


def _form(panel: Panel, cell: Cell, form: Form, *, first: bool) -> str:
    place = f' id="o{panel.id}-{cell.opcode:02x}"' if first else ""
    spans = wording.spans(form.row)
    newest = wording.say(spans[-1].verdict) if spans else "not measured"
    return (
        f'<tr{place} data-m="{plain(form.text.lower())}"><td class="c">{plain(panel.id)} {cell.opcode:02x}</td><th scope="row" class="c">{plain(form.text)}</th>'
        f"<td>{', '.join(form.modes)}</td><td>{plain(newest)}</td><td>{plain(wording.since(form.row))}</td></tr>"
    )
