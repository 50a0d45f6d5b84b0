"""``kvmwhy cause``: the catalogue, and the pages on mechanisms, origins and numbers."""

from __future__ import annotations

import difflib
from typing import Final

from kvmwhy.cli.output import complain, show
from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.knowledge.pages import MECHANISMS, NUMBERS, ORIGINS, page_of
from kvmwhy.render.page import Line
from kvmwhy.render.text import cause_page, page

_WIDTH: Final = 28


def run(wanted: str | None) -> int:
    """List everything, or show one page; return the exit status."""
    causes = catalogue()
    if wanted is None:
        show(_index())
        return 0
    if (found := page_of(wanted)) is not None:
        show(page(found))
        return 0
    if wanted in causes:
        show(cause_page(causes[wanted]))
        return 0
    names = [*causes, *(entry.id for entry in (*MECHANISMS, *ORIGINS, *NUMBERS))]
    near = difflib.get_close_matches(wanted, names, 1)
    hint = f"; did you mean {near[0]}?" if near else "; `kvmwhy cause` lists them"
    complain(f"no cause {wanted!r}{hint}")
    return 2


def _index() -> list[Line]:
    """Every page, a line each."""
    lines: list[Line] = []
    for head, pages in (("What happened", MECHANISMS), ("Whose doing it was", ORIGINS), ("Error lines", NUMBERS)):
        lines += [Line(style="head", label=head, label_style="head")]
        lines += [Line(entry.title, "plain", f"{entry.id:<{_WIDTH}}", 2) for entry in pages]
        lines.append(Line())
    lines.append(Line(style="head", label="Causes and known bugs", label_style="head"))
    lines += [Line(cause.title, "plain", f"{cause.id:<{_WIDTH}} ", 2) for cause in catalogue().values()]
    return lines
