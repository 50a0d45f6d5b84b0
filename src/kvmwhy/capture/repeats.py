"""The same failure again and again: told once at once, then counted, so that no VMM that loops floods a file.

The counts of all records of a watch add up to the failures that there were.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import msgspec

from kvmwhy.record import Failure, Source

FIRST: Final = 0.05  # seconds until what came again is told; each time twice as long …
LAST: Final = 10.0  # … up to this: what a killed watch may have counted and not told
QUIET: Final = 1.0  # seconds without it, until it counts as a new failure when it comes again
_MAX_KEYS: Final = 4096


class _Seen:
    __slots__ = ("due", "failure", "last", "more", "time", "wait")

    def __init__(self, failure: Failure, now: float) -> None:
        self.failure = failure
        self.wait = FIRST
        self.due = now + FIRST  # when the next record of it may go out
        self.last = now  # when it was seen last
        self.more = 0  # failures since then
        self.time: str | None = None  # of the last of them


def key(failure: Failure, thread: int) -> bytes:
    """What makes two failures of a trace the same: all but when, and what came before."""
    bare: Any = msgspec.structs.replace(failure, source=Source(vcpu=failure.source.vcpu), trace=())
    return b"%d " % thread + msgspec.msgpack.encode(bare)


class Repeats:
    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    def again(self, same: bytes, time: str | None, now: float) -> bool:
        """Whether this failure was told of a moment ago; then it has been counted."""
        seen = self._seen.get(same)
        if seen is None:
            return False
        seen.more += 1
        seen.time, seen.last = time, now
        return True

    def told(self, same: bytes, failure: Failure, now: float) -> list[Failure]:
        """``failure`` goes out now. What has to go out with it, lest its count be forgotten."""
        self._seen[same] = _Seen(failure, now)
        if len(self._seen) <= _MAX_KEYS:
            return []
        _, oldest = self._seen.popitem(last=False)
        return [_counted(oldest)] if oldest.more else []

    def due(self, now: float) -> list[Failure]:
        """One record for each failure that came again, with how often; one that has not for long is forgotten."""
        out = []
        for same, seen in list(self._seen.items()):
            if now < seen.due:
                continue
            if seen.more:
                out.append(_counted(seen))
                seen.more, seen.wait = 0, min(2 * seen.wait, LAST)
                seen.due = now + seen.wait
            elif now - seen.last > max(QUIET, seen.wait):
                del self._seen[same]
        return out

    def next_due(self) -> float | None:
        """When due() will have something to tell, if nothing else happens."""
        return min((seen.due for seen in self._seen.values() if seen.more), default=None)

    def rest(self) -> list[Failure]:
        """At the end: all that was counted and not told."""
        out = [_counted(seen) for seen in self._seen.values() if seen.more]
        self._seen.clear()
        return out


def _counted(seen: _Seen) -> Failure:
    failure = seen.failure
    source = msgspec.structs.replace(failure.source, count=seen.more, last_time=seen.time)
    return msgspec.structs.replace(failure, source=source, trace=())
