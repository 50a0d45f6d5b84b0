"""The shape of a page."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from kvmwhy.diagnosis.cause import Fix


class Page(Struct, frozen=True):
    """One page. ``id`` never changes its meaning.

    ``phrase`` fits into a sentence: of an origin it is who did it, of a mechanism what happened. ``aliases`` are other
    things that people type for it, in lower case, without full stops and colons.
    """

    id: str
    kind: Literal["mechanism", "origin", "number"]
    title: str
    phrase: str
    what: str
    recognise: str
    fix: Fix = Fix()
    see: tuple[str, ...] = ()  # ids of other pages, and sources
    aliases: tuple[str, ...] = ()
