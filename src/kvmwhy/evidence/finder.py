"""Where the anchors are: many fixed strings in one pass, at the speed of a search tool.

``ahocorasick_rs`` finds all of them at once with SIMD; without it, ``bytes.find`` is run once for
each. Neither uses ``re``: an alternation there costs a hundred times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Found = list[tuple[int, int, int]]
"""(number of the anchor, start, end) of every occurrence, in order; occurrences do not overlap."""
Finder = Callable[[bytes | bytearray], Found]


def finder(anchors: Sequence[bytes]) -> Finder:
    """The fastest finder that is installed. No anchor may be contained in another."""
    try:
        from ahocorasick_rs import BytesAhoCorasick, MatchKind
    except ImportError:
        return one_by_one(anchors)
    # Only leftmost semantics let the library use its SIMD prefilter: 6 GB/s instead of 0.2.
    find: Finder = BytesAhoCorasick(list(anchors), matchkind=MatchKind.LeftmostFirst).find_matches_as_indexes
    return find


def one_by_one(anchors: Sequence[bytes]) -> Finder:
    """The same with nothing but the standard library."""

    def find(data: bytes | bytearray) -> Found:
        found = []
        for which, anchor in enumerate(anchors):
            at = data.find(anchor)
            while at >= 0:
                end = at + len(anchor)
                found.append((at, which, end))
                at = data.find(anchor, end)
        found.sort()
        return [(which, at, end) for at, which, end in found]

    return find
