"""``kvmwhy cause``: the catalogue."""

from __future__ import annotations

import difflib

from kvmwhy.cli.output import complain, show
from kvmwhy.diagnosis import catalogue
from kvmwhy.render.page import Line
from kvmwhy.render.text import cause_page


def run(cause_id: str | None) -> int:
    """List all causes, or show one page; return the exit status."""
    causes = catalogue()
    if cause_id is None:
        width = max(map(len, causes)) + 2
        show([Line(cause.title, "plain", f"{cause.id:<{width}}") for cause in causes.values()])
        return 0
    if cause_id not in causes:
        near = difflib.get_close_matches(cause_id, causes, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `kvmwhy cause` lists them"
        complain(f"no cause {cause_id!r}{hint}")
        return 2
    show(cause_page(causes[cause_id]))
    return 0
