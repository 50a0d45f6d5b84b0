"""Several vCPUs that stop alike in one moment are one story: what stopped one of them stopped them all.

A slot that goes away stops every vCPU that runs in it; INIT stops all VMs of a host that goes down. Each has a record
of its own; here they are told to belong together, so that one answer is given for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.times import instant
from kvmwhy.record import Failure

_SAME_PLACE: Final = 1.0  # seconds between vCPUs that stop at one instruction
_ANY_PLACE: Final = 0.1  # and between those that stop anywhere
_LINES: Final = 200  # without times: a dump of QEMU's has about 40
_LEAP_YEAR: Final = 1_104_400_000  # syslog prints no year; this one has all days

_Alike = tuple[object, ...]


class _Group:
    """Failures of one moment, with the vCPUs and the places that they name."""

    def __init__(self, first: Failure) -> None:
        self.failures = [first]
        self.vcpus = {_vcpu(first)}
        self.places = {_place(first)}

    def add(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.vcpus.add(_vcpu(failure))
        self.places.add(_place(failure))


def moments(failures: Iterable[Failure]) -> Iterator[tuple[Failure, ...]]:
    """Group ``failures``, which are in the order of their input; each says of how many it is one."""
    groups: list[_Group] = []
    latest: dict[_Alike, _Group] = {}
    for failure in failures:
        kind = _kind(failure)
        group = latest.get(kind)
        if group is not None and _is_one_moment(group, failure):
            group.add(failure)
        else:
            group = latest[kind] = _Group(failure)
            groups.append(group)
    for group in groups:
        alike = len(group.failures)
        yield tuple(replace(each, source=replace(each.source, alike=alike)) for each in group.failures)


def _kind(failure: Failure) -> _Alike:
    """What KVM said: the same words of the same kind, wherever the vCPU was."""
    return (
        failure.source.path, failure.arch, failure.kind, failure.suberror, failure.hardware_error,
        failure.hardware_reason, failure.exception, failure.errno, failure.exit_reason,
        failure.data[0] if failure.suberror == 4 and failure.data else None,
    )  # fmt: skip


def _is_one_moment(group: _Group, failure: Failure) -> bool:
    last = group.failures[-1]
    if failure.source.vcpu is not None and _vcpu(failure) in group.vcpus:
        return False  # one vCPU that fails again, as far as the evidence says
    if failure.trace and failure.source.vcpu is None:
        return False  # whose it is, is not shown: one thread may run guest after guest
    limit = _SAME_PLACE if _may_be_one_place(group, failure) else _ANY_PLACE
    apart = _seconds(last, failure)
    if apart is not None and apart.resolution < _COARSE:
        return apart.seconds <= limit
    if apart is not None and apart.seconds > limit + apart.resolution:
        return False
    begins, before = failure.source.line, last.source.last_line or last.source.line
    return (
        last.source.writer == failure.source.writer
        and _may_be_one_place(group, failure)
        and begins is not None
        and before is not None
        and 0 <= begins - before <= _LINES
    )


def _vcpu(failure: Failure) -> tuple[str | None, int | None]:
    return failure.source.writer, failure.source.vcpu


def _may_be_one_place(group: _Group, failure: Failure) -> bool:
    """The same RIP, or none shown: KVM's words alone, between other vCPUs' lines, have no registers."""
    place = _place(failure)
    return place[1] is None or group.places <= {place, (None, None)}


def _place(failure: Failure) -> tuple[int | None, int | None]:
    cpu = failure.cpu
    code = cpu.segments.get("cs") if cpu else None
    return code.base if code else None, cpu.get("rip") if cpu else None


class _Apart(NamedTuple):
    """Between two failures on one clock, which tells seconds or parts of them."""

    seconds: float
    resolution: float


def _seconds(first: Failure, second: Failure) -> _Apart | None:
    """``None`` if either has no time, or they are of two clocks."""
    before, after = (_clock(failure.source.last_time or failure.source.time) for failure in (first, second))
    if before is None or after is None or before[0] != after[0]:
        return None
    return _Apart(abs(after[1] - before[1]), max(before[2], after[2]))


def _clock(time: str | None) -> tuple[str, float, float] | None:
    """Which clock, what it showed in seconds, and how finely."""
    if time is None or len(time) > _LONGEST_TIME:
        return None
    moment = instant(time, near=_LEAP_YEAR)
    if moment is not None:
        return "calendar", moment.timestamp(), 0.0 if _FINE.search(time) else _COARSE
    whole, _, part = time.strip().partition(".")
    return ("boot", float(f"{whole}.{part}"), 0.0) if whole.isdecimal() and part.isdecimal() else None


_COARSE: Final = 1.0  # seconds: a log whose times have no fraction
_LONGEST_TIME: Final = 64
_FINE: Final = deferred(r":\d\d[.,]\d|^\d{9,10}\.\d|^\d{16}$")
