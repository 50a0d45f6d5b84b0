"""What maps of an atlas have in common: a page on which a kernel and what is shown of its map are chosen.

The page needs no script: what is chosen are radio buttons that the style asks with ``:has``. A cell's class has a letter
for each kernel. With a script there is a field to find instructions by name as well.
"""

# ruff: noqa: E501 -- markup
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from kvmwhy import __version__
from kvmwhy.render.html.assets import policy
from kvmwhy.render.html.markup import plain

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --dim: #565b63; --line: #d9dce1; --card: #fff; --page: #f6f7f9;
  --mark: #1f5fc4; --y: #cdebd5; --s: #fbe7a8; --n: #f8cfcb; --x: #e2d5f2; --v: #cfe0f7; --d: #e3e6ea; --o: #f3cfe6; --lit: #ffe58a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --dim: #a9afb7; --line: #363c44; --card: #1b1f24;
  --page: #121518; --mark: #85b4fa; --y: #1d4a2b; --s: #574600; --n: #5c2522; --x: #3f2f57; --v: #1f3a5c; --d: #30353c; --o: #5a2147; --lit: #6b5300; } }
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
SCRIPT: Final = """
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


class Mark(NamedTuple):
    """What a letter means: a sign that is seen without colour, and words."""

    sign: str
    words: str


class Look(NamedTuple):
    """The words of one kind of map. ``marks``: of each letter that has a colour; "-" is not measured, and has none.

    ``good`` is the letter of cells that are left out where only what is ``bad`` is shown.
    """

    marks: Mapping[str, Mark]
    columns: str
    changed: str
    bad: str
    good: str = "y"


class Map(NamedTuple):
    """What the page is made of. ``classes`` are those of its cells (``class_of``); ``sections`` have id and title."""

    title: str
    about: str
    columns: Sequence[Column]
    chosen: int
    classes: Iterable[str]
    sections: Sequence[tuple[str, str]]
    main: str
    rules: str = ""


def page(content: Map, look: Look, *, made: datetime) -> str:
    """The document."""
    style = STYLE + _rules(content, look) + content.rules
    sections = "".join(f'<li><a href="#{name}">{plain(text)}</a></li>' for name, text in content.sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style, SCRIPT)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{plain(content.title)}</title><style>{style}</style></head><body>"
        f"<header><h1>{plain(content.title)}</h1><p>{plain(content.about)}</p></header><main>"
        f"{_choices(content, look)}{_key(look)}"
        f'<nav aria-label="Maps"><ul>{sections}</ul></nav>{content.main}</main>'
        f"<footer>kvmwhy {__version__}, {made:%Y-%m-%d %H:%M %Z}. Nothing on this page is loaded from elsewhere.</footer>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def class_of(outcomes: Iterable[str]) -> str:
    """Of a cell: its letter on each kernel."""
    return "v" + "".join(outcomes)


def history(outcomes: Iterable[str], columns: Sequence[Column]) -> str:
    """``not carried out from 4.19 on, carried out from 7.2 on``, oldest first; or words ``in all``."""
    parts, last = [], ""
    for words, column in zip(outcomes, columns, strict=True):
        if words != last:
            last = words
            parts.append(f"{words} from {column.name} on")
    return ", ".join(parts) if len(parts) > 1 else f"{last} in all"


def _choices(content: Map, look: Look) -> str:
    kernels = "".join(
        f'<label><input type="radio" name="kernel" id="k{n}"{" checked" if n == content.chosen else ""}> '
        f"{plain(column.name)}{f' <b>({plain(column.note)})</b>' if column.note else ''}</label>"
        for n, column in enumerate(content.columns)
    )
    shown = "".join(
        f'<label><input type="radio" name="show" id="s{name}"{" checked" if name == "all" else ""}> {plain(text)}</label>'
        for name, text in (("all", "everything"), ("changed", look.changed), ("bad", look.bad))
    )
    return (
        f"<fieldset><legend>{plain(look.columns)}</legend>{kernels}</fieldset><fieldset><legend>Show</legend>{shown}</fieldset>"
        '<p id="finder" hidden><label for="q">Find an instruction: </label><input type="search" id="q" autocomplete="off" spellcheck="false"> '
        '<span id="count" role="status"></span></p>'
    )


def _key(look: Look) -> str:
    marks = "".join(
        f'<span class="key-{letter}">{mark.sign} {plain(mark.words)}</span>' for letter, mark in look.marks.items()
    )
    return f'<p class="key">{marks}</p>'


def _rules(content: Map, look: Look) -> str:
    """Colours and marks: a cell's class has its outcome in each kernel, and the button says which counts."""
    classes = sorted(set(content.classes))
    rules = [f".key-{letter} {{ background: var(--{letter}); }}" for letter in look.marks]
    for number in range(len(content.columns)):
        chosen = f"body:has(#k{number}:checked)"
        for letter, mark in look.marks.items():
            here = ",".join(f".{name}" for name in classes if name[1 + number] == letter)
            if here:
                rules.append(
                    f'{chosen} :is({here}) {{ background: var(--{letter}); }} {chosen} :is({here}) a::before {{ content: "{mark.sign}"; }}'
                )
        good = ",".join(f".{name}" for name in classes if name[1 + number] == look.good)
        if good:
            rules.append(f"{chosen}:has(#sbad:checked) :is({good}) a {{ visibility: hidden; }}")
            rules.append(f"{chosen}:has(#sbad:checked) :is({good}) {{ background: none; }}")
    same = ",".join(f".{name}" for name in classes if len(set(name[1:]) - {"-"}) < 2)
    if same:
        rules.append(f"body:has(#schanged:checked) :is({same}) a {{ visibility: hidden; }}")
        rules.append(f"body:has(#schanged:checked) main :is({same}):is({same}) {{ background: none; }}")
    return "\n".join(rules)
