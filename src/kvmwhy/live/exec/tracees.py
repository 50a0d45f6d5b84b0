"""The processes that a command becomes, followed by ptrace: where they fork, execute a program, and end.

A traced thread runs at full speed until it creates, executes or ends something, or a signal comes. At its end it stands
still while its address space is still there: then the pages of its vCPUs are read.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal, NamedTuple

from kvmwhy.live.exec import ptrace
from kvmwhy.live.process import process_of

_CREATIONS: Final = {ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE}
_STOPS: Final = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
# Programs that trace others: what is traced by us cannot be traced by them.
_TRACERS: Final = frozenset({"gdb", "gdbserver", "lldb", "lldb-server", "ltrace", "perf", "rr", "runsc", "strace"})

What = Literal["end", "program", "signal"]


class Moment(NamedTuple):
    """A thread that stands still, to be released by Tracees.release(): it ends, or is about to run a new program.

    ``status`` is the wait status with which it ends, or the signal that it gets.
    """

    what: What
    thread: int
    pid: int
    status: int = 0


class Tracees:
    """All threads that are followed. ``processes`` are their processes, as far as they have not ended."""

    def __init__(self) -> None:
        self._process: dict[int, int] = {}  # thread → its process
        self._expected: set[int] = set()  # threads that were created and have not stopped yet
        self._early: set[int] = set()  # threads that have stopped before their creation was reported
        self.left_alone: set[int] = set()  # processes that trace others themselves

    def seize(self, pid: int) -> None:
        """Begin with the only thread of ``pid``. Raises OSError."""
        ptrace.seize(pid)
        self._process[pid] = pid

    def __bool__(self) -> bool:
        return bool(self._process or self._expected)

    @property
    def processes(self) -> set[int]:
        return set(self._process.values())

    def process_of(self, thread: int) -> int | None:
        """Of a thread that is followed."""
        return self._process.get(thread)

    def moments(self) -> Iterator[Moment]:
        """What has happened since the last time. Each thread that is given out waits to be released."""
        while True:
            try:
                thread, status = os.waitpid(-1, os.WNOHANG | ptrace.WAIT_ALL)
            except ChildProcessError:
                self._process.clear()
                self._expected.clear()
                return
            if not thread:
                return
            if os.WIFSTOPPED(status):
                with suppress(OSError):  # it was killed while it stood still
                    yield from self._stopped(thread, status >> 16, os.WSTOPSIG(status))
            else:
                self._process.pop(thread, None)
                self._expected.discard(thread)

    def _stopped(self, thread: int, event: int, number: int) -> Iterator[Moment]:
        pid = self._process.get(thread)
        if pid is None:
            pid = self._process[thread] = process_of(thread) or thread
            if thread in self._expected:
                self._expected.discard(thread)
            else:
                self._early.add(thread)
        if event in _CREATIONS:
            created = ptrace.event_message(thread)
            if created in self._early:
                self._early.discard(created)
            else:
                self._expected.add(created)
            ptrace.go_on(thread)
        elif event == ptrace.EVENT_EXIT:
            yield Moment("end", thread, pid, ptrace.event_message(thread))
        elif event == ptrace.EVENT_EXEC:
            self._process = {t: p for t, p in self._process.items() if p != pid or t == pid}
            self._process[thread] = thread
            yield Moment("program", thread, thread)
        elif event == ptrace.EVENT_STOP:
            if number in _STOPS:
                ptrace.stay_stopped(thread)
            else:
                ptrace.go_on(thread)
        else:
            yield Moment("signal", thread, pid, number)

    def release(self, moment: Moment) -> None:
        """Let the thread go on, or end."""
        with suppress(OSError):  # killed meanwhile
            if moment.what == "end":
                self._process.pop(moment.thread, None)
                ptrace.let_go(moment.thread)
            elif moment.what == "signal":
                ptrace.go_on(moment.thread, moment.status)
            elif _program(moment.pid) in _TRACERS:
                self.left_alone.add(moment.pid)
                self._process.pop(moment.thread, None)
                ptrace.let_go(moment.thread)
            else:
                ptrace.go_on(moment.thread)


def _program(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""
