"""Standard output and error of a command, passed on byte by byte, and remembered: a VMM's log is in there.

Where one is a terminal or a pipe, the command gets one of the same kind instead, and what it writes is passed on in its
order. Both get the same one if they were the same. Anything else the command keeps as it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import select
import stat
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

_CHUNK: Final = 64 << 10
_HEAD: Final = 256 << 10  # of a stream: a log's first lines name the VMM and its command line
_TAIL: Final = 4 << 20
_HELD_BACK: Final = 256 << 10  # bytes that the reader has not taken: then no more is read from the command
_OFLAG, _LFLAG = 1, 3
_PACKET_DATA: Final = 0
_EXTPROC: Final = 0x10000  # termios(3): the master hears of changes to the terminal's modes
_TIOCPKT: Final = 0x5420


class Log:
    """What a stream has carried: its beginning and its end; the middle goes if it is long."""

    def __init__(self) -> None:
        self.total = 0
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.dropped = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        if room := _HEAD - len(self._head):
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size - len(self._tail[0]) >= _TAIL:
                gone = self._tail.popleft()
                self._tail_size -= len(gone)
                self.dropped += len(gone)

    @property
    def data(self) -> bytes:
        """The beginning and the end, with a line between them that says how much is missing."""
        gap = b"\n[%d bytes are not kept]\n" % self.dropped if self.dropped else b""
        return bytes(self._head) + gap + b"".join(self._tail)


class Plan(NamedTuple):
    """``fds`` are the command's descriptors that lead to ``sink``; ``source`` is where its output is read."""

    fds: tuple[int, ...]
    command_end: int
    source: int
    is_terminal: bool


def plan() -> list[Plan]:
    """What stands between the command and our own descriptors 1 and 2. Raises OSError."""
    kinds: dict[object, list[int]] = {}
    for fd in (1, 2):
        try:
            info = os.fstat(fd)
        except OSError:
            continue  # it is closed, and stays so
        if stat.S_ISFIFO(info.st_mode):
            kinds.setdefault(("pipe", info.st_dev, info.st_ino), []).append(fd)
        elif stat.S_ISCHR(info.st_mode) and os.isatty(fd):
            kinds.setdefault(("terminal", info.st_rdev), []).append(fd)
    return [
        _plan(tuple(fds), is_terminal=isinstance(key, tuple) and key[0] == "terminal") for key, fds in kinds.items()
    ]


def _plan(fds: tuple[int, ...], *, is_terminal: bool) -> Plan:
    if is_terminal:
        source, command_end = pty.openpty()
        _like(fds[0], source)
    else:
        source, command_end = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, fcntl.fcntl(fds[0], fcntl.F_GETPIPE_SZ))
    return Plan(fds, command_end, source, is_terminal)


def _like(terminal: int, master: int) -> None:
    """The modes and the size of ``terminal``, but for its output processing: that is done once, by itself."""
    modes = termios.tcgetattr(terminal)
    modes[_OFLAG] &= ~termios.OPOST
    modes[_LFLAG] |= _EXTPROC
    termios.tcsetattr(master, termios.TCSANOW, modes)
    termios.tcsetwinsize(master, termios.tcgetwinsize(terminal))
    fcntl.ioctl(master, _TIOCPKT, b"\1\0\0\0")


def inherited_files() -> dict[int, tuple[str, int]]:
    """Regular files that the command writes to by itself: descriptor → how to open it, and its size by now."""
    files = {}
    for fd in (1, 2):
        with suppress(OSError):
            info = os.fstat(fd)
            if stat.S_ISREG(info.st_mode):
                files[fd] = (f"/proc/self/fd/{fd}", info.st_size)
    return files


def leave(fds: tuple[int, ...]) -> None:
    """Hold the command's own terminals and pipes no longer. A regular file nobody waits for."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        with suppress(OSError):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.dup2(nothing, fd)
    os.close(nothing)


class Relay:
    """From the command to where our descriptor leads. ``is_open`` until the last writer has closed its end."""

    def __init__(self, plan: Plan) -> None:
        self.fds = plan.fds
        self.sink = plan.fds[0]
        self.source = plan.source
        self.is_terminal = plan.is_terminal
        self.log = Log()
        self.is_open = True
        self._is_heard = True  # somebody reads at the other end
        self._is_left = False
        self._waiting = bytearray()
        os.set_blocking(self.source, False)

    @property
    def interest(self) -> Iterator[tuple[int, int]]:
        """What to wait for: (descriptor, poll's events)."""
        if self.is_open and len(self._waiting) < _HELD_BACK:
            yield self.source, select.POLLIN
        if self._is_heard:
            yield self.sink, select.POLLOUT if self._waiting else 0  # 0: whether the reader has gone

    def pump(self) -> bool:
        """Take what is there and pass on what can be; whether anything moved."""
        moved = False
        while self.is_open and len(self._waiting) < _HELD_BACK:
            data = self._read()
            if data is None:
                break
            if data:
                moved = True
                self.log.add(data)
                if self._is_heard:
                    self._waiting += data
        return self._pass_on() or moved

    def drain(self) -> None:
        """Pass on all that the command has written by now, however long its reader takes for that."""
        while self.pump() or self._waiting:
            if self._waiting:
                select.select((), (self.sink,), ())

    def _read(self) -> bytes | None:
        """Empty: something else came than data. None: nothing is there."""
        try:
            data = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EINTR:
                return b""
            data = b""  # EIO: a terminal whose last user has closed it
        if not data:
            self.close_source()
            return None
        if not self.is_terminal:
            return data
        if data[0] == _PACKET_DATA:
            return data[1:]
        self._follow_modes()
        return b""

    def _pass_on(self) -> bool:
        """Of a stream that has ended we let go ourselves: its reader waits for that."""
        moved = False
        while self._waiting and self._is_heard:
            try:
                poller = select.poll()
                poller.register(self.sink, select.POLLOUT)
                if not poller.poll(0):
                    break
                # As much as fits for sure: the descriptor may block, and others have it, too.
                written = os.write(self.sink, self._waiting[: select.PIPE_BUF])
            except BlockingIOError:
                break
            except OSError:
                self.reader_has_gone()
                break
            del self._waiting[:written]
            moved = True
        if self.is_done and not self._is_left:
            self._is_left = True
            self._is_heard = False
            leave(self.fds)
        return moved

    def reader_has_gone(self) -> None:
        """The command learns it as it would without us: by SIGPIPE, or by an error of its terminal."""
        self._is_heard = False
        self._waiting.clear()
        self.close_source()

    def close_source(self) -> None:
        if self.is_open:
            self.is_open = False
            os.close(self.source)

    @property
    def is_done(self) -> bool:
        """Nothing more will be passed on."""
        return not self.is_open and not self._waiting

    # -- terminals ---------------------------------------------------------------------------------

    def follow_size(self) -> None:
        """The terminal's size may have changed."""
        if self.is_terminal and self.is_open:
            with suppress(OSError, termios.error):
                size = termios.tcgetwinsize(self.sink)
                if size != termios.tcgetwinsize(self.source):
                    termios.tcsetwinsize(self.source, size)

    def _follow_modes(self) -> None:
        """The command has set modes of what it takes for its terminal: they are meant for the real one."""
        with suppress(OSError, termios.error):
            theirs = termios.tcgetattr(self.source)
            real = termios.tcgetattr(self.sink)
            wanted = [theirs[0], real[1], real[2], theirs[3] & ~_EXTPROC, *real[4:6], theirs[6]]
            if wanted != real:
                termios.tcsetattr(self.sink, termios.TCSANOW, wanted)
