"""How the command starts: in the very process that kvmwhy was started in. A helper beside it follows.

So the caller's child is the command itself: its PID, exit status, signals, terminal, standard input and limits are its
own, and to kill what was started is to kill the command. The helper is a child of init, in a session of its own.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from kvmwhy.live.exec.output import Plan

NOT_FOUND: Final = 127  # as a shell exits
NOT_EXECUTABLE: Final = 126
_READY: Final = b"!"
_YAMA: Final = "/proc/sys/kernel/yama/ptrace_scope"
_NICE: Final = -10
_DEFAULTS: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores


class Link:
    """The helper's side of the start. The command waits until release() is called."""

    def __init__(self, command_pid: int, ready: int) -> None:
        self.command_pid = command_pid
        self._ready = ready

    def release(self) -> None:
        """Again: nothing."""
        if self._ready >= 0:
            with suppress(OSError):
                os.write(self._ready, _READY)
            os.close(self._ready)
            self._ready = -1


def start(command: tuple[str, ...], plans: list[Plan], helper: Callable[[Link], None]) -> NoReturn:
    """Fork the helper, wait until it is ready, and become the command. ``helper`` runs in the other process."""
    mine = os.getpid()
    ready, tell_ready = os.pipe2(os.O_CLOEXEC)
    allowed, tell_allowed = os.pipe2(os.O_CLOEXEC)
    number, tell_number = os.pipe2(os.O_CLOEXEC)
    between = os.fork()
    if not between:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(tell_number, str(os.getpid()).encode())
        for fd in (ready, tell_allowed, number, tell_number):
            os.close(fd)
        os.read(allowed, 1)
        os.close(allowed)
        _run(helper, Link(mine, tell_ready), {plan.source for plan in plans} | {tell_ready})
    os.close(tell_ready)
    os.close(tell_number)
    os.waitpid(between, 0)
    helper_pid = int(os.read(number, 16) or b"0")
    if helper_pid and os.path.exists(_YAMA):
        from kvmwhy.live.exec.ptrace import allow_tracer

        allow_tracer(helper_pid)
    os.write(tell_allowed, _READY)
    os.close(tell_allowed)
    if os.read(ready, 1):  # a helper that could not start passes nothing on
        for plan in plans:
            for fd in plan.fds:
                os.dup2(plan.command_end, fd)
    _become(command)


def _run(helper: Callable[[Link], None], link: Link, keep: set[int]) -> NoReturn:
    """The helper's life. Nothing that it was given but its own ends stays open in it."""
    try:
        for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):
            if fd > 2 and fd not in keep:
                with suppress(OSError):
                    os.close(fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _hurry()
        helper(link)
    finally:
        os._exit(0)


def _hurry() -> None:
    """Where that is permitted: at each stop a thread of the command waits for us, on a busy host for its turn, too."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        with open("/proc/self/autogroup", "w", encoding="ascii") as group:
            group.write(str(_NICE))


def _become(command: tuple[str, ...]) -> NoReturn:
    for number in _DEFAULTS:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 -- that is what was asked for
    except OSError as error:
        if error.errno == errno.ENOEXEC:  # a script without its first line: sh(1) runs it, as shells do
            with suppress(OSError):
                os.execv("/bin/sh", ("/bin/sh", _find(command[0]), *command[1:]))  # noqa: S606
        name = command[0].encode("utf-8", "backslashreplace")
        os.write(2, b"kvmwhy: %s: %s\n" % (name, os.strerror(error.errno or 0).lower().encode()))
        os._exit(NOT_FOUND if error.errno in {errno.ENOENT, errno.ENOTDIR} else NOT_EXECUTABLE)


def gains_rights(program: str) -> bool:
    """Whether executing it changes the user: that does not work for a program that somebody without root traces."""
    if os.geteuid() == 0:
        return False
    path = _find(program)
    try:
        mode = os.stat(path).st_mode
        return bool(mode & (stat.S_ISUID | stat.S_ISGID)) or "security.capability" in os.listxattr(path)
    except OSError:
        return False


def _find(program: str) -> str:
    if "/" in program:
        return program
    for directory in os.get_exec_path():
        path = os.path.join(directory, program)
        if os.access(path, os.X_OK):
            return path
    return program
