"""Whose doing it was, in words: the shares as a sentence, and what to do in the order of the shares."""

from __future__ import annotations

from functools import cache
from typing import Final

from kvmwhy.diagnosis.answer import Origin

_SURE: Final = 0.75
_MORE_LIKELY_THAN_NOT: Final = 0.5
_WORTH_NAMING: Final = 0.08
_MOST_NAMED: Final = 3
_ALL: Final = 0.994
_ITSELF: Final = "that hypervisor itself"


@cache
def _phrases() -> dict[str, str]:
    from kvmwhy.diagnosis.knowledge.pages.origins import ORIGINS

    return {page.id: page.phrase for page in ORIGINS}


def phrase(origin: str, mechanism: str | None = None) -> str:
    """The origin as a part of a sentence; an unknown one, of a stored record, as it is.

    Of another hypervisor's failure the share of the host's kernel is that of what stands in KVM's place.
    """
    if mechanism == "not-this" and origin == "host-kernel":
        return _ITSELF
    return _phrases().get(origin, origin)


def whose(origins: tuple[Origin, ...], mechanism: str | None = None) -> str | None:
    """One sentence: the likeliest with its share and the public reports behind it, then the others worth naming."""
    if not origins:
        return None
    best, *others = origins
    name = phrase(best.id, mechanism)
    named = [o for o in others if o.share >= _WORTH_NAMING][: _MOST_NAMED - 1]
    rest = "; else ".join([""] + [f"{phrase(o.id, mechanism)} ({percent(o.share)})" for o in named])
    if best.share >= _SURE:
        return f"Whose doing: very likely {name} ({percent(best.share)}{_reports(origins)}){rest}."
    if best.share >= _MORE_LIKELY_THAN_NOT:
        return f"Whose doing: most likely {name} ({percent(best.share)}{_reports(origins)}){rest}."
    rest = rest.replace("else ", "or ")
    return f"Whose doing is open: {name} ({percent(best.share)}{_reports(origins)}){rest}."


def percent(share: float) -> str:
    """Of what is weighed nothing is sure."""
    return "over 99 %" if share > _ALL else f"{round(share * 100)} %"


def _reports(origins: tuple[Origin, ...]) -> str:
    """How many of the public reports of this mechanism were its doing: before the signs of this one are weighed."""
    total = sum(origin.reports for origin in origins)
    return f"; by the mechanism alone, {origins[0].reports} of {total} public reports" if total else ""
