"""The same failure again and again: told once at once, then counted, so that no VMM that loops floods a file.

The counts of all records of a watch add up to the failures that there were.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.record import Failure, Source

FIRST: Final = 0.05  # seconds until what came again is told; each time twice as long …
LAST: Final = 10.0  # … up to this: what a killed watch may have counted and not told
QUIET: Final = 1.0  # seconds without it, until it counts as a new failure when it comes again
_MAX_KEYS: Final = 4096


Mark = tuple[int, float]
"""Which of the trace's failures: its thread, and when on the kernel's clock."""


class Counted(NamedTuple):
    """A failure with how often it came again, and which ones these were."""

    failure: Failure
    marks: tuple[Mark, ...]


class _Seen:
    __slots__ = ("due", "failure", "last", "marks", "time", "wait")

    def __init__(self, failure: Failure, now: float) -> None:
        self.failure = failure
        self.wait = FIRST
        self.due = now + FIRST  # when the next record of it may go out
        self.last = now  # when it was seen last
        self.marks: list[Mark] = []  # failures since then
        self.time: str | None = None  # of the last of them


def key(failure: Failure, thread: int) -> bytes:
    """What makes two failures of a trace the same: all but when, and what came before."""
    bare: Any = msgspec.structs.replace(failure, source=Source(vcpu=failure.source.vcpu), trace=())
    return b"%d " % thread + msgspec.msgpack.encode(bare)


class Repeats:
    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    def again(self, same: bytes, time: str | None, now: float, mark: Mark) -> bool:
        """Whether this failure was told of a moment ago; then it has been counted."""
        seen = self._seen.get(same)
        if seen is None:
            return False
        seen.marks.append(mark)
        seen.time, seen.last = time, now
        return True

    def told(self, same: bytes, failure: Failure, now: float) -> list[Counted]:
        """``failure`` goes out now. What has to go out with it, so that its count is not forgotten."""
        self._seen[same] = _Seen(failure, now)
        if len(self._seen) <= _MAX_KEYS:
            return []
        _, oldest = self._seen.popitem(last=False)
        return [_counted(oldest)] if oldest.marks else []

    def due(self, now: float, *, early: bool = False) -> list[Counted]:
        """One record for each failure that came again, with how often; one that has not for long is forgotten.

        ``early``: also of those that could wait.
        """
        out = []
        for same, seen in list(self._seen.items()):
            if now < seen.due and not early:
                continue
            if seen.marks:
                out.append(_counted(seen))
                seen.wait = min(2 * seen.wait, LAST)
                seen.due = now + seen.wait
            elif now - seen.last > max(QUIET, seen.wait):
                del self._seen[same]
        return out

    def next_due(self) -> float | None:
        """When due() will have something to tell, if nothing else happens."""
        return min((seen.due for seen in self._seen.values() if seen.marks), default=None)

    def rest(self) -> list[Counted]:
        """At the end: all that was counted and not told."""
        out = [_counted(seen) for seen in self._seen.values() if seen.marks]
        self._seen.clear()
        return out


def _counted(seen: _Seen) -> Counted:
    """What was counted, and count anew."""
    failure, marks = seen.failure, tuple(seen.marks)
    seen.marks.clear()
    source = msgspec.structs.replace(failure.source, count=len(marks), last_time=seen.time)
    return Counted(msgspec.structs.replace(failure, source=source, trace=()), marks)
