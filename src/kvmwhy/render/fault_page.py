"""A family of faults of KVM's emulation, and the list of them, as lines."""

from __future__ import annotations

from kvmwhy.emulator.faults import FAMILIES, PAGE, Family
from kvmwhy.emulator.faults.history import since
from kvmwhy.emulator.faults.wording import tried
from kvmwhy.render.page import Line

_WIDTH = 30


def pointer(family: Family) -> Line:
    """Where one instruction of it is shown."""
    return Line(f"kvmwhy cause {family.id}, {PAGE}", "plain", "Fault: ", 2, whole=True)


def listing() -> list[Line]:
    """One line each."""
    lines = [Line("What KVM carries out wrongly up to 7.3, or never finishes, by cause", "answer")]
    lines += [Line(family.title, "plain", f"{family.id:<{_WIDTH}} ", 2) for family in FAMILIES]
    return lines


def page(family: Family) -> list[Line]:
    """All that is known of one."""
    lines = [Line(f"{family.prefix}: {family.title}", "answer"), Line(f"{family.id}, a fault of KVM", "dim"), Line()]
    for head, text in sections(family):
        lines += [Line(style="head", label=head, label_style="head"), Line(text, indent=2), Line()]
    form = "c|selftest" if family.arch == "x86" else "c"
    lines += [
        Line(style="head", label="Run it", label_style="head"),
        Line(f"kvmwhy atlas --faults {family.id} --export {form}", indent=2, whole=True),
    ]
    return lines


def sections(family: Family) -> list[tuple[str, str]]:
    """Headings and texts, without what is not known."""
    named = (
        ("On a CPU", family.manual),
        ("What KVM does", family.does),
        ("Where", family.place),
        ("Why", family.why),
        ("Since when", since(family)),
        ("Who meets it", family.harm),
        ("Also", family.also),
        ("On a real CPU", family.silicon),
        ("Earlier reports and fixes", family.known),
        ("Suggestion", f"{family.suggestion} {tried(family)}".rstrip()),
    )
    return [(head, text) for head, text in named if text]
