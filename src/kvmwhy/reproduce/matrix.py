"""One plan on every kernel that is modelled: where it fails, and where it works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, Literal, NamedTuple

from kvmwhy.reproduce.build import run
from kvmwhy.reproduce.compare import compare, happened
from kvmwhy.reproduce.guest_plan import Plan
from kvmwhy.reproduce.outcome import Outcome, Where

Vendor = Literal["vmx", "svm"]
VENDORS: Final[tuple[Vendor, ...]] = ("vmx", "svm")
RELEASES: Final = (
    *(f"5.{minor}" for minor in range(4, 20)),
    *(f"6.{minor}" for minor in range(20)),
    *(f"7.{minor}" for minor in range(4)),
)


class Span(NamedTuple):
    """Neighbouring releases on which the same happened."""

    vendor: Vendor
    first: str
    last: str
    reproduced: bool
    what: str

    @property
    def releases(self) -> str:
        return self.first if self.first == self.last else f"{self.first}–{self.last}"


def vendors_of(plan: Plan) -> tuple[Vendor, ...]:
    """The vendor that the report is about, or both."""
    shown = tuple(vendor for vendor in VENDORS if vendor == plan.expected.vendor)
    return shown or VENDORS


def matrix(plan: Plan, vendors: Iterable[Vendor], releases: Iterable[str] = RELEASES) -> Iterator[Span]:
    """Raises MachineError if the model cannot be had."""
    releases = tuple(releases)
    for vendor in vendors:
        cells = [(release, *_cell(plan, vendor, release)) for release in releases]
        for (reproduced, what), group in groupby(cells, key=lambda cell: cell[1:]):
            members = [cell[0] for cell in group]
            yield Span(vendor, members[0], members[-1], reproduced, what)


def _cell(plan: Plan, vendor: Vendor, release: str) -> tuple[bool, str]:
    outcome = on_model(plan, vendor, release)
    if outcome.status == "reproduced":
        return True, "the same failure"
    return False, happened(plan, outcome.ended) if outcome.ended else outcome.answer


def on_model(plan: Plan, vendor: Vendor, release: str) -> Outcome:
    from kvmwhy.machine.model import Model

    with Model(kernel=release, vendor=vendor) as machine:
        return compare(plan, run(plan, machine), Where(f"the model of {release}, {vendor}", release, vendor))


def answer(spans: Iterable[Span]) -> str:
    """``fails on 5.10–6.18, works on 7.2 and 7.3``, per vendor."""
    parts = []
    for vendor, group in groupby(spans, key=lambda span: span.vendor):
        rows = list(group)
        fails = [row.releases for row in rows if row.reproduced]
        works = [row.releases for row in rows if not row.reproduced]
        text = f"fails on {_and(fails)}" if fails else "fails on none of the modelled kernels"
        text += f", not on {_and(works)}" if works and fails else ""
        parts.append(f"{vendor}: {text}")
    return "; ".join(parts)


def _and(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]
