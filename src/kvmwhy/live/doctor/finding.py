"""One thing that a check-up found."""

from __future__ import annotations

from typing import Literal, NamedTuple

Grade = Literal["good", "note", "bad"]


class Finding(NamedTuple):
    """``topic`` and ``grade`` are for programs; ``fix`` says what to change, if anything is to be."""

    topic: str
    grade: Grade
    text: str
    fix: str | None = None
