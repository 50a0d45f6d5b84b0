"""Pages that say what a mechanism, an origin or a number is, for `kvmwhy cause` and for docs/."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.pages.mechanisms import MECHANISMS
from kvmwhy.diagnosis.knowledge.pages.numbers import NUMBERS
from kvmwhy.diagnosis.knowledge.pages.origins import ORIGINS
from kvmwhy.diagnosis.knowledge.pages.page import Page

PAGES: Final[tuple[Page, ...]] = (*MECHANISMS, *ORIGINS, *NUMBERS)

__all__ = ["MECHANISMS", "NUMBERS", "ORIGINS", "PAGES", "Page", "page_of"]


def page_of(wanted: str) -> Page | None:
    """The page with this id, or the one that this text of an error message leads to."""
    text = " ".join(wanted.casefold().replace(".", " ").replace(":", " ").split())
    for page in PAGES:
        if text in {page.id, page.id.replace("-", " "), *page.aliases}:
            return page
    return None
