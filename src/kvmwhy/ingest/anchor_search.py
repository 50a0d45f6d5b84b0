"""The anchors of all readers as one search over an input as it comes, at the speed of a vector search.

A few short fragments are searched for, one of each anchor at least, that are rare in ordinary logs. Where one is found
the anchors that have it are looked at. Fragments have no blanks, so a line end between two words tears none.
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
_PASS: Final = 60  # fragments that are searched for at once: the vector search takes 64
_MOST_PASSES: Final = 2  # more cost more than one pass of an automaton for all

_SIZES: Final = (4, 5, 6, 8, 10)  # of fragments; four bytes are compared at once
_LONGEST: Final = max(_SIZES)
_RARE: Final = 11.5
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
        return any(find(data) for find, _ in self._passes)

    def hits(self, data: bytes, low: int = 0, high: int | None = None) -> list[Hit]:
        """The anchors that begin in ``data[low:high]``, in order. What stands around that decides about them, too."""
        high = len(data) if high is None else high
        found: set[Hit] = set()
        waiting: dict[tuple[tuple[str, ...], int], list[Hit]] = {}
        for find, owners in self._passes:
            for which, at, end in find(data):
                if at + REACH < low or at - REACH >= high:
                    continue
                for anchor in owners[which]:
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
    def _passes(self) -> list[tuple[Finder, list[tuple[Anchor, ...]]]]:
        """Each search, and for each of its fragments the anchors to look at where it is found."""
        by_text: dict[str, list[Anchor]] = {}
        for anchor in self.anchors:
            by_text.setdefault(anchor.text, []).append(anchor)
        fragments = choose(list(by_text)) | {text: [] for text in self.also}
        out = []
        step = _PASS if len(fragments) <= _MOST_PASSES * _PASS else len(fragments)
        for start in range(0, len(fragments), step):
            some = list(fragments)[start : start + step]
            owners = [tuple(a for text in _hidden(one, some, fragments) for a in by_text[text]) for one in some]
            out.append((finder([one.encode() for one in some]), owners))
        return out


def _place(anchor: bytes, data: bytes, at: int, end: int) -> int:
    """Where the anchor begins whose fragment, or one that hides it, is at ``at``; -1: it is not there."""
    place = data.find(anchor, max(0, at - len(anchor) - _LONGEST), end + len(anchor) + _LONGEST)
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


def choose(anchors: Sequence[str]) -> dict[str, list[str]]:
    """Few fragments, each with the anchors that it is in. All anchors have one."""
    chosen: dict[str, list[str]] = {}
    holders: dict[str, list[str]] = {}
    left: dict[str, list[str]] = {}
    for anchor in anchors:
        if parts := _fragments(anchor):
            left[anchor] = parts
            for part in parts:
                holders.setdefault(part, []).append(anchor)
        else:
            for pair in _pairs(anchor):
                chosen.setdefault(pair, []).append(anchor)
    weight = {part: (len(owners), _rarity(part), part) for part, owners in holders.items()}
    while left:
        best = max(weight.values())[2]
        chosen[best] = holders[best]
        for anchor in holders[best]:
            for part in left.pop(anchor, ()):
                count, rarity, _ = weight[part]
                weight[part] = (count - 1, rarity, part)
    return chosen


def is_rare(anchor: str) -> bool:
    """Whether a part of one of its words is seldom seen in logs."""
    return bool(_fragments(anchor))


def _fragments(anchor: str) -> list[str]:
    words = anchor.split()
    parts = {word[at : at + size]: None for word in words for size in _SIZES for at in range(len(word) - size + 1)}
    return [part for part in parts if _rarity(part) >= _RARE]


def _rarity(fragment: str) -> float:
    """Higher for what is seldom seen in logs; 0 for a part of a common word."""
    letters = fragment.strip("=:._(){}\"'*,;+-/0123456789 ")
    if (letters and letters in _COMMON) or _HEX.issuperset(fragment):
        return 0.0
    return sum((4.0 if c in _SELDOM else 2.6) if c.islower() else 5.0 if c.isupper() else 4.2 for c in fragment)


def _pairs(anchor: str) -> list[str]:
    """Two neighbours each, of which a line end tears one at most; two words alone are looked for torn as well."""
    words = anchor.split()
    if len(words) < 2 or "  " in anchor:  # columns are not wrapped
        return [anchor]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    if len(pairs) > 1 or not words[1][0].isalnum():  # nobody wraps before "="
        return pairs
    return [*pairs, *(words[0] + end for end in ("\n", "\r", " \n"))]


def _hidden(fragment: str, among: list[str], fragments: dict[str, list[str]]) -> list[str]:
    """The anchors to look at where a fragment is found: those it is in, and those whose own it may hide there.

    Occurrences do not overlap: one that begins before another, and reaches into it, is found alone.
    """
    out = dict.fromkeys(fragments[fragment])
    for other in among:
        if other in fragment or any(fragment.endswith(other[:n]) for n in range(1, min(len(fragment), len(other)))):
            out |= dict.fromkeys(fragments[other])
    return list(out)
