"""``kvmwhy cause``: the catalogue, and the pages on mechanisms, origins and numbers."""

from __future__ import annotations

import difflib
import re
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
    if (syndrome := _syndrome(wanted)) is not None:
        show(syndrome)
        return 0
    names = [*causes, *(entry.id for entry in (*MECHANISMS, *ORIGINS, *NUMBERS))]
    near = difflib.get_close_matches(wanted, names, 1)
    hint = f"; did you mean {near[0]}?" if near else "; `kvmwhy cause` lists them"
    complain(f"no cause {wanted!r}{hint}")
    return 2


def _syndrome(wanted: str) -> list[Line] | None:
    """A number that is nothing else, as Arm's ESR: its exception class is known, and IL says 32-bit instruction."""
    from kvmwhy.abi.arm64 import esr

    if not re.fullmatch(r"0x[0-9a-fA-F]{7,16}", wanted) or not (number := int(wanted, 16)) & esr.IL:
        return None
    if esr.exception_class(number) not in esr.CLASSES or number >> 37:
        return None
    lines = [Line(f"As ESR_EL2 of arm64: {esr.describe(number)}.", "answer")]
    lines += [Line(text, "plain", "- ", 2) for text in esr.sentences(number)]
    if esr.is_undescribed_access(number):
        lines += [Line(), Line("kvmwhy cause arm64-no-syndrome", "plain", "What to do: ", 2, whole=True)]
    return lines


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
