"""ptrace(2), as much of it as following takes: seize, let go on, let go. No register and no memory is ever written."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_CONT: Final = 7
_DETACH: Final = 17
_GETEVENTMSG: Final = 0x4201
_SEIZE: Final = 0x4206
_LISTEN: Final = 0x4208
_PR_SET_PTRACER: Final = 0x59616D61  # Yama's: who may trace this process besides its ancestors

EVENT_FORK: Final = 1
EVENT_VFORK: Final = 2
EVENT_CLONE: Final = 3
EVENT_EXEC: Final = 4
EVENT_EXIT: Final = 6
EVENT_STOP: Final = 128
_OPTIONS: Final = 1 << EVENT_FORK | 1 << EVENT_VFORK | 1 << EVENT_CLONE | 1 << EVENT_EXEC | 1 << EVENT_EXIT

WAIT_ALL: Final = 0x40000000  # __WALL: threads, too

_libc: Final = ctypes.CDLL(None, use_errno=True)
_ptrace: Final = _libc.ptrace
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_ptrace.restype = ctypes.c_long


def _call(request: int, thread: int, data: int | None = None) -> None:
    if _ptrace(request, thread, None, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def seize(thread: int) -> None:
    """Follow a thread without stopping it, with all that it will create. Raises OSError."""
    _call(_SEIZE, thread, _OPTIONS)


def go_on(thread: int, signal: int = 0) -> None:
    """Out of a stop; ``signal`` is delivered. Raises OSError if the thread has been killed meanwhile."""
    _call(_CONT, thread, signal)


def stay_stopped(thread: int) -> None:
    """Leave it in the stop that a signal asked for, until SIGCONT. Raises OSError."""
    _call(_LISTEN, thread)


def let_go(thread: int, signal: int = 0) -> None:
    """Out of a stop, and follow it no longer. Raises OSError."""
    _call(_DETACH, thread, signal)


def event_message(thread: int) -> int:
    """The new thread's number, or the exit status. Raises OSError."""
    message = ctypes.c_ulong()
    if _ptrace(_GETEVENTMSG, thread, None, ctypes.addressof(message)) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return message.value


def allow_tracer(pid: int) -> None:
    """Let ``pid`` trace the calling process, under Yama. Elsewhere nothing happens."""
    _libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)
