"""The last moments of a vCPU, out of the kernel's flight recorder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kvmwhy.live.errors import GoneError
from kvmwhy.live.tracefs import Instance
from kvmwhy.readers.trace.events import TraceEvent

KEPT: Final = 128  # pages of each CPU that are remembered once they have been read
ENOUGH: Final = 64  # events of one thread: four times what a record keeps

Decode = Callable[[bytes], Sequence[TraceEvent]]


class History(Protocol):
    """What led to a failure."""

    def fetch(self) -> None: ...
    def before(self, thread: int, until: float, limit: int = ENOUGH) -> list[TraceEvent]: ...


class NoHistory:
    """Nothing is recorded but failures."""

    def fetch(self) -> None:
        pass

    def before(self, thread: int, until: float, limit: int = ENOUGH) -> list[TraceEvent]:  # noqa: ARG002 -- see History
        return []


class _Page:
    """A page of the ring buffer, decoded when someone asks."""

    __slots__ = ("_events", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._events: Sequence[TraceEvent] | None = None

    def events(self, decode: Decode) -> Sequence[TraceEvent]:
        if self._events is None:
            self._events, self._raw = decode(self._raw), b""
        return self._events


class Flight:
    """What ``instance`` recorded, fetched when something has failed. Only the newest pages are ever decoded."""

    def __init__(self, instance: Instance, decode: Decode) -> None:
        self._instance = instance
        self._decode = decode
        self._held: dict[int, deque[_Page]] = {cpu: deque(maxlen=KEPT) for cpu in instance.pipes}

    def fetch(self) -> None:
        """Take what the kernel has recorded since the last time."""
        for cpu, held in self._held.items():
            try:
                held.extend(_Page(raw) for raw in self._instance.pages(cpu))
            except GoneError:
                continue

    def before(self, thread: int, until: float, limit: int = ENOUGH) -> list[TraceEvent]:
        """The last ``limit`` events of this thread up to ``until``, in seconds of the trace's clock; oldest first."""
        events: list[TraceEvent] = []
        for held in self._held.values():
            mine: list[TraceEvent] = []
            for page in reversed(held):
                new = [e for e in page.events(self._decode) if e.pid == thread and (e.time or 0) <= until]
                mine += reversed(new)
                if len(mine) >= limit:
                    break
            events += mine
        events.sort(key=lambda event: event.time or 0)
        return events[-limit:]
