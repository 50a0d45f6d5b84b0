"""Following a command: its output is passed on, its vCPUs are looked at, and each failure is told while it can be read.

A failure is known from the trace as it happens, from the page at the end of a thread, or from a page that stays as it
is. Told is it when its VMM has written what it has to say: at its end, or after a short silence.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, Literal, NamedTuple

from kvmwhy.live.errors import CaptureError
from kvmwhy.live.exec.moments import VcpuPage, VmmPages, holds_kvm, pages_of
from kvmwhy.live.exec.output import Relay, leave
from kvmwhy.live.exec.tracees import Moment, Tracees
from kvmwhy.live.process import descendants, process_of
from kvmwhy.live.staleness import threads as threads_of
from kvmwhy.live.watch import Watch
from kvmwhy.record import Failure, Host

_TICK: Final = 0.1  # seconds between two looks at pages and sizes
_LOOK_AGAIN: Final = 2.0  # the longest time between two looks for vCPUs in a process that had none
_QUIET: Final = 0.15  # without output: the VMM has said what it had to say
_MOMENT: Final = 0.02  # between two looks at a page of which the trace has told
_PATIENCE: Final = 1.0
_STILL: Final = 3  # looks at which a page is the same, and nobody runs its vCPU
_MOST_PROCESSES: Final = 1 << 16

State = Literal["ended", "stopped", "went on"]


class Incident(NamedTuple):
    """Failures of one VMM at one moment. ``thread`` is one by way of which it can still be read, if any."""

    failures: tuple[Failure, ...]
    pid: int | None
    thread: int | None
    state: State
    pages: tuple[VcpuPage, ...] = ()


class Ended(NamedTuple):
    """The command's process is about to end, or has ended. ``status`` is its wait status; None: it was not seen."""

    status: int | None
    held_kvm: bool
    thread: int | None


class _Waiting(NamedTuple):
    """A failure from the trace whose VMM may still be writing."""

    failure: Failure
    pid: int | None
    since: float


class _Process:
    """A process that is looked at now and then."""

    __slots__ = ("again", "next_look", "same", "seen", "told")

    def __init__(self) -> None:
        self.next_look = 0.0
        self.again = _TICK
        self.seen: VmmPages | None = None
        self.same: dict[int, int] = {}  # address → how often its page was the same
        self.told: dict[int, bytes] = {}  # address → the page of which a failure was told


Tell = Callable[[Incident], None]
AtEnd = Callable[[Ended], None]


class Follower:
    """Follows from construction to the end of run()."""

    def __init__(
        self,
        command_pid: int,
        tracees: Tracees | None,
        relays: list[Relay],
        watch: Watch | None,
        host: Host,
        *,
        warm_up: Callable[[], None] | None = None,
    ) -> None:
        """``warm_up`` is called in a thread of its own once there is a VMM: what it imports delays no failure then."""
        self.command_pid = command_pid
        self.relays = relays
        self.watch = watch
        self.host = host
        self.tracees = tracees
        self._warm_up = warm_up
        self.is_vmm_seen = False  # some process has KVM open
        self._ended = False
        self._pidfd = -1
        self._processes: dict[int, _Process] = {}
        self._waiting: list[_Waiting] = []
        self._last_output = 0.0
        self._next_tick = 0.0
        self._poller = select.poll()
        self._polled: dict[int, int] = {}
        self._ready: dict[int, int] = {}
        self._wake = _wake_on_children()
        self._stop = False
        if self.tracees is None:
            self._pidfd = os.pidfd_open(command_pid)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stopped)

    def _stopped(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, tell: Tell, at_end: AtEnd) -> None:
        """Until the command and all that it started have ended, and all that they wrote is passed on."""
        while not self._stop and not self._is_over():
            if self.tracees is not None:
                for moment in self.tracees.moments():
                    try:
                        self._handle(moment, tell, at_end)
                    finally:
                        self.tracees.release(moment)
            elif not self._ended and self._pidfd in self._ready:
                self._pump()
                self._at_end(Ended(None, self.is_vmm_seen, None), tell, at_end)
            if self._ready or self._waiting:  # a signal on its way to a thread asks for none of this
                self._pump()
                self._take_trace()
                self._tell_waiting(tell)
            if time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + _TICK
                self._take_trace()
                self._tick(tell)
            self._wait()
        for relay in self.relays:
            if not self._stop:
                relay.drain()

    def _is_over(self) -> bool:
        followed = bool(self.tracees) if self.tracees is not None else not self._ended
        return not followed and all(relay.is_done for relay in self.relays) and not self._waiting

    def _wait(self) -> None:
        """Until something is to be done. What is ready of streams and of the trace is in ``_ready``."""
        wanted = {self._wake: select.POLLIN}
        if self._pidfd >= 0 and not self._ended:
            wanted[self._pidfd] = select.POLLIN
        sinks = {}
        for relay in self.relays:
            for fd, events in relay.interest:
                wanted[fd] = events
                if fd == relay.sink:
                    sinks[fd] = relay
        for fd in self.watch.descriptors if self.watch else ():
            wanted[fd] = select.POLLIN
        if wanted != self._polled:
            self._poller = select.poll()
            for fd, events in wanted.items():
                self._poller.register(fd, events)
            self._polled = wanted
        timeout = max(0.0, self._next_tick - time.monotonic())
        if self._waiting or (self.watch and self.watch.is_waiting):
            timeout = min(timeout, 0.02)
        self._ready = {}
        for fd, events in self._poller.poll(timeout * 1000):
            if fd == self._wake:
                with suppress(BlockingIOError):
                    os.read(fd, 4096)
                continue
            self._ready[fd] = events
            if fd in sinks and events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
                sinks[fd].reader_has_gone()

    def _pump(self) -> None:
        for relay in self.relays:
            if relay.pump():
                self._last_output = time.monotonic()

    # -- what happens to threads -------------------------------------------------------------------

    def _handle(self, moment: Moment, tell: Tell, at_end: AtEnd) -> None:
        if moment.what == "signal":
            if moment.status == signal.SIGWINCH:  # before the command asks for the size
                for relay in self.relays:
                    relay.follow_size()
        elif moment.what == "program":
            self._processes.pop(moment.pid, None)
        else:
            self._thread_ends(moment, tell)
            if moment.thread == self.command_pid and not self._ended:
                self._at_end(Ended(moment.status, self.is_vmm_seen, moment.thread), tell, at_end)

    def _thread_ends(self, moment: Moment, tell: Tell) -> None:
        """Its VMM's address space is still there, and so is all that it has written."""
        seen = pages_of(moment.pid, moment.thread)
        if seen is None:
            if not self.is_vmm_seen and moment.thread == moment.pid:
                self.is_vmm_seen = holds_kvm(moment.thread)
            return
        self.is_vmm_seen = True
        self._pump()
        self._take_trace(drain=True)
        mine = [waiting for waiting in self._waiting if waiting.pid in {moment.pid, None}]
        self._waiting = [waiting for waiting in self._waiting if waiting not in mine]
        known = self._known(moment.pid)
        failures = [waiting.failure for waiting in mine]
        for failure, page in zip(seen.failures(self.host), [p for p in seen.pages if p.is_failed], strict=True):
            if known.told.get(page.address) != page.page and not any(_is_of(f, failure) for f in failures):
                failures.append(failure)
        known.told |= {page.address: page.page for page in seen.pages if page.is_failed}
        if failures:
            tell(Incident(tuple(failures), moment.pid, moment.thread, "ended", seen.pages))

    def _at_end(self, ended: Ended, tell: Tell, at_end: AtEnd) -> None:
        """The command itself: whatever waits is told before its end can be seen."""
        self._ended = True
        self._take_trace(drain=True)
        self._tell_waiting(tell, hurry=True)
        for relay in self.relays:
            relay.drain()
        at_end(ended._replace(held_kvm=self.is_vmm_seen))
        leave(tuple({1, 2} - {fd for relay in self.relays if not relay.is_done for fd in relay.fds}))

    # -- the trace ---------------------------------------------------------------------------------

    def _take_trace(self, *, drain: bool = False) -> None:
        if self.watch is None:
            return
        now = time.monotonic()
        try:
            new = [seen.failure for seen in (self.watch.finish() if drain else self.watch.poll(0))]
            self.watch.told(len(new))
            self._waiting += [_Waiting(failure, self._pid_of(failure), now) for failure in new]
        except CaptureError:
            self.watch.close()
            self.watch = None
        if self._waiting:
            self.is_vmm_seen = True

    def _pid_of(self, failure: Failure) -> int | None:
        words = (failure.source.writer or "").split()
        thread = int(words[1]) if len(words) == 2 and words[1].isdecimal() else None
        if thread is None:
            return None
        return (self.tracees.process_of(thread) if self.tracees else None) or process_of(thread)

    def _tell_waiting(self, tell: Tell, *, hurry: bool = False) -> None:
        if not self._waiting:
            return
        now = time.monotonic()
        first = min(one.since for one in self._waiting)
        is_quiet = now - max(first, self._last_output) >= _QUIET
        if not (hurry or is_quiet or now - first >= _PATIENCE):
            return
        waiting, self._waiting = self._waiting, []
        for pid in dict.fromkeys(one.pid for one in waiting):
            failures = tuple(one.failure for one in waiting if one.pid == pid)
            state: State = "went on"
            pages: tuple[VcpuPage, ...] = ()
            if pid is not None and (seen := pages_of(pid)):
                known, pages = self._known(pid), seen.pages
                failed = {page.address: page.page for page in seen.pages if page.is_failed}
                known.told |= failed
                time.sleep(_MOMENT)
                later = pages_of(pid, mappings=seen.vmm.vcpus)
                stands = later is not None and later.pages == seen.pages
                if failed and stands and not threads_of(pid).busy:
                    state = "stopped"
            tell(Incident(failures, pid, pid, state, pages))

    # -- pages -------------------------------------------------------------------------------------

    def _known(self, pid: int) -> _Process:
        known = self._processes.get(pid)
        if known is None:
            if len(self._processes) >= _MOST_PROCESSES:
                self._processes.clear()
            known = self._processes[pid] = _Process()
        return known

    def _tick(self, tell: Tell) -> None:
        """Look at the pages of every VMM, and now and then whether a process has become one."""
        for relay in self.relays:
            relay.follow_size()
        living = self.tracees.processes if self.tracees is not None else set[int]()
        if self.tracees is None and not self._ended:
            living = descendants(self.command_pid)
        now = time.monotonic()
        for gone in self._processes.keys() - living:
            del self._processes[gone]
        for pid in living:
            known = self._known(pid)
            if known.seen is None and now < known.next_look:
                continue
            before = known.seen
            fresh = before is None or now >= known.next_look
            known.seen = pages_of(pid, mappings=None if fresh or before is None else before.vmm.vcpus)
            if fresh:
                known.again = min(_LOOK_AGAIN, known.again * 2)
                known.next_look = now + known.again
            if known.seen is None:
                continue
            self.is_vmm_seen = True
            if self._warm_up is not None:
                threading.Thread(target=self._warm_up, daemon=True).start()
                self._warm_up = None
            self._compare(pid, known, before, tell)

    def _compare(self, pid: int, known: _Process, before: VmmPages | None, tell: Tell) -> None:
        """A failure that nobody has told of, in a page that stays as it is while nobody runs its vCPU."""
        if known.seen is None:
            return
        old = {page.address: page.page for page in before.pages} if before else {}
        still = []
        for page in known.seen.pages:
            same = page.is_failed and old.get(page.address) == page.page and known.told.get(page.address) != page.page
            known.same[page.address] = known.same.get(page.address, 0) + 1 if same else 0
            if not page.is_failed:
                known.told.pop(page.address, None)
            if known.same[page.address] >= _STILL:
                still.append(page)
        if not still:
            return
        now = threads_of(pid)
        still = [page for page in still if page.vcpu not in now.inside]
        if not still or now.busy:
            return
        known.told |= {page.address: page.page for page in still}
        failures = known.seen._replace(pages=tuple(still)).failures(self.host)
        tell(Incident(failures, pid, pid, "stopped", known.seen.pages))


def _is_of(failure: Failure, page: Failure) -> bool:
    """Whether the trace has told of what this page shows."""
    return failure.kind == page.kind and failure.source.vcpu in {page.source.vcpu, None}


def _wake_on_children() -> int:
    """A descriptor that is readable once a child, or a traced thread, has something to say."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return reader
