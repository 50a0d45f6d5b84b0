"""The anchors of all readers as one search over an input as it comes, in one pass whatever their number.

An anchor of several words is searched for as it is, and for what stands before each of its blanks with the beginning of
a tear behind that: a line end, an escape, a tag. Only what may be torn is looked at once more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import Final, NamedTuple

from kvmwhy.ingest.anchors import Anchor
from kvmwhy.ingest.encoding import ESCAPED, Unescaped
from kvmwhy.ingest.multi_search import Finder, Found, finder

REACH: Final = 256  # bytes: no anchor, torn as it may be, is longer
NEAR: Final = 16 << 10  # bytes: what decides about an anchor is not further from it

# What may stand between two words of one message: more than a blank begins with a line end, an escape or a tag, and
# goes on with a mail's quoting.
_MARK: Final = rb"\\[nrt]|<[^<>\n]{0,60}>|&[a-z]{2,6};"
_TORN: Final = rb" ?(?:[ \t\r\n]|=(?=[\r\n])|%b)(?:[\s>|*=]|%b){0,22}" % (_MARK, _MARK)
_GAP: Final = rb"(?: (?! )|%b)" % _TORN
_TEARS: Final = ("\t", "\n", "\r", "\\", "<", "&", "=\n", "=\r")
_AFTER_WORD: Final = ("  ", *_TEARS, *(f" {tear}" for tear in _TEARS))
_LEAST: Final = 5  # letters that are searched for where a first word has but one
_LENIENT: Final = 2  # what is wrapped or escaped is so much longer than what it says


class Hit(NamedTuple):
    """Where an anchor begins, in bytes."""

    at: int
    anchor: Anchor


class Needle(NamedTuple):
    """What is searched for in an anchor's stead. ``whole``: it is the anchor; ``start``: it begins where that does."""

    text: str
    whole: bool = False
    start: bool = True


class AnchorSearch:
    """All anchors of some readers, as one search."""

    def __init__(self, anchors: Iterable[Anchor]) -> None:
        self.anchors = tuple(dict.fromkeys(anchors))

    def any(self, data: bytes) -> bool:
        """Whether there may be an anchor in it."""
        return bool(self._find(data))

    def hits(self, data: bytes, low: int = 0, high: int | None = None) -> list[Hit]:
        """The anchors that begin in ``data[low:high]``, in order. What stands around that decides about them, too."""
        high = len(data) if high is None else high
        found = self._find(data)
        if not any(which in self._escapes for which, _, _ in found):
            return self._begun(found, data, low, high)
        plain = Unescaped(data)
        hits = self._begun(self._find(plain.data), plain.data, plain.index(low), plain.index(high))
        return [hit._replace(at=min(high - 1, plain.place(hit.at))) for hit in hits]

    def _begun(self, found: Found, data: bytes, low: int, high: int) -> list[Hit]:
        hits: dict[tuple[int, int], Hit] = {}
        waiting: dict[tuple[tuple[str, ...], int], list[Hit]] = {}
        for which, at, _ in found:
            if at >= high or at + REACH < low:
                continue
            for number, needle, anchor in self._owners[which]:
                place = at if needle.whole else _torn_place(anchor.text.encode(), data, at, start=needle.start)
                if low <= place < high and (place, number) not in hits:
                    hits[place, number] = hit = Hit(place, anchor)
                    if anchor.near:
                        waiting.setdefault((anchor.near, anchor.within), []).append(hit)
        out = [hit for hit in hits.values() if not hit.anchor.near]
        for (near, within), some in waiting.items():
            out += _with_word(data, near, min(_LENIENT * within, NEAR), sorted(some))
        return sorted(out)

    @cached_property
    def strong(self) -> AnchorSearch:
        """The search without the weak anchors."""
        return AnchorSearch(anchor for anchor in self.anchors if not anchor.weak)

    @cached_property
    def _needles(self) -> dict[str, list[tuple[int, Needle, Anchor]]]:
        out: dict[str, list[tuple[int, Needle, Anchor]]] = {text: [] for text in ESCAPED}
        for number, anchor in enumerate(self.anchors):
            for needle in needles(anchor.text):
                out.setdefault(needle.text, []).append((number, needle, anchor))
        return out

    @cached_property
    def _owners(self) -> list[list[tuple[int, Needle, Anchor]]]:
        """For each text that is searched for the anchors to look at where it is found."""
        return list(self._needles.values())

    @cached_property
    def _escapes(self) -> range:
        """The texts that show that others may be hidden."""
        return range(len(ESCAPED))

    @cached_property
    def _find(self) -> Finder:
        return finder([text.encode() for text in self._needles])


def needles(anchor: str) -> list[Needle]:
    """The anchor; and, as lines are broken at blanks, its beginnings up to each of them, with that of a tear."""
    words = anchor.split()
    if "  " in anchor.strip():  # columns are not wrapped
        words = [anchor]
    out = [Needle(anchor, whole=True)]
    rest = " ".join(words[1:])
    if len(words[0]) == 1 and len(rest) >= _LEAST:  # a letter stands everywhere: what is behind it is searched for
        return [*out, *(needle._replace(whole=False, start=False) for needle in needles(rest))]
    for count in range(1, len(words)):
        out += (Needle(" ".join(words[:count]) + tear) for tear in _AFTER_WORD)
    return out


def _torn_place(anchor: bytes, data: bytes, at: int, *, start: bool) -> int:
    """Where the torn anchor begins that has a needle at ``at``; -1: it is not there."""
    torn = _torn(anchor)
    found = torn.match(data, at, at + REACH) if start else torn.search(data, max(0, at - REACH), at + REACH)
    return found.start() if found else -1


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
