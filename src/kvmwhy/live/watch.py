"""Every failure of every vCPU on this host, as it happens.

The trace tells that something failed, and what led there; the VMM's page, read at once, has KVM's own
words; what is known of the host goes with them.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from math import inf
from types import TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from kvmwhy.live import tracefs
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.page_cache import Recall
from kvmwhy.live.rate_limit import Counted, Mark, Repeats, key
from kvmwhy.live.spool import LARGE, Page, Place, Spool
from kvmwhy.live.trace_history import ENOUGH, Decode, Flight, History, NoHistory
from kvmwhy.live.tracefs import FAILURES, FAILURES_ALONE, HISTORY, PAST, PREFIX, Instance
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.formats import Formats
from kvmwhy.readers.trace.pages import Decoder
from kvmwhy.readers.trace.vcpu_tracker import Story
from kvmwhy.record import Failure, Host

FAILURES_KIB: Final = 1024
HISTORY_KIB: Final = 1024
PATIENCE: Final = 0.5  # seconds that a failed emulation may stay without an end
_PAGES: Final = 1  # of a CPU's buffer, in one poll(): the rest is safe in the kernel until these are recorded
_TWIN: Final = 3e-6  # seconds between two stamps of one event, at most; KVM takes longer to fail again
_AGAIN: Final = 0.01  # seconds until an open one is looked at again
_EVERY: Final = 1.0  # seconds between two looks at what the kernel lost
_MOST_ROUNDS: Final = 10_000  # of poll() at the end, where failures come faster than they are told
_BEGIN: Final = frozenset({"kvm_emulate_insn", "kvm_mmio_nisv"})  # of a failure: its end follows, if it is one
_RAISES_UD: Final = frozenset({b"\x0f\x0b", b"\x0f\xb9", b"\x0f\xff"})
_MOST_CONTEXT: Final = 4096  # events of the past for one batch of failures of one thread


class Seen(NamedTuple):
    """A failure and when KVM said so: seconds on the clock of time.monotonic(). ``marks``: which of the trace's."""

    failure: Failure
    when: float
    marks: tuple[Mark, ...] = ()


class _Open(NamedTuple):
    """Events of one thread whose end has not been seen yet."""

    events: list[TraceEvent]
    deadline: float


class _Old(NamedTuple):
    """An instance that a killed watch left, and from when to when its events count."""

    instance: Instance
    since: float
    until: float


class Watch:
    """Follows the host from construction to close(). Raises NotPermittedError, NoTracefsError, CaptureError.

    ``adopted`` are the instances of killed watchers that were found: their unread failures come first.
    ``prefix`` begins the names of its instances, and of those that it takes over.
    ``history_kib`` is the size of the flight recorder for each CPU; 0: there is none, and failures alone are recorded.
    ``family`` is a process: only its threads are followed, and all that it will create.
    ``wake`` is a descriptor that ends poll() when there is something to read from it.
    ``spool`` keeps what was taken and not told, for the next watch; then telling() must be called before the record of
    each that poll() and finish() return is written, told() after it, and settle() in the end. What it has comes first.
    """

    def __init__(
        self,
        root: str,
        host: Host,
        *,
        history_kib: int = HISTORY_KIB,
        wake: int | None = None,
        prefix: str = PREFIX,
        spool: Spool | None = None,
        family: int | None = None,
    ) -> None:
        self.lost = 0
        self.adopted: tuple[str, ...] = ()
        self._recall = Recall(host)
        self._repeats = Repeats()
        self._open: dict[int, _Open] = {}
        self._next_look = 0.0
        self._lost_by_cpu: dict[int, int] = {}
        self._old: list[_Old] = []  # of killed watchers, with failures that nobody has read
        self._since = inf
        self._at_edges: dict[tuple[int, str, float, bool], float] = {}  # thread, event, edge, before it: when
        self._formats = tracefs.formats(root, (*FAILURES, *HISTORY))
        self._decode = decoder(self._formats)
        self._spool = spool
        self._left = spool.left if spool else None  # until all of it is told, nothing new is taken
        self._taken_up = False
        self._untold = 0  # failures that were handed out
        if spool and not self._left:
            spool.begin(self._formats)
        name = f"{prefix}{os.getpid()}"
        left = tracefs.stale(root, prefix)
        for one in {name, name + PAST} & set(left):  # a killed watch had our number: its name is needed
            Instance(root, one, create=False).remove()
        self._failures = Instance(root, name)
        try:
            self._past = Instance(root, name + PAST) if history_kib else None
        except BaseException:
            self._failures.remove()
            raise
        try:
            self._failures.set_up(FAILURES_KIB, overwrite=False)
            if self._past:
                self._past.set_up(history_kib, overwrite=True)
            for instance in (self._failures, self._past) if family is not None else ():
                if instance:
                    instance.write("options/event-fork", "1")
                    instance.write("set_event_pid", str(family))
            if self._past:
                self._past.enable(HISTORY)
            self._failures.write("tracing_on", "0")
            self._failures.enable(FAILURES if self._past else FAILURES_ALONE)
            self._failures.write("tracing_on", "1")
            self._since = time.monotonic_ns() / 1e9
            self._failures.note(self._since)
            self._adopt(root, [one for one in left if one not in {name, name + PAST}])
        except BaseException:
            self.close()
            raise
        self._flight: History = Flight(self._past, self._decode) if self._past else NoHistory()
        self._poll = select.poll()
        self._cpu_of = {fd: cpu for cpu, fd in self._failures.pipes.items()}
        for fd in self._cpu_of if wake is None else (wake, *self._cpu_of):
            self._poll.register(fd, select.POLLIN)

    def _adopt(self, root: str, names: list[str]) -> None:
        """What a killed watcher had not read is still in its instance, and more has come since: poll() takes it over.

        Ours runs already, so that nothing falls between the two: up to ``_since`` the old one counts, then ours. Each
        says since when it counts, for there may be several, of watchers that were killed while they took over.
        """
        old: list[Instance] = []
        for name in names:
            try:
                instance = Instance(root, name, create=False)
            except CaptureError:
                continue
            instance.write("tracing_on", "0")
            if name.endswith(PAST):
                instance.remove()
            else:
                old.append(instance)
            self.adopted += (name,)
        self._old = self._in_turn(old)

    def _in_turn(self, old: list[Instance]) -> list[_Old]:
        """Each from when it began to where the next one did, the oldest first. What is empty goes at once."""
        spans = {instance: instance.noted() for instance in old}
        known = sorted((one for one in old if spans[one][0] is not None), key=lambda one: spans[one][0] or 0)
        turns = []
        for instance, following in zip(known, [*known[1:], None], strict=False):
            since, until = spans[instance]
            if until is None:
                until = spans[following][0] if following else self._since
                instance.note(since or 0, until)
            turns.append(_Old(instance, since or 0, until or self._since))
        for instance in old:
            if spans[instance][0] is None and not known:
                turns.append(_Old(instance, -inf, self._since))
            elif spans[instance][0] is None:  # it was killed before it counted: another has all that it has
                instance.remove()
        for turn in turns:
            if turn.instance.is_empty:
                turn.instance.remove()
        return [turn for turn in turns if turn.instance.pipes]

    def _take_up(self) -> list[TraceEvent]:
        """What a killed watch had taken out of the kernel's buffer; the first time, then nothing."""
        if self._left is None or self._taken_up:
            return []
        self._taken_up = True
        decode = decoder(self._left.formats)
        return [event for page in self._left.pages for event in self._counting(page, decode)]

    def _take_over(self) -> list[TraceEvent]:
        """A page of each CPU of the oldest instance that was left behind; an empty one goes."""
        old = self._old[0]
        pages = [page for cpu in old.instance.pipes for page in self._taken(*old, cpu)]
        if not pages:
            old.instance.remove()
            self._old.pop(0)
        return [event for page in pages for event in self._counting(page, self._decode)]

    def _taken(self, instance: Instance, since: float, until: float, cpu: int) -> Iterator[Page]:
        """A page, which is in the spool before anyone sees it."""
        for raw in instance.pages(cpu, _PAGES):
            page = Page(raw, since, until)
            if self._spool:
                self._spool.page(page)
            yield page

    def _counting(self, page: Page, decode: Decode) -> list[TraceEvent]:
        """The events of a page that count, and only once.

        Two instances stamp one event one after the other: what falls between their stamps would be in both.
        """
        counting = []
        for event in decode(page.raw):
            time_ = event.time or 0
            if not page.since <= time_ < page.until:
                continue
            is_before = time_ >= page.until - _TWIN
            if is_before or time_ < page.since + _TWIN:
                edge = page.until if is_before else page.since
                twin = self._at_edges.get((event.pid, event.name, edge, not is_before))
                if twin is not None and abs(time_ - twin) < _TWIN:
                    continue
                self._at_edges[event.pid, event.name, edge, is_before] = time_
            counting.append(event)
        return counting

    # -- following ---------------------------------------------------------------------------------

    def poll(self, timeout: float) -> list[Seen]:
        """The failures that are complete by now; waits at most ``timeout`` seconds for one. Raises GoneError."""
        out = self._follow(timeout)
        self._untold += len(out)
        return out

    @property
    def descriptors(self) -> tuple[int, ...]:
        """One of them is readable once something has failed."""
        return tuple(self._cpu_of)

    @property
    def is_waiting(self) -> bool:
        """What has come so far is not complete: poll() soon, whether or not more comes."""
        return bool(self._open or self._old) or self._repeats.next_due() is not None

    def telling(self, seen: Seen, place: Place) -> None:
        """Its record is about to be written, to stand at ``place``."""
        if self._spool and seen.marks:
            self._spool.telling(seen.marks, place)

    def told(self, records: int) -> None:
        """So many records are written."""
        self._untold -= records

    def settle(self) -> None:
        """All records that can be written now are: nothing is kept longer than needed."""
        if self._spool is None or not self.is_settled:
            return
        if self._left:
            self._left = None
            self._spool.begin(self._formats)
        self._spool.clear()

    @property
    def is_settled(self) -> bool:
        """Whether all that was taken is told. For the sake of what has not ended yet, no spool becomes large."""
        if self._untold or self._repeats.next_due() is not None:
            return False
        if self._left:  # what has not ended there goes on in what the kernel still has
            return self._taken_up and not (self._open and self._left.is_of_another_boot)
        return not self._open or (self._spool is not None and self._spool.size > LARGE)

    def _new(self, timeout: float) -> list[TraceEvent]:
        """Events of failures: first those that a killed watch left, then what the kernel has."""
        if self._left:
            if self._taken_up:
                time.sleep(min(timeout, _AGAIN))
            return self._take_up()
        new = self._take_over() if self._old else []
        if self._open:
            timeout = min(timeout, _AGAIN)
        if (due := self._repeats.next_due()) is not None:
            timeout = max(0.0, min(timeout, due - time.monotonic()))
        for fd, _ in self._poll.poll(0 if new or self._old else timeout * 1000):
            cpu = self._cpu_of.get(fd)
            for page in self._taken(self._failures, self._since, inf, cpu) if cpu is not None else ():
                new += self._taking(self._counting(page, self._decode))
        return new

    def _follow(self, timeout: float) -> list[Seen]:
        new = self._new(timeout)
        now = time.monotonic()
        hurry = self._left is not None or (self._spool is not None and self._spool.size > LARGE)
        out = _seen(self._repeats.due(now, early=hurry), now)
        by_thread: dict[int, list[TraceEvent]] = {}
        for event in sorted(new, key=lambda event: event.time or 0):
            by_thread.setdefault(event.pid, []).append(event)
        for thread, left in list(self._open.items()):
            by_thread[thread] = left.events + by_thread.get(thread, [])
        if by_thread:
            self._flight.fetch()
        for thread, events in by_thread.items():
            out += self._tell(thread, events, now)
        self._recall.clear()
        if now >= self._next_look:
            self._next_look = now + _EVERY
            self._count_lost()
        return out

    def _taking(self, events: Sequence[TraceEvent]) -> Sequence[TraceEvent]:
        """The VMM's page first, before anything else is done: it may be gone in a moment."""
        for thread, name in dict.fromkeys((event.pid, event.name) for event in events):
            if name == "kvm_userspace_exit":
                self._recall.take(thread)
            else:
                self._recall.meet(thread)
        return events

    def _tell(self, thread: int, events: list[TraceEvent], now: float) -> list[Seen]:
        """One thread's events of failure, among its other events, as failures."""
        story = Story(userspace_exits=True)
        left = self._open.pop(thread, None)
        until = now if left else events[-1].time or now
        past = self._flight.before(thread, until, min(_MOST_CONTEXT, max(ENOUGH, 8 * len(events))))
        done: list[tuple[TraceEvent, Failure]] = []
        pending: TraceEvent | None = None
        for event in sorted([*past, *events], key=lambda event: event.time or 0):
            if event.name in _BEGIN:
                pending = event
            for failure in story.take(event):
                done.append((event, failure))
                pending = event if event.name in _BEGIN else None
        if pending is not None:
            deadline = left.deadline if left else now + PATIENCE
            if now < deadline:
                since = pending.time or 0
                self._open[thread] = _Open([event for event in events if (event.time or 0) >= since], deadline)
            else:
                done += [(pending, failure) for failure in story.end()]
        out: list[Seen] = []
        for event, failure in done:
            if not is_asked_for(failure):
                out += self._record(thread, failure, event.time or now, now)
        return out

    def _record(self, thread: int, traced: Failure, when: float, now: float) -> list[Seen]:
        stamp = wall_clock(when, self._left.offset if self._left else None)
        mark = (thread, when)
        if self._left and mark in self._left.told:
            return []
        same = key(traced, thread)
        if self._repeats.again(same, stamp, now, mark):
            return []
        failure = self._recall.complete(traced, thread)
        source = msgspec.structs.replace(failure.source, time=stamp, writer=f"thread {thread}")
        failure = msgspec.structs.replace(failure, source=source)
        evicted = self._repeats.told(same, failure, now)
        return [Seen(failure, when, (mark,)), *_seen(evicted, now)]

    def _count_lost(self) -> None:
        for cpu in self._failures.pipes:
            overruns = self._failures.overruns(cpu)
            if overruns is not None:
                self._lost_by_cpu[cpu] = overruns
        self.lost = sum(self._lost_by_cpu.values())

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> list[Seen]:
        """What has come until now, is open, or was counted. Before close()."""
        out: list[Seen] = []
        for _ in range(_MOST_ROUNDS):
            out += self._follow(0)
            self._left = None
            if not self._old and not any(fd in self._cpu_of for fd, _ in self._poll.poll(0)):
                break
        now = time.monotonic()
        for thread, left in list(self._open.items()):
            self._open[thread] = _Open(left.events, now)
            out += self._tell(thread, left.events, now)
        self._count_lost()
        out += _seen(self._repeats.rest(), now)
        self._untold += len(out)
        return out

    def close(self) -> None:
        """Take the instances away. Again: nothing."""
        for old in self._old:
            old.instance.close()  # with what is in it: for the next watch
        self._old = []
        self._failures.remove()
        if self._past:
            self._past.remove()
        self._recall.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def is_asked_for(failure: Failure) -> bool:
    """A guest's own UD2, UD1 or UD0, which is there to raise #UD: kvm_pvm has all of ring 0 go through the emulator.

    Other modules hand #UD back before they try to emulate (x86_emulate_instruction: EMULTYPE_TRAP_UD).
    """
    return failure.kind == "other" and failure.emulation is not None and failure.emulation.insn[:2] in _RAISES_UD


def decoder(formats: str) -> Decode:
    """From a page of a kernel's ring buffer to its events."""
    pages = Decoder(Formats.parse(formats))
    return lambda raw: list(pages.page(raw))


def wall_clock(when: float, offset: float | None = None) -> str:
    """Seconds of the monotonic clock as the time of day, UTC. ``offset``: between the two, of another boot."""
    since = time.time() - time.monotonic() if offset is None else offset
    return datetime.fromtimestamp(since + when, UTC).isoformat(timespec="microseconds")


def _seen(counted: Iterable[Counted], now: float) -> list[Seen]:
    return [Seen(sighting.failure, now, sighting.marks) for sighting in counted]
