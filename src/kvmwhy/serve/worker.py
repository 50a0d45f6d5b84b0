"""One process for each request, forked from one that has everything imported: it reads a log, answers, and ends.

The server hands over the log as an open file, so the process opens nothing itself. What it may use of CPU, memory,
files and time is limited by the kernel; a log that is too much for it ends that process alone.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from kvmwhy.serve.limits import ServerLimits

_CHUNK: Final = 1 << 20
_HEAD: Final = 4096
_FILES: Final = 64
_PAUSE: Final = 0.1
BEGUN: Final = b"+"  # in front of an answer, and sent before the log is read: without it no process took the task
_NOT_KEPT: Final = (
    "Remarks on what could not be read of the log: {}. They can name files, so they are not kept with the redacted "
    "record. Send the log without keeping a copy to see them"
)
_WARM_UP: Final = b"""KVM internal error. Suberror: 1
RAX=0000000000000000 RBX=00000000d0000000 RCX=0000000000000000 RDX=0000000000000000
RIP=0000000000008086 RFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
Code=90 90 <c5> fe 6f 03
"""


class Task(msgspec.Struct, frozen=True):
    """What is asked of a process; the log itself comes as an open file."""

    name: str | None = None
    keep: bool = False  # a redacted record is wanted
    is_record: bool = False  # the log is one of ours: there are no lines to show
    remarks: int = 0  # that were made when a record's log was read
    skip: int = 0  # bytes in front of the log


class Answer(msgspec.Struct, frozen=True):
    """What it found. ``record`` is empty unless it was asked for."""

    page: str | None
    json: list[bytes]
    remarks: list[str]
    record: bytes = b""


def main() -> None:
    """Wait for tasks on the socket whose number is the last argument; end when stdin does, with the server."""
    limits = msgspec.json.decode(sys.argv[1].encode(), type=ServerLimits)
    listener = socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who ends is forgotten
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server is told, and ends this
    _warm_up()
    gc.collect()
    gc.freeze()  # what is here is shared with every process to come
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([listener.fileno(), sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in ready:
            return
        try:
            connection, _ = listener.accept()
        except OSError:  # no file is free, or the client is gone
            time.sleep(_PAUSE)
            continue
        with connection:
            try:
                child = os.fork()
            except OSError:  # no process or memory is to be had: the server sees that nothing has begun
                continue
            if child == 0:
                try:
                    listener.close()
                    _serve(connection, limits)
                finally:
                    os._exit(0)


def _warm_up() -> None:
    """Import and build what most logs need."""
    from kvmwhy.fleet.redact import redact
    from kvmwhy.report import report

    for failure in report([_WARM_UP], None, made=datetime.fromtimestamp(0, UTC)).failures:
        redact(failure)


def _serve(connection: socket.socket, limits: ServerLimits) -> None:
    _confine(limits)
    head, files, _, _ = socket.recv_fds(connection, _HEAD, 1)
    if len(files) != 1:
        return
    connection.sendall(BEGUN)
    task = msgspec.json.decode(head, type=Task)
    answer = explain(_chunks(files[0], task.skip), task, limits)
    connection.sendall(msgspec.msgpack.encode(answer))


def explain(chunks: Iterator[bytes], task: Task, limits: ServerLimits) -> Answer:
    """The answer to one task, in whatever process."""
    from kvmwhy import report as explained

    bounds = explained.InputLimits(failures=limits.failures, unpacked=limits.unpacked, members=limits.members)
    found = explained.report(
        chunks,
        task.name,
        made=datetime.fromtimestamp(time.time(), UTC),
        limits=bounds,
        excerpts=not task.is_record,
        remarked=[_NOT_KEPT.format(task.remarks)] if task.remarks else [],
    )
    record = b""
    if task.keep and found.failures:
        from kvmwhy.fleet.redact import redact
        from kvmwhy.render.json import to_record

        record = b"\n".join(to_record(redact(failure).failure) for failure in found.failures)
    return Answer(found.page, list(found.json), list(found.remarks), record)


def _confine(limits: ServerLimits) -> None:
    """What the kernel holds this process to. The alarm's action is to end it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limits.seconds)
    for what, most in (
        (resource.RLIMIT_CPU, limits.seconds),
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_FSIZE, 0),  # it writes no file
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),  # a core would have the log in it
    ):
        resource.setrlimit(what, (most, most))


def _chunks(file: int, skip: int) -> Iterator[bytes]:
    os.lseek(file, skip, os.SEEK_SET)
    while chunk := os.read(file, _CHUNK):
        yield chunk


if __name__ == "__main__":
    main()
