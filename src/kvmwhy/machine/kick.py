"""How a thread is called back out of KVM_RUN: at its deadline, or when somebody kicks it.

The signal KICK stays blocked in every thread that runs a vCPU; KVM alone unblocks it, for as long as
KVM_RUN lasts (KVM_SET_SIGNAL_MASK). So it needs no handler, works in any thread, and cannot be lost:
one that comes too early is still pending when KVM_RUN starts, which then returns EINTR at once.

One thread per process keeps the deadlines. It sleeps until the earliest that it knows of; a guest that
exits in time costs a dictionary entry and no wake-up.
"""

from __future__ import annotations

import os
import signal
import threading
from math import inf
from time import monotonic
from typing import Final, Protocol

from kvmwhy.machine.linux import KICK


class Watched(Protocol):
    """What has a deadline: something that can be called back."""

    def call_back(self) -> None: ...


class Watch:
    """Who is due, and when. ``due`` is written without a lock: on entry first, and taken out on exit."""

    def __init__(self) -> None:
        self.due: dict[Watched, float] = {}  # deadlines by time.monotonic()
        self.reset()

    def reset(self) -> None:
        """Begin anew, without the thread that keeps time: a forked child has none."""
        self.due.clear()
        self.wakes_at = inf  # when that thread looks again by itself
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._sooner = threading.Condition(self._lock)

    def wake_at(self, deadline: float) -> None:
        """To be called by whoever put a deadline before ``wakes_at`` into ``due``."""
        with self._lock:
            if deadline >= self.wakes_at:
                return
            self.wakes_at = deadline
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_time, name="kvmwhy-watch", daemon=True)
                self._thread.start()
            else:
                self._sooner.notify()

    def _keep_time(self) -> None:
        with self._lock:
            while True:
                # First this, then the look around: who comes after the look finds inf, and waits for the lock.
                self.wakes_at = inf
                now = monotonic()
                entries = list(self.due.items())
                for watched, deadline in entries:
                    if deadline <= now:
                        self.due.pop(watched, None)
                        watched.call_back()
                self.wakes_at = min((deadline for _, deadline in entries if deadline > now), default=inf)
                del entries  # while it sleeps, it must not keep a vCPU alive
                wait = None if self.wakes_at == inf else min(self.wakes_at - now, threading.TIMEOUT_MAX)
                self._sooner.wait(wait)


WATCH: Final = Watch()
# A forked child has the deadlines but not the thread. Its VMs are not its own either: KVM says EIO.
os.register_at_fork(after_in_child=WATCH.reset)


class Caller:
    """Calls one vCPU's thread back out of KVM_RUN.

    The runner sets ``running``, and on its way out clears it and looks at ``calling``; the caller sets
    ``calling`` and then looks at ``running``. So one of the two sees the other: either there is no
    signal, or the runner waits for it, and takes it off its thread. No lock on the way of an exit.
    """

    __slots__ = ("calling", "lock", "running", "thread")

    def __init__(self) -> None:
        self.running = False
        self.calling = False
        self.thread = 0
        self.lock = threading.Lock()

    def call_back(self) -> None:
        """From any thread. Nothing happens if the vCPU does not run."""
        with self.lock:
            self.calling = True
            if self.running:
                signal.pthread_kill(self.thread, KICK)  # it cannot end before it has the lock
            else:
                self.calling = False

    def taken(self) -> None:
        """By the runner on its way out, if it finds ``calling``."""
        with self.lock:
            self.calling = False
        drain()


def drain() -> None:
    """Take KICK off this thread: while it is pending, every KVM_RUN would end at once."""
    signal.sigtimedwait({KICK}, 0)


def blocked_while_running() -> bytes:
    """Block KICK in this thread; the signal mask, 8 bytes, that KVM_RUN has instead."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {KICK})
    return sum(1 << int(number) - 1 for number in mask - {KICK}).to_bytes(8, "little")
