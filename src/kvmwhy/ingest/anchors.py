"""What a reader declares about the texts that it can read.

An anchor is a text that its reader needs to see literally, in a text that is made plain. The reader is asked only where
one of its anchors is, and every search, window and prefilter is computed from the anchors of all readers: nobody keeps
marks of his own. What is computed errs on one side: where a reader could read something, it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple


class Anchor(NamedTuple):
    """``text`` must stand in a message for its reader to read anything of it.

    A text that ordinary logs are full of has ``near``: one of these words stands at most ``within`` characters before
    or behind it. ``history`` is how many bytes before the anchor the reader wants to see, if that is more than usual.
    ``weak``: what is read of it is told only where an input tells of nothing else, so that a large one is searched for
    the first of these alone. A blank stands for any white space: a message is found where it is wrapped there.
    """

    text: str
    near: tuple[str, ...] = ()
    within: int = 1024
    history: int = 0
    weak: bool = False


class Report(NamedTuple):
    """How a report of many lines begins, and its last line, of a kind that a log may hold thousands of."""

    begin: str
    end: str


Declared = tuple[str | Anchor, ...]
"""What a reader declares: an anchor without any condition is its text."""


@cache
def anchors_of(declared: Declared) -> tuple[Anchor, ...]:
    """What was declared, each as an anchor."""
    return tuple(anchor if isinstance(anchor, Anchor) else Anchor(anchor) for anchor in declared)


def holds(anchor: Anchor, text: str) -> bool:
    """Whether a plain text holds an anchor with one of its words near it."""
    for at, end in _places(anchor.text, text):
        low, high = max(0, at - anchor.within), end + anchor.within
        if not anchor.near or any(text.find(word, low, high) >= 0 for word in anchor.near):
            return True
    return False


def _places(anchor: str, text: str) -> Iterator[tuple[int, int]]:
    at = text.find(anchor)
    while at >= 0:
        yield at, at + len(anchor)
        at = text.find(anchor, at + 1)
    words = anchor.split()
    if len(words) > 1 and all(word in text for word in words):
        for match in _spaced(anchor).finditer(text):
            yield match.span()


@cache
def _spaced(anchor: str) -> re.Pattern[str]:
    line_end = r"\s*\n" if anchor.endswith("\n") else ""
    return re.compile(r"\s+".join(map(re.escape, anchor.split())) + line_end)
