"""A trace as a picture of lanes: one for each vCPU, with its time in the guest and in the host as slices.

``kvm_entry`` begins the guest's time and ``kvm_exit`` ends it; from there to the next entry it is the host's, named by
the reason of the exit. What userspace has of that is a slice within it. All other events are instants. On each lane
time never runs back: an event that does is drawn where the lane is, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.abi.tracepoints import ENTRIES, EXITS, RETURNS
from kvmwhy.record import Failure
from kvmwhy.render.perfetto import Argument, Writer
from kvmwhy.render.safe import safe
from kvmwhy.render.trace_event import arguments, reason

_ROOT, _FAILURES = 1, 2  # tracks that are there in any case
_FIRST_LANE: Final = 10
_MOST_LANES: Final = 4096
_HELD: Final = 64  # events of a thread that wait for one that names the vCPU
_STEP: Final = 1000  # nanoseconds between events without a time
_LATEST: Final = (1 << 63) - 1


class Shown(Protocol):
    """What is drawn of an event."""

    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> dict[str, int | str]: ...


class Owner(NamedTuple):
    """Who ran a vCPU, as the trace names it; ``known`` is false where it names nobody."""

    name: str
    known: bool = True


class _Lane:
    """One row. ``open`` are the slices that have begun, the outermost first."""

    __slots__ = ("held", "last", "open", "owner", "uuid", "vcpu")

    def __init__(self, uuid: int, owner: Owner, vcpu: int | None) -> None:
        self.uuid = uuid
        self.owner = owner
        self.vcpu = vcpu
        self.last = 0
        self.open: list[str] = []
        self.held: list[tuple[int, Shown]] | None = []  # None: its name has been written

    @property
    def title(self) -> str:
        parts = ("" if self.vcpu is None else f"vCPU {self.vcpu}", self.owner.name if self.owner.known else "")
        return safe(", ".join(filter(None, parts)) or "events", 120)


class Timeline:
    """Takes events in the order of the trace, and gives the bytes of the file piece by piece."""

    def __init__(self, title: str) -> None:
        self.events = self.failures = self.untimed = self.backwards = self.left_out = 0
        self.first: int | None = None
        self.latest = 0
        self._writer = Writer()
        self._lanes: dict[tuple[Owner, int | None], _Lane] = {}
        self._current: dict[Owner, _Lane] = {}
        self._title = title
        self._isa: int | None = None
        self._failed = 0  # the last of the failures' own lane

    @property
    def lanes(self) -> int:
        return len(self._lanes)

    def begin(self) -> bytes:
        return self._writer.track(_ROOT, safe(self._title, 200))

    def take(self, owner: Owner, vcpu: int | None, seconds: float | None, event: Shown) -> Iterator[bytes]:
        """Draw one event."""
        ns = self.at(seconds)
        if vcpu is None and isinstance(number := event.fields.get("vcpu_id"), int):
            vcpu = number
        lane = self._lane(owner, vcpu)
        if lane is None:
            self.left_out += 1
            return
        self.events += 1
        former = self._current.get(owner)
        if former is not None and former is not lane and owner.known:
            yield from self._close(former, ns)  # a thread runs one vCPU at a time
        self._current[owner] = lane
        if lane.held is None:
            yield from self._draw(lane, ns, event)
            return
        lane.held.append((ns, event))
        if lane.vcpu is not None or len(lane.held) >= _HELD:
            yield from self._name(lane)

    def fail(self, owner: Owner, failure: Failure, answer: str) -> Iterator[bytes]:
        """Mark a failure on its vCPU's lane and on the lane of all failures: where the trace made it known."""
        self.failures += 1
        if self.failures == 1:
            yield self._writer.track(_FAILURES, "Failures", parent=_ROOT)
        source = failure.source
        arguments = [Argument("answer", safe(answer, 1000)), Argument("kind", failure.kind)]
        arguments += [Argument("line", source.line, decimal=True)] if source.line else []
        arguments += [Argument("time", safe(source.time, 60))] if source.time else []
        arguments += [Argument("vcpu", source.vcpu, decimal=True)] if source.vcpu is not None else []
        lane = self._lanes.get((owner, source.vcpu)) or self._current.get(owner)
        ns = self.latest
        if lane is not None:
            if lane.held is not None:
                yield from self._name(lane)
            ns = lane.last
            yield self._mark(lane.uuid, ns, "FAILURE", "failure", arguments)
        self._failed = max(self._failed, ns)
        yield self._mark(_FAILURES, self._failed, safe(answer, 160), "failure", arguments)

    def lost(self, count: int | None) -> Iterator[bytes]:
        """Events are missing: no slice is known to go on over the gap."""
        for lane in self._lanes.values():
            if lane.held is not None:  # what waits for a name was before the gap
                yield from self._name(lane)
            yield from self._close(lane, lane.last)
        arguments = [Argument("events", count, decimal=True)] if count else []
        yield self._mark(_ROOT, self.latest, "events lost", "lost", arguments)

    def end(self) -> Iterator[bytes]:
        """Whatever is still open ends with the last event of all."""
        for lane in self._lanes.values():
            if lane.held is not None:
                yield from self._name(lane)
            yield from self._close(lane, self.latest)

    def at(self, seconds: float | None) -> int:
        """Nanoseconds of the trace's clock; of an event without a time, a step behind the last of all."""
        if seconds is None or not 0 <= seconds < _LATEST / 1e9:
            self.untimed += 1
            ns = min(self.latest + _STEP, _LATEST)
        else:
            ns = round(seconds * 1e9)
        self.first = ns if self.first is None else min(self.first, ns)
        self.latest = max(self.latest, ns)
        return ns

    # -- lanes -------------------------------------------------------------------------------------

    def _lane(self, owner: Owner, vcpu: int | None) -> _Lane | None:
        """That of the vCPU, or of the one that this thread ran last; None beyond the most that are drawn."""
        current = self._current.get(owner)
        if vcpu is None and current is not None:
            return current
        if (lane := self._lanes.get((owner, vcpu))) is not None:
            return lane
        if current is not None and current.vcpu is None and current.held is not None:
            self._lanes[owner, vcpu] = self._lanes.pop((owner, None))  # its events were this vCPU's
            current.vcpu = vcpu
            return current
        if len(self._lanes) >= _MOST_LANES:
            return None
        lane = self._lanes[owner, vcpu] = _Lane(_FIRST_LANE + len(self._lanes), owner, vcpu)
        return lane

    def _name(self, lane: _Lane) -> Iterator[bytes]:
        """Write the lane's name, and what waited for it."""
        held, lane.held = lane.held or [], None
        yield self._writer.track(lane.uuid, lane.title, parent=_ROOT, rank=1 + min(lane.vcpu or 0, _MOST_LANES))
        for ns, event in held:
            yield from self._draw(lane, ns, event)

    # -- slices ------------------------------------------------------------------------------------

    def _draw(self, lane: _Lane, ns: int, event: Shown) -> Iterator[bytes]:
        name, fields = event.name, event.fields
        if isinstance(isa := fields.get("isa"), int):
            self._isa = self._isa or isa
        ns = self._forward(lane, ns)
        if lane.open[-1:] == ["userspace"]:
            yield from self._close(lane, ns, down_to=len(lane.open) - 1)
        if name in ENTRIES:
            yield from self._close(lane, ns)
            yield self._begin(lane, ns, "guest", "guest", event)
        elif name in EXITS:
            yield from self._close(lane, ns)
            yield self._begin(lane, ns, "host", reason(fields, self._isa) or "exit", event)
        elif name in RETURNS:
            if lane.open[-1:] == ["guest"]:  # an exit was not traced, or lost
                yield from self._close(lane, ns)
            yield self._begin(lane, ns, "userspace", _returned(event), event)
        else:
            yield self._mark(lane.uuid, ns, safe(name, 60), "event", self._said(event))

    def _begin(self, lane: _Lane, ns: int, category: str, name: str, event: Shown) -> bytes:
        lane.open.append(category)
        arguments = self._said(event)
        return self._writer.event("begin", lane.uuid, ns, name=safe(name, 80), category=category, arguments=arguments)

    def _mark(self, track: int, ns: int, name: str, category: str, arguments: list[Argument]) -> bytes:
        return self._writer.event("instant", track, ns, name=name, category=category, arguments=arguments)

    def _close(self, lane: _Lane, ns: int, *, down_to: int = 0) -> Iterator[bytes]:
        if len(lane.open) > down_to:
            ns = self._forward(lane, ns)
        while len(lane.open) > down_to:
            lane.open.pop()
            yield self._writer.event("end", lane.uuid, ns)

    def _forward(self, lane: _Lane, ns: int) -> int:
        if ns < lane.last:
            self.backwards += 1
        lane.last = max(lane.last, ns)
        return lane.last

    def _said(self, event: Shown) -> list[Argument]:
        return [
            Argument(safe(name, 60), safe(value, 400) if isinstance(value, str) else value, decimal)
            for name, value, decimal in arguments(event.name, event.fields, isa=self._isa)
        ]


def _returned(event: Shown) -> str:
    """Why KVM_RUN came back."""
    fields = event.fields
    number = fields.get("reason", fields.get("exit"))
    if isinstance(errno := fields.get("errno"), int) and errno < 0:
        return "userspace: KVM_RUN failed"
    return f"userspace: {exit_name(number)}" if isinstance(number, int) else "userspace"
