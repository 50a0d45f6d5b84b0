"""Which events of a log belong to a failure: those of the same moment, or of the same block where no clock tells.

KVM logs what goes wrong right before it gives up, and the VMM's own lines come after: two seconds before, and a
tenth behind.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

from kvmwhy.readers.kernel_log.host_events import Place, events_of
from kvmwhy.readers.kernel_log.host_messages import roles
from kvmwhy.readers.kernel_log.printk import Origin
from kvmwhy.record import HostEvent

BEFORE: Final = 2.0  # seconds
BEHIND: Final = 0.1
_GAP: Final = 8  # lines of others inside one block
_MOST: Final = 32  # events of one failure
_REACH: Final = 64  # events, and lines behind a failure
_STATE: Final = frozenset(
    {"evmcs-used", "sev-enabled", "tdx-module", "rmp-table", "ignore-msrs", "kvm-mode", "hypervisor-detected"}
)


# A refusal, and what a module says of itself when it is loaded, holds until the host is started anew.
LASTING: Final = _STATE | {slug for slug, role in roles().items() if role == "refusal"}


def told(text: str, origin: Origin) -> tuple[HostEvent, ...]:
    """The events of a text, each that says the same once."""
    return tuple({_same(place.event): place.event for place in reversed(events_of(text, origin))}.values())[::-1]


class Nearby:
    """The events of one log, to be asked for those of each of its failures."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        lasting = (place for place in places if _is_lasting(place.event))
        self._lasting = tuple({_same(place.event): place for place in lasting}.values())[:_MOST]

    def of(self, first: int, last: int, times: Sequence[float | None]) -> tuple[HostEvent, ...]:
        """The events of a failure on these lines, from 0; ``times`` are those of its first and last line."""
        places = self._around(first, last)
        clock = [time for time in times if time is not None]
        start, end = _block(places, first, last)
        chosen: list[Place] = [place for place in self._lasting if place.line < first]
        for place in places:
            event = place.event
            if clock and event.time is not None:
                belongs = clock[0] - BEFORE <= event.time <= clock[-1] + BEHIND and place.line <= last + _REACH
            else:
                belongs = start <= place.line and place.last <= end
            if belongs:
                chosen.append(place)
        chosen.sort(key=lambda place: place.line)
        return tuple({_same(place.event): place.event for place in reversed(chosen)}.values())[: -_MOST - 1 : -1]

    def _around(self, first: int, last: int) -> Sequence[Place]:
        """Some events before and behind: in a flood, no more are looked at for each of its failures."""
        low = bisect_left(self._places, first, key=lambda place: place.line)
        high = bisect_right(self._places, last, key=lambda place: place.line)
        return self._places[max(0, low - _REACH) : high + _REACH]


def _is_lasting(event: HostEvent) -> bool:
    return event.kind in LASTING


def _block(places: Sequence[Place], first: int, last: int) -> tuple[int, int]:
    """The lines around a failure that go on without a gap from one event to the next."""
    for place in reversed(places):
        if place.line <= first and place.last >= first - _GAP:
            first = min(first, place.line)
    for place in places:
        if first <= place.line <= last + _GAP:
            last = max(last, place.last)
    return first, last


def _same(event: HostEvent) -> tuple[object, ...]:
    """What two events share that say the same: a flood is one."""
    fields = {name: value for name, value in event.fields.items() if name not in {"pid", "vcpu"}}
    return (event.kind, *sorted(fields.items()))
