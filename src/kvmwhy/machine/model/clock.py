"""Calls CPUs back out of Unicorn when their time is up.

One thread for all of them. It says so again until the CPU has noticed, as Unicorn forgets a request
that comes before it has started.
"""

from __future__ import annotations

import os
import threading
from math import inf
from time import monotonic
from typing import Final

from kvmwhy.machine.model.cpu import Cpu

_AGAIN: Final = 0.01


class Clock:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As if nothing had ever run: a forked child has the dictionary but not the thread."""
        self._deadlines: dict[Cpu, float] = {}
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._wakes_at = inf

    def enter(self, cpu: Cpu, deadline: float) -> None:
        with self._condition:
            self._deadlines[cpu] = deadline
            if deadline < self._wakes_at:
                self._wake_at(deadline)

    def leave(self, cpu: Cpu) -> None:
        with self._condition:
            self._deadlines.pop(cpu, None)

    def kick(self, cpu: Cpu) -> None:
        """Stop this CPU now, if it is inside."""
        with self._condition:
            if cpu in self._deadlines:
                self._deadlines[cpu] = 0.0
                cpu.ask_to_stop()
                self._wake_at(0.0)

    def _wake_at(self, deadline: float) -> None:
        self._wakes_at = deadline
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_time, name="kvmwhy-clock", daemon=True)
            self._thread.start()
        self._condition.notify()

    def _keep_time(self) -> None:
        with self._condition:
            while True:
                now = monotonic()
                late = [cpu for cpu, deadline in self._deadlines.items() if deadline <= now]
                for cpu in late:
                    cpu.ask_to_stop()
                self._wakes_at = now + _AGAIN if late else min(self._deadlines.values(), default=inf)
                wait = min(self._wakes_at - now, threading.TIMEOUT_MAX)
                self._condition.wait(None if self._wakes_at == inf else wait)


CLOCK: Final = Clock()
os.register_at_fork(after_in_child=CLOCK.reset)
