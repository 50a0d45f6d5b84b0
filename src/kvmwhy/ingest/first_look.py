"""A first look at a large input: a word of each anchor that is rare in it, all in one pass of Hyperscan.

An automaton that follows the text byte by byte takes 1.6 ns for each, however few its texts are, since each step waits
for the memory that the one before named. Hyperscan compares many bytes at once, and is the faster the fewer, the longer
and the rarer its texts are. So it looks for a word of each anchor, and only what is near one is searched for the
anchors, as they are or torn. Which words the lines of an input have everywhere is learned from it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Container, Iterable
from contextlib import suppress
from functools import cache, lru_cache
from itertools import pairwise
from typing import Final

from kvmwhy.ingest.anchor_search import REACH, AnchorSearch, Span, merged, needles
from kvmwhy.ingest.anchors import Anchor
from kvmwhy.ingest.encoding import ESCAPED

_LETTERS: Final = 8  # of a word: what Hyperscan compares at once
_OFTEN: Final = 8  # times in a block, from which on a word is an ordinary one
_MANY: Final = 1024  # words in a block, from which on the anchors are searched for everywhere
_MOST_TEXTS: Final = 2500  # where this is reached, what was learned before is forgotten
_LONGEST_WAIT: Final = 256  # blocks between two choices of words
_SAMPLE: Final = 64 << 10


@cache
def is_possible() -> bool:
    """Whether Hyperscan is installed, and the CPU has what it needs."""
    try:
        import hyperscan
    except ImportError:
        return False
    try:
        return _Words(["KVM"]).ends(b"KVM") == [(0, 3)]
    except hyperscan.error:
        return False


class FirstLook:
    """Where in a block there may be an anchor. What was learned from one input is of use for the next, as a rule."""

    def __init__(self, search: AnchorSearch) -> None:
        self._search = search
        self._ordinary: set[str] = set()
        self._words = _Words(words_of(search.anchors, ()))
        self._wait = self._seen = 0  # blocks
        self._is_dense = False  # whether the last one had too many of the words

    def begin(self) -> FirstLook:
        """Before an input: its lines may be others."""
        self._wait = self._seen = 0
        self._is_dense = False
        return self

    def spans(self, data: bytes) -> list[Span]:
        """The parts in which an anchor may begin, or end, in order."""
        self._seen += 1
        if self._is_dense and self._seen <= self._wait:
            return [(0, len(data))]
        words = self._words
        ends = words.ends(data)
        self._is_dense = len(ends) > _MANY
        if self._seen > self._wait:
            self._learn(words, ends, data)
        if self._is_dense:
            return [(0, len(data))]
        around = _around([end for _, end in ends], len(data))
        return [(start, end) for start, end in around if self._search.any(data[start:end])]

    def _learn(self, words: _Words, ends: list[tuple[int, int]], data: bytes) -> None:
        counts = Counter(which for which, _ in ends)
        often = {words.texts[which] for which, count in counts.items() if count >= _OFTEN} - self._ordinary
        if not (often or self._is_dense):
            return
        self._wait, self._seen = min(4 * self._wait + 4, _LONGEST_WAIT), 0
        if not often:
            return
        self._ordinary = often if len(words.texts) > _MOST_TEXTS else self._ordinary | often
        ordinary = _Ordinary(self._ordinary, frozenset(words.texts), data[:_SAMPLE])
        self._words = _Words(words_of(self._search.anchors, ordinary))


look_for = lru_cache(maxsize=4)(FirstLook)


class _Ordinary(Container[str]):
    """The words that are known as ordinary, and of those that were never looked for the ones that the input has."""

    def __init__(self, known: set[str], looked_for: frozenset[str], sample: bytes) -> None:
        self._known = known
        self._looked_for = looked_for
        self._is_in_sample = cache(lambda word: word.encode() in sample)

    def __contains__(self, word: object) -> bool:
        return word in self._known or (word not in self._looked_for and self._is_in_sample(word))


def words_of(anchors: Iterable[Anchor], ordinary: Container[str]) -> list[str]:
    """Texts of which one is in whatever holds an anchor, torn or not.

    Of each anchor a word that is not ``ordinary``; else two of its words that follow each other, as they are and with
    the beginning of a tear between them; else itself.
    """
    texts = dict.fromkeys(ESCAPED)
    for text in dict.fromkeys(anchor.text for anchor in anchors):
        words = text.split()
        parts = sorted({word[:_LETTERS] for word in words}, key=lambda part: (-len(part), part))
        rare = next((part for part in parts if part in texts or part not in ordinary), None)
        if rare:
            texts[rare] = None
        elif len(words) > 1 and "  " not in text:
            pairs = [[each.text for each in needles(f"{first} {second}")] for first, second in pairwise(words)]
            texts.update(dict.fromkeys(min(pairs, key=lambda pair: sum(each in ordinary for each in pair))))
        else:
            texts[text] = None
    return list(texts)


def _around(ends: list[int], size: int) -> list[Span]:
    """The parts in which any anchor is that has a word which ends at one of these places."""
    return merged((max(0, end - REACH), min(size, end + REACH)) for end in ends)


class _Words:
    """Some texts, as one search by several threads."""

    def __init__(self, texts: list[str]) -> None:
        import hyperscan

        self.texts = texts
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        expressions = ["".join(f"\\x{byte:02x}" for byte in text.encode()).encode() for text in texts]
        self._database.compile(expressions=expressions, ids=range(len(texts)), elements=len(texts), flags=0)
        self._stopped = hyperscan.ScanTerminated
        self._scratch = hyperscan.Scratch
        self._of_thread = threading.local()

    def ends(self, data: bytes) -> list[tuple[int, int]]:
        """Which texts there are, and where each ends, up to a number that is too many."""
        found: list[tuple[int, int]] = []

        def note(which: int, _start: int, end: int, _flags: int, _context: object) -> bool | None:
            found.append((which, end))
            return len(found) > _MANY or None

        if not hasattr(self._of_thread, "scratch"):
            self._of_thread.scratch = self._scratch(self._database)
        with suppress(self._stopped):
            self._database.scan(data, match_event_handler=note, scratch=self._of_thread.scratch)
        return found
