"""Write docs/causes.md, mechanisms.md, origins.md and error-lines.md from what `kvmwhy cause ID` shows."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.cause import FAMILIES, Cause, Fix
from kvmwhy.diagnosis.knowledge.pages import MECHANISMS, NUMBERS, ORIGINS, Page

DOCS = Path(__file__).resolve().parent.parent / "docs"
_FILES = (("mechanisms.md", MECHANISMS), ("origins.md", ORIGINS), ("error-lines.md", NUMBERS))
HEAD = """# The catalogue of causes

Made by `python tools/make_catalogue.py` from what `kvmwhy cause ID` shows. An id never changes its meaning. Causes that
begin with `bug-` are known bugs of particular versions; the others are explained by the evidence alone.
"""


def main() -> int:
    """Write the pages, or with --check compare them; 1 if one differs."""
    status = 0
    for name, text in pages().items():
        path = DOCS / name
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{name} is not what tools/make_catalogue.py makes")
            status = 1
    return status


def pages() -> dict[str, str]:
    """Every file of docs/ that is made of knowledge, by its name."""
    return {
        "causes.md": page(),
        "mechanisms.md": about("What happened: the mechanisms", MECHANISMS),
        "origins.md": about("Whose doing it was: the origins", ORIGINS),
        "error-lines.md": about("Which line do you have?", NUMBERS),
    }


def about(head: str, entries: tuple[Page, ...]) -> str:
    """One file of pages."""
    out = [f"# {head}\n", "Made by `python tools/make_catalogue.py` from what `kvmwhy cause ID` shows.\n"]
    known = {entry.id: name for name, group in _FILES for entry in group}
    for entry in entries:
        lines = [f"## {entry.title}", "", f"`{entry.id}`", "", entry.what, "", f"*Recognise it:* {entry.recognise}", ""]
        lines += advice(entry.fix)
        if entry.see:
            links = [f"[{see}]({known[see]}#{anchor(see)})" if see in known else see for see in entry.see]
            lines += [f"*See also:* {'; '.join(links)}", ""]
        out.append("\n".join(lines))
    return "\n".join(out)


def anchor(entry_id: str) -> str:
    """The fragment that Markdown renderers make of the page's heading."""
    title = next(entry.title for _, group in _FILES for entry in group if entry.id == entry_id)
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def advice(fix: Fix) -> list[str]:
    """What each of the three can do."""
    lines: list[str] = []
    for who, text in (("guest's author", fix.guest), ("VMM's author", fix.vmm), ("host's operator", fix.host)):
        if text:
            lines += [f"*What the {who} can do:* {text}", ""]
    return lines


def page() -> str:
    """Every cause, by family."""
    causes = sorted(catalogue().values(), key=lambda cause: FAMILIES.index(cause.family))
    out = [HEAD]
    for family, members in groupby(causes, key=lambda cause: cause.family):
        out.append(f"## {family}\n")
        out += [entry(cause) for cause in members]
    return "\n".join(out)


def entry(cause: Cause) -> str:
    """One cause."""
    lines = [f"### {cause.title}", "", f"`{cause.id}`", "", cause.what, ""]
    lines += [f"*Recognise it:* {cause.recognise}", "", f"*Confused with:* {cause.confused_with}", ""]
    lines += advice(cause.fix)
    lines += [f"*Example:* {cause.example}", "", "*References:*", "", *(f"- {text}" for text in cause.references), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
