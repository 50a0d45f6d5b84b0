"""One failure's lines, cut out of a log.

A block begins with the line that announces a failure and ends with the line of its code bytes. Announcements that
follow each other before what they announce are several vCPUs', and stay together: only a reader can tell which lines
belong to which. Whatever else shows a failure is cut out with the lines around it.

Where a block begins and ends depends on what stands near it, never on how the log came in: every look ahead and
back is bounded, and where the rest of a log is not there yet, the cutter says from where on it wants to see it again.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

from kvmwhy.fleet.marks import END, LONGEST, goes_on, is_head, is_header
from kvmwhy.ingest.multi_search import Found

AFTER: Final = 16 << 10  # what may lie between two marks of one block
BEFORE: Final = 4 << 10  # a line's beginning, or a dump's, lies at most so far before its mark
KEEP: Final = 3 * BEFORE + LONGEST  # what may belong to a mark that is still to come: gap, dump, line
AHEAD: Final = 2 * AFTER + BEFORE + LONGEST  # what decides about a block lies at most so far behind its last mark
LARGEST: Final = 256 << 10
ENDS: Final = (END, b"EFER=", b" efer ")  # qemu-kvm of before 2010 wrote it small
_APART: Final = 256  # what stands closer to another mark may be of the same dump
_NEVER: Final = 1 << 62
_MOST: Final = 64  # announcements that may stay together


class Block(NamedTuple):
    """Offsets. Between ``gap`` and ``start`` is what stands before the block and is of no other."""

    gap: int
    start: int
    end: int


class Cut(NamedTuple):
    """The blocks of a log so far; what is behind ``rest`` must come again, with more, if there is more."""

    blocks: list[Block]
    rest: int


def cut(data: bytes, found: Found, *, last: bool) -> Cut:
    """The blocks of ``data``, in order; none overlaps another. ``found``: its marks. ``last``: nothing follows."""
    out: list[Block] = []
    size, done, i = len(data), 0, 0
    ends = Ends(data, found)
    while i < len(found):
        which, first, _ = found[i]
        if first < done or is_header(which):
            i += 1
            continue
        heads, codes, seen, j = int(is_head(which)), 0, first, i + 1
        begun = final = first  # the last announcement, and the last mark of any kind
        following = size
        while j < len(found):
            which, at, _ = found[j]
            codes, seen = codes + data.count(END, seen, at), at
            apart = at - final > AFTER or at - first > LARGEST or heads >= _MOST or is_header(which)
            apart = apart or (at - first > LARGEST // 2 and at - final > _APART and not goes_on(which))
            if not apart and not heads and (code := data.find(END, final, at)) >= 0:  # a dump without announcement
                following = data.find(b"\n", code, at) + 1 or at
                break
            if not apart and is_head(which):
                apart = ends.between(begun, at) and (codes >= heads or not ends.owed(at))
            elif not apart:
                apart = 0 < heads <= codes  # a dump that is over
            if apart:
                following = at
                break
            if is_head(which):
                heads, begun = heads + 1, at
            final = at
            j += 1
        if not last and size - (final if following == size else following) < AHEAD:
            return Cut(out, max(done, first - KEEP))
        least = max(done, first - BEFORE)
        start = data.rfind(b"\n", least, first) + 1 or least
        if not is_head(found[i][0]):  # a dump's other lines stand before it
            least = max(done, first - 2 * BEFORE)
            start = least if least == done else data.find(b"\n", least, start) + 1 or start
        limit = min(following, final + AFTER)
        end = _end(data, begun, limit, heads)
        out.append(Block(max(done, start - BEFORE), start, end))
        done, i = end, j
    return Cut(out, size if last else max(done, size - KEEP))


class Ends:
    """Where dumps end: with code bytes; in logs of programs that print none, with EFER; or nothing is dumped at all."""

    def __init__(self, data: bytes, found: Found) -> None:
        self.data, self.found = data, found
        self.rich: list[int] | None = None
        self.next = dict.fromkeys(ENDS, -1)

    def between(self, begun: int, at: int) -> bool:
        """Whether what was announced at ``begun`` has ended where ``at`` announces something.

        Else it is still to come: then there is, soon behind ``at``, what ends it.
        """
        for end in ENDS:
            if self.data.find(end, begun, at) >= 0:
                return True
            if self._soon(end, at):
                return False
        return True

    def _soon(self, end: bytes, at: int) -> bool:
        place = self.next[end]
        if place < at:
            place = self.data.find(end, at)
            self.next[end] = place = _NEVER if place < 0 else place
        return place < at + AFTER

    def owed(self, at: int) -> bool:
        """Whether code bytes of an announcement before the one at ``at`` are still to come, soon behind it.

        Then two vCPUs write at once, and an announcement is followed by more code bytes than its own.
        """
        if self.rich is None:
            heads = [place for which, place, _ in self.found if is_head(which)]
            ends = [*heads[1:], len(self.data)]
            self.rich = [h for h, e in zip(heads, ends, strict=False) if self.data.count(END, h, min(e, h + AFTER)) > 1]
        n = bisect_left(self.rich, at)
        return n < len(self.rich) and self.rich[n] < at + AFTER


def _end(data: bytes, begun: int, limit: int, heads: int) -> int:
    """Behind the line of the last code bytes of a block; without any, behind the last line before ``limit``."""
    code = data.find(END, begun, limit) if heads == 1 else data.rfind(END, begun, limit) if heads else -1
    if code >= 0:
        newline = data.find(b"\n", code, limit)
        return newline + 1 if newline >= 0 else limit
    newline = -1 if limit == len(data) else data.rfind(b"\n", begun, limit)
    return newline + 1 if newline >= 0 else limit
