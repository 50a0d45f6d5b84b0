"""Write docs/causes.md from the catalogue itself: the pages that `kvmwhy cause ID` shows."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.cause import FAMILIES, Cause

PAGE = Path(__file__).resolve().parent.parent / "docs" / "causes.md"
HEAD = """# The catalogue of causes

Made by `python tools/make_catalogue.py` from what `kvmwhy cause ID` shows. An id never changes its meaning. Causes that
begin with `bug-` are known bugs of particular versions; the others are explained by the evidence alone.
"""


def main() -> int:
    """Write the page, or with --check compare it; 1 if it differs."""
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print(f"{PAGE.name} is not what tools/make_catalogue.py makes")
        return 1
    return 0


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
    for who, advice in (("guest's author", cause.fix.guest), ("VMM's author", cause.fix.vmm), ("host", cause.fix.host)):
        if advice:
            lines += [f"*What the {who} can do:* {advice}", ""]
    lines += [f"*Example:* {cause.example}", "", "*References:*", "", *(f"- {text}" for text in cause.references), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
