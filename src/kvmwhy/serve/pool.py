"""The server's side of the processes: as many at once as is allowed, each with a log and a time."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, Final

import msgspec

from kvmwhy.serve.limits import Limits
from kvmwhy.serve.worker import Answer, Task

_MOST_ANSWER: Final = 64 << 20
_GRACE: Final = 2  # seconds beyond the process's own alarm
_START: Final = 60


class GaveUpError(Exception):
    """The process ended without an answer: it was too much for its limits."""


class Pool:
    """Starts the process that the others are forked from; ``explain`` has one of them answer."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.workers)
        self._folder = tempfile.TemporaryDirectory(prefix="kvmwhy-serve-")  # nobody else can reach the socket in it
        self._path = os.path.join(self._folder.name, "workers")
        self._parent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when logs can be given. Raises OSError."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self._path)
            listener.listen(self._limits.waiting)
            command = [sys.executable, "-m", "kvmwhy.serve.worker", msgspec.json.encode(self._limits).decode()]
            self._parent = subprocess.Popen(
                [*command, str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(listener.fileno(),),
                start_new_session=True,
            )
        line = self._parent.stdout.readline() if self._parent.stdout else b""
        if line != b"ready\n":
            raise ChildProcessError("the workers do not start")

    def close(self) -> None:
        if self._parent is not None:
            if self._parent.stdin:
                self._parent.stdin.close()
            try:
                self._parent.wait(_START)
            except subprocess.TimeoutExpired:
                self._parent.kill()
                self._parent.wait()
            if self._parent.stdout:
                self._parent.stdout.close()
        self._folder.cleanup()

    async def explain(self, log: IO[bytes], task: Task) -> Answer:
        """Raises GaveUpError."""
        async with self._slots:
            return await self._explain(log, task)

    async def _explain(self, log: IO[bytes], task: Task) -> Answer:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
            socket.send_fds(connection, [msgspec.json.encode(task)], [log.fileno()])
        except OSError as error:
            connection.close()
            raise GaveUpError from error
        connection.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            async with asyncio.timeout(self._limits.seconds + _GRACE):
                data = bytearray()
                while chunk := await reader.read(1 << 20):
                    data += chunk
                    if len(data) > _MOST_ANSWER:
                        raise GaveUpError
            return msgspec.msgpack.decode(data, type=Answer)
        except (TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise GaveUpError from error
        finally:
            writer.close()
