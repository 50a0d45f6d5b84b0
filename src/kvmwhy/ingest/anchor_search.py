"""The anchors of all readers as one search over an input as it comes, in one pass whatever their number.

An anchor of several words is searched for as it is, and for what stands before each of its blanks with the beginning of
a tear behind that: a line end, an escape, a tag. Only what may be torn is looked at once more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import Final, NamedTuple

from kvmwhy.ingest.anchors import Anchor
from kvmwhy.ingest.encoding import ESCAPED, Unescaped
from kvmwhy.ingest.multi_search import Finder, finder

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
_DENSE: Final = (
    1000  # needles in a block, from which on it pays to ask first whether the words are there that they need
)
_LENIENT: Final = 2  # what is wrapped or escaped is so much longer than what it says


Span = tuple[int, int]
"""A part of some bytes: where it begins, and where it ends."""


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

    def candidates(self, data: bytes) -> set[Anchor]:
        """The anchors that may be in it, wherever, torn or not, and whatever is near them."""
        numbers = {which for which, _, _ in self._find(data)}
        return {anchor for which in numbers for _, anchor, _ in self._owners[which]}

    def hits(self, data: bytes, low: int = 0, high: int | None = None, spans: list[Span] | None = None) -> list[Hit]:
        """The anchors that begin in ``data[low:high]``, in order. What stands around that decides about them, too.

        If ``spans`` are given, there is none but in those parts.
        """
        high = len(data) if high is None else high
        whole = [(0, len(data))]
        hits = self._begun(data, low, high, whole if spans is None else merged([(0, low), *spans, (high, len(data))]))
        if hits is None:
            plain = Unescaped(data)
            whole = [(0, len(plain.data))]
            begun = self._begun(plain.data, plain.index(low), plain.index(high), whole, escaped=False) or []
            hits = [hit._replace(at=min(high - 1, plain.place(hit.at))) for hit in begun]
        return hits

    def _begun(self, data: bytes, low: int, high: int, spans: list[Span], *, escaped: bool = True) -> list[Hit] | None:
        """``None``: some of it is ``escaped``, as far as this is looked for."""
        hits: list[Hit] = []
        waiting: list[list[Hit]] = [[] for _ in self._conditions]
        torn: set[tuple[int, Anchor]] = set()
        for which, at in self._found(data, spans):
            if which < len(ESCAPED) and escaped:
                return None
            for needle, anchor, condition in self._owners[which]:
                place = at if needle.whole else _torn_place(anchor.text.encode(), data, at, start=needle.start)
                if low <= place < high and (needle.whole or (place, anchor) not in torn):
                    (hits if condition is None else waiting[condition]).append(Hit(place, anchor))
                    if not needle.whole:
                        torn.add((place, anchor))
        for (words, within), some in zip(self._conditions, waiting, strict=True):
            hits += _with_word(data, words, min(_LENIENT * within, NEAR), some)
        hits.sort()
        return hits

    def _found(self, data: bytes, spans: list[Span]) -> list[tuple[int, int]]:
        """Which needles there are, and where, but for many that come to nothing."""
        found = [(which, start + at) for start, end in spans for which, at, _ in self._find(data[start:end])]
        if len(found) > _DENSE:
            idle = self._idle({which for which, _ in found}, data)
            found = [match for match in found if match[0] not in idle]
        return found

    def _idle(self, found: set[int], data: bytes) -> set[int]:
        """Those needles all of whose anchors need words that are nowhere in it."""
        needed = {which: {condition for _, _, condition in self._owners[which]} for which in found}
        absent = {
            condition
            for condition in set().union(*needed.values())
            if condition is not None and not _words(self._conditions[condition][0])(data)
        }
        return {which for which, conditions in needed.items() if conditions and conditions <= absent}

    @cached_property
    def strong(self) -> AnchorSearch:
        """The search without the weak anchors."""
        return AnchorSearch(anchor for anchor in self.anchors if not anchor.weak)

    @cached_property
    def _conditions(self) -> list[tuple[tuple[str, ...], int]]:
        """The words of which one must be near, and how near."""
        return list(dict.fromkeys((anchor.near, anchor.within) for anchor in self.anchors if anchor.near))

    @cached_property
    def _needles(self) -> dict[str, list[tuple[Needle, Anchor, int | None]]]:
        out: dict[str, list[tuple[Needle, Anchor, int | None]]] = {text: [] for text in ESCAPED}
        for anchor in self.anchors:
            condition = self._conditions.index((anchor.near, anchor.within)) if anchor.near else None
            for needle in needles(anchor.text):
                out.setdefault(needle.text, []).append((needle, anchor, condition))
        return out

    @cached_property
    def _owners(self) -> list[list[tuple[Needle, Anchor, int | None]]]:
        """For each text that is searched for the anchors to look at where it is found, and their conditions."""
        return list(self._needles.values())

    @cached_property
    def _find(self) -> Finder:
        return finder([text.encode() for text in self._needles], much=True)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Parts in the order in which they begin, those that overlap or touch as one."""
    out: list[Span] = []
    for start, end in spans:
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((start, end))
    return out


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
        head = " ".join(words[:count])
        out += (Needle(head + tear) for tear in _AFTER_WORD if tear != "  " or len(head) > 1)
    return out


def _torn_place(anchor: bytes, data: bytes, at: int, *, start: bool) -> int:
    """Where the torn anchor begins that has a needle at ``at``; -1: it is not there."""
    torn = _torn(anchor)
    match = torn.match(data, at, at + REACH) if start else torn.search(data, max(0, at - REACH), at + REACH)
    return match.start() if match else -1


@cache
def _torn(anchor: bytes) -> re.Pattern[bytes]:
    return re.compile(_GAP.join(map(re.escape, anchor.split())))


def _with_word(data: bytes, words: tuple[str, ...], within: int, hits: list[Hit]) -> Iterator[Hit]:
    """Those that have one of the words near them. Each byte is searched once."""
    reach = within + REACH
    for some in _groups(sorted(hits), 2 * reach):
        low = max(0, some[0].at - reach)
        places = deque(low + at for _, at, _ in _words(words)(data[low : some[-1].at + reach + REACH]))
        for hit in some:
            while places and places[0] < hit.at - reach:
                places.popleft()
            if places and places[0] <= hit.at + reach:
                yield hit


def _groups(hits: list[Hit], apart: int) -> Iterator[list[Hit]]:
    """Those that follow each other more closely than that."""
    start = 0
    for n in range(1, len(hits) + 1):
        if n == len(hits) or hits[n].at - hits[n - 1].at > apart:
            yield hits[start:n]
            start = n


@cache
def _words(words: tuple[str, ...]) -> Finder:
    return finder([word.encode() for word in words])
