"""The same exit again and again, with nothing reported: KVM or the guest makes no progress."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from kvmwhy.record import Event

_LEAST: Final = 3  # equal exits in a row of a trace
_SHARE: Final = 0.8


class Loop(NamedTuple):
    """What repeats. ``event`` is the index of its last occurrence in the trace."""

    reason: int | str
    rip: int | None
    times: int
    event: int


def loop_of(trace: tuple[Event, ...]) -> Loop | None:
    """The exit that nearly all exits of this trace are; ``None`` if they differ, or are few."""
    if not trace:
        return None
    exits = [(index, event) for index, event in enumerate(trace) if event.name == "kvm_exit"]
    seen: Counter[tuple[int | str, int | str | None]] = Counter()
    last: dict[tuple[int | str, int | str | None], int] = {}
    for index, event in exits:
        reason = event.fields.get("exit_reason", event.fields.get("reason"))
        if reason is None:
            continue
        key = (reason, event.fields.get("guest_rip", event.fields.get("rip")))
        seen[key] += 1
        last[key] = index
    if not seen:
        return None
    (reason, rip), count = seen.most_common(1)[0]
    if count < _LEAST or count < _SHARE * len(exits):
        return None
    return Loop(reason, rip if isinstance(rip, int) else None, count, last[reason, rip])
