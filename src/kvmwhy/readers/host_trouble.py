"""The events of the host's kernel beside the failures of other readers, and records that hold nothing but events.

A kernel log's own failures have their events from its reader, by its clock. A VMM's line has no clock that could be
compared: what stands within a few lines of it belongs to it, and what holds until the host is started anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from kvmwhy.record import Failure, HostEvent

_KINDS: Final = frozenset({"host-trouble", "undef-injected", "other"})
_BEFORE: Final = 40  # lines of the input
_BEHIND: Final = 80  # a register dump stands between
_MOST: Final = 32


def is_alone(failure: Failure) -> bool:
    """Whether a record says nothing of a vCPU, only of the host."""
    parts = (failure.cpu, failure.errno, failure.exit_reason, failure.emulation, failure.exit, failure.control)
    return failure.kind in _KINDS and not failure.silent and not any(part is not None for part in parts)


def settle(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """Trouble of the host's kernel is a record of its own only where there is no other."""
    others = tuple(failure for failure in failures if not is_alone(failure))
    return others or tuple(failures)


def beside(failure: Failure, events: Sequence[HostEvent], lasting: frozenset[str]) -> Failure:
    """The failure with the events of its input that belong to it; ``lasting``: kinds that hold wherever they stand."""
    line = failure.source.line
    logged = failure.source.vmm is None and (failure.control is not None or bool(failure.host.events))
    if line is None or not events or logged or is_alone(failure):
        return failure
    near = [
        event for event in events if event.kind in lasting or line - _BEFORE <= (event.at.line or 0) <= line + _BEHIND
    ]
    added = [event for event in near if not any(_same(event, known) for known in failure.host.events)]
    if not added:
        return failure
    joined: Failure = replace(failure, host=replace(failure.host, events=(*failure.host.events, *added)[:_MOST]))
    return joined


def _same(host_event: HostEvent, other: HostEvent) -> bool:
    return host_event.kind == other.kind and (host_event.at == other.at or host_event.fields == other.fields)
