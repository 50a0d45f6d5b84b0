"""Where the anchors are: many fixed strings in one pass.

``ahocorasick_rs`` finds all of them at once with an automaton; without it, ``bytes.find`` is run once for each. Neither
uses ``re``: an alternation there costs a hundred times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Found = list[tuple[int, int, int]]
"""(number of the text, start, end) of every occurrence, those inside of others as well, in the order of their ends."""
Finder = Callable[[bytes | bytearray], Found]
_LITTLE: Final = 8 << 10  # bytes: a thousand texts are found one by one in 2 KiB in a millisecond
_HEAD: Final = 6


def finder(texts: Sequence[bytes], *, much: bool = False) -> Finder:
    """The fastest finder that is installed; ``much``: for many megabytes."""
    try:
        from ahocorasick_rs import BytesAhoCorasick, Implementation
    except ImportError:
        return one_by_one(texts)
    # A DFA takes a byte in the same time however many the texts are, half of the other's; but of a thousand texts it is
    # made in 15 ms, and the other in one.
    kind = Implementation.DFA if much else Implementation.ContiguousNFA
    find = BytesAhoCorasick(list(texts), implementation=kind).find_matches_as_indexes
    return lambda data: find(data, overlapping=True)


def present(texts: Sequence[bytes]) -> Callable[[bytes], set[int]]:
    """Which of the texts, by number, occur anywhere in a short text, those inside of others as well."""
    try:
        from ahocorasick_rs import BytesAhoCorasick, Implementation
    except ImportError:
        return lambda data: {n for n, text in enumerate(texts) if text in data}
    # Of the implementations the one that is made in a tenth of a millisecond.
    find = BytesAhoCorasick(list(texts), implementation=Implementation.NoncontiguousNFA).find_matches_as_indexes
    return lambda data: {which for which, _, _ in find(data, overlapping=True)}


class Seeker:
    """A finder for short inputs: each text by itself, until so much was searched that an automaton pays."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts
        self._find = one_by_one(texts)
        self._searched = 0

    def __call__(self, data: bytes) -> Found:
        if self._searched <= _LITTLE < self._searched + len(data):
            self._find = finder(self._texts)
        self._searched += len(data)
        return self._find(data)


def one_by_one(texts: Sequence[bytes]) -> Finder:
    """The same with nothing but the standard library: texts of one beginning are looked for where that is."""
    by_head: dict[bytes, list[tuple[int, bytes]]] = {}
    for which, text in enumerate(texts):
        by_head.setdefault(text[:_HEAD], []).append((which, text))

    def find(data: bytes | bytearray) -> Found:
        matches: Found = []
        for head, group in by_head.items():
            at = data.find(head)
            while at >= 0:
                matches += ((which, at, at + len(text)) for which, text in group if data.startswith(text, at))
                at = data.find(head, at + 1)
        return sorted(matches, key=lambda match: (match[2], match[1], match[0]))

    return find
