"""The server's side of the processes: as many at once as is allowed, each with a log and a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, Final

import msgspec

from kvmwhy.serve.limits import ServerLimits
from kvmwhy.serve.worker import BEGUN, Answer, Task

_LOG: Final = logging.getLogger("kvmwhy.serve")
_MOST_ANSWER: Final = 64 << 20
_GRACE: Final = 2  # seconds beyond the process's own alarm
_START: Final = 60


class GaveUpError(Exception):
    """The process ended without an answer: it was too much for its limits."""


class NoWorkerError(Exception):
    """No process took the task: it may be given again."""


class Pool:
    """Starts the process that the others are forked from; ``explain`` has one of them answer.

    If that process ends, whyever, it is noticed by the next request and started again.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.workers)
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # nobody else can reach the socket in it
        self._path = ""
        self._parent: subprocess.Popen[bytes] | None = None
        self._restart: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Returns when logs can be given. Raises OSError."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="kvmwhy-serve-")
            self._path = os.path.join(self._folder.name, "workers")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)  # of one that has ended
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self._path)
            listener.listen(self._limits.waiting)
            command = [sys.executable, "-m", "kvmwhy.serve.worker", msgspec.json.encode(self._limits).decode()]
            parent = subprocess.Popen(
                [*command, str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        line = parent.stdout.readline() if parent.stdout else b""
        if line != b"ready\n":
            _end(parent, 0)
            raise ChildProcessError("the workers do not start")
        self._parent = parent

    def lives(self) -> bool:
        """Whether logs can be given; if not, the process is being started again. In the event loop only."""
        if self._restart is not None:
            return False
        if self._parent is not None and self._parent.poll() is None:
            return True
        _LOG.error("the process that workers are forked from has ended: it is started again")
        self._restart = asyncio.create_task(self._start_again())
        return False

    async def _start_again(self) -> None:
        try:
            if self._parent is not None:
                _end(self._parent, 0)
                self._parent = None
            await asyncio.to_thread(self.start)
        except OSError as error:
            _LOG.error("%s", error)
        finally:
            self._restart = None

    async def close(self) -> None:
        if self._restart is not None:
            await self._restart
        if self._parent is not None:
            await asyncio.to_thread(_end, self._parent, _START)
        if self._folder is not None:
            self._folder.cleanup()

    async def explain(self, log: IO[bytes], task: Task) -> Answer:
        """Raises GaveUpError, NoWorkerError."""
        async with self._slots:
            if not self.lives():
                raise NoWorkerError("the processes are being started again")
            data = await self._asked(log, task)
        if not data.startswith(BEGUN):
            raise NoWorkerError("no process could be had")
        try:
            return msgspec.msgpack.decode(memoryview(data)[len(BEGUN) :], type=Answer)
        except msgspec.MsgspecError as error:
            raise GaveUpError from error

    async def _asked(self, log: IO[bytes], task: Task) -> bytes:
        """What the process sent, whole or not. Raises GaveUpError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
            socket.send_fds(connection, [msgspec.json.encode(task)], [log.fileno()])
        except OSError as error:
            connection.close()
            raise NoWorkerError("no process listens") from error
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds + _GRACE):
                while chunk := await reader.read(1 << 20):
                    data += chunk
                    if len(data) > _MOST_ANSWER:
                        raise GaveUpError
        except OSError:  # its time is over, or the process ended amid it
            pass
        finally:
            writer.close()
        return bytes(data)


def _end(parent: subprocess.Popen[bytes], seconds: float) -> None:
    """End when its stdin does, or else after some seconds."""
    if parent.stdin:
        with contextlib.suppress(BrokenPipeError):
            parent.stdin.close()
    try:
        parent.wait(seconds)
    except subprocess.TimeoutExpired:
        parent.kill()
        parent.wait()
    if parent.stdout:
        parent.stdout.close()
