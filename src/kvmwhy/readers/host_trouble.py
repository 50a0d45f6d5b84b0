"""Records that hold nothing but events of the host's kernel: they stand alone, or their events go to the failure
beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from kvmwhy.record import Failure

_KINDS: Final = frozenset({"host-trouble", "undef-injected", "other"})
_BESIDE: Final = 40  # lines of the input


def is_alone(failure: Failure) -> bool:
    """Whether a record says nothing of a vCPU, only of the host."""
    parts = (failure.cpu, failure.errno, failure.exit_reason, failure.emulation, failure.exit, failure.control)
    return failure.kind in _KINDS and not failure.silent and not any(part is not None for part in parts)


def settle(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """Trouble of the host's kernel is a record of its own only where there is no other."""
    others = [failure for failure in failures if not is_alone(failure)]
    if not others or len(others) == len(failures):
        return tuple(failures)
    for alone in failures:
        if not is_alone(alone) or not alone.host.events:
            continue
        line = alone.source.line or 0
        distances = [abs((failure.source.line or 0) - line) for failure in others]
        if min(distances) <= _BESIDE:
            nearest = distances.index(min(distances))
            others[nearest] = _with_events(others[nearest], alone)
    return tuple(others)


def _with_events(failure: Failure, alone: Failure) -> Failure:
    events = (*failure.host.events, *(event for event in alone.host.events if event not in failure.host.events))
    joined: Failure = replace(failure, host=replace(failure.host, events=events))
    return joined
