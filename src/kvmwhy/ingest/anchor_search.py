"""The anchors of all readers as one search over an input as it comes, in one pass whatever their number.

A needle of each anchor is searched for: a word that is rare in ordinary logs, so that a line end between two words
tears none. Where one is found, the anchors that have it are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Final, NamedTuple

from kvmwhy.ingest.anchors import Anchor
from kvmwhy.ingest.multi_search import Finder, finder

REACH: Final = 256  # bytes: no anchor, torn as it may be, is longer
NEAR: Final = 16 << 10  # bytes: what decides about an anchor is not further from it

# What may stand between two words of one message: a line end, a mail's quoting, an escape, a tag.
_GAP: Final = rb"(?:[\s>|*=]|\\[nrt]|<[^<>\n]{0,60}>|&[a-z]{2,6};){1,24}"
_LENIENT: Final = 2  # what is wrapped or escaped is so much longer than what it says
_RARE: Final = 16.0
_SELDOM: Final = frozenset("bjkqvwxz")  # letters
_HEX: Final = frozenset("0123456789abcdef")
# Parts of these words stand in ordinary logs everywhere, and so are not searched for by themselves.
_COMMON: Final = (
    "access address argument attempted cannot code control could create created data device emulation entry error"
    " errors exception exit exited extra failed failure function guest hardware host info initialize internal invalid"
    " kernel kvm machine memory message number object operation process reason reset resource required returned running"
    " shutdown state status support supported system terminated unable unexpected unhandled unknown virtual warning"
)


class Hit(NamedTuple):
    """Where an anchor begins, in bytes."""

    at: int
    anchor: Anchor


class AnchorSearch:
    """All anchors of some readers, as one search. ``also``: texts that are looked for and belong to no anchor."""

    def __init__(self, anchors: Iterable[Anchor], also: Sequence[str] = ()) -> None:
        self.anchors = tuple(dict.fromkeys(anchors))
        self.also = also

    def any(self, data: bytes) -> bool:
        """Whether there may be an anchor in it."""
        return bool(self._find(data))

    def hits(self, data: bytes, low: int = 0, high: int | None = None) -> list[Hit]:
        """The anchors that begin in ``data[low:high]``, in order. What stands around that decides about them, too."""
        high = len(data) if high is None else high
        found: set[Hit] = set()
        waiting: dict[tuple[tuple[str, ...], int], list[Hit]] = {}
        for which, at, end in self._find(data):
            if at + REACH < low or at - REACH >= high:
                continue
            for anchor in self._owners[which]:
                place = _place(anchor.text.encode(), data, at, end)
                if not low <= place < high:
                    continue
                hit = Hit(place, anchor)
                if anchor.near:
                    waiting.setdefault((anchor.near, anchor.within), []).append(hit)
                else:
                    found.add(hit)
        for (near, within), hits in waiting.items():
            found.update(_with_word(data, near, min(_LENIENT * within, NEAR), sorted(hits)))
        return sorted(found)

    @cached_property
    def strong(self) -> AnchorSearch:
        """The search without the weak anchors."""
        return AnchorSearch((anchor for anchor in self.anchors if not anchor.weak), self.also)

    @cached_property
    def _needles(self) -> dict[str, list[Anchor]]:
        out: dict[str, list[Anchor]] = {text: [] for text in self.also}
        for anchor in self.anchors:
            for needle in needles(anchor.text):
                out.setdefault(needle, []).append(anchor)
        return out

    @cached_property
    def _owners(self) -> list[list[Anchor]]:
        """For each needle the anchors to look at where it is found."""
        return list(self._needles.values())

    @cached_property
    def _find(self) -> Finder:
        return finder([needle.encode() for needle in self._needles])


def _place(anchor: bytes, data: bytes, at: int, end: int) -> int:
    """Where the anchor begins whose needle is at ``at``; -1: it is not there."""
    place = data.find(anchor, max(0, at - len(anchor)), end + len(anchor))
    if place >= 0 or b" " not in anchor:
        return place
    torn = _torn(anchor).search(data, max(0, at - REACH), end + REACH)
    return torn.start() if torn else -1


@cache
def _torn(anchor: bytes) -> re.Pattern[bytes]:
    return re.compile(_GAP.join(map(re.escape, anchor.split())))


def _with_word(data: bytes, words: tuple[str, ...], within: int, hits: list[Hit]) -> Iterator[Hit]:
    """Those that have one of the words near them. Each byte is searched once."""
    find = _words(words)
    places: list[int] = []
    done = 0
    for hit in hits:
        low, high = max(done, hit.at - within), min(len(data), hit.at + within)
        if high > low:
            # A word that the end cuts in two is found by looking at a few bytes more.
            more = [low + at for _, at, _ in find(data[max(0, low - REACH) : high + REACH])]
            places = [*places[-1:], *(at - min(low, REACH) for at in more)]
            done = high
        if any(abs(at - hit.at) <= within + REACH for at in places):
            yield hit


@cache
def _words(words: tuple[str, ...]) -> Finder:
    return finder([word.encode() for word in words])


# -- what to search for ---------------------------------------------------------------------------


def needles(anchor: str) -> list[str]:
    """What to look for: the rarest word, which no line end tears; or, where none is rare, neighbours."""
    rare = [word for word in anchor.split() if _rarity(word) >= _RARE]
    return [max(rare, key=_rarity)] if rare else _pairs(anchor)


def _rarity(word: str) -> float:
    """Higher for what is seldom seen in logs; 0 for a part of a common word."""
    letters = word.strip("=:._(){}\"'*,;+-/0123456789 ")
    if (letters and letters in _COMMON) or _HEX.issuperset(word):
        return 0.0
    return sum((4.0 if c in _SELDOM else 2.6) if c.islower() else 5.0 if c.isupper() else 4.2 for c in word)


def _pairs(anchor: str) -> list[str]:
    """Two neighbours each, of which a line end tears one at most; two words alone are looked for torn as well."""
    words = anchor.split()
    if len(words) < 2 or "  " in anchor:  # columns are not wrapped
        return [anchor]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    if len(pairs) > 1 or not words[1][0].isalnum():  # nobody wraps before "="
        return pairs
    return [*pairs, *(words[0] + end for end in ("\n", "\r", " \n"))]
