"""``kvmwhy explain -f``: each failure in a log as it is written, until it is stopped."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections import Counter
from typing import Final

import msgspec

from kvmwhy.cli.explain import Wish, names_of
from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.pipeline import identity, records
from kvmwhy.record import Failure
from kvmwhy.render.json import to_json
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

_PAUSE: Final = 0.1  # seconds between two looks at the files
_WRITTEN: Final = 0.5  # seconds without a new byte, after which a failure is taken to be whole
_OVER: Final = 2.0  # seconds, after which nothing that comes belongs to what is there
# Windows has not all of them, and would change the ends of lines without the last.
_OPEN: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_CHUNK: Final = 1 << 20
_MOST_HELD: Final = 4 << 20  # bytes of a log that are read together while more keeps coming
_CONTEXT: Final = 64 << 10  # of them that stay, if there is no failure in them


class Tail:
    """What a file gains, through rotation and truncation; or a pipe. Raises OSError for a file that is not there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_new = False  # what read() gave last begins a new file
        self.has_ended = False
        mode = os.fstat(0).st_mode if path == "-" else os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._is_pipe = path == "-" or not stat.S_ISREG(mode)
        wait = 0 if self._is_pipe else _NO_WAIT  # a named pipe has no end before somebody writes to it
        self._fd = 0 if path == "-" else os.open(path, _OPEN | wait)
        self._at = 0

    def read(self) -> bytes:
        """At most a chunk; nothing if nothing has come."""
        self.is_new = False
        if self._is_pipe:
            return self._from_pipe()
        data = self._chunk(self._at)
        if not data and self._is_replaced():
            self._at, self.is_new = 0, True
            data = self._chunk(0)
        self._at += len(data)
        return data

    def _chunk(self, at: int) -> bytes:
        os.lseek(self._fd, at, os.SEEK_SET)  # os.pread is not on Windows
        return os.read(self._fd, _CHUNK)

    def _from_pipe(self) -> bytes:
        if not select.select([self._fd], [], [], 0)[0]:
            return b""
        data = os.read(self._fd, _CHUNK)
        self.has_ended = not data
        return data

    def _is_replaced(self) -> bool:
        """Cut off, or another file by the same name: that is opened."""
        here = os.fstat(self._fd)
        if here.st_size < self._at:
            return True
        try:
            there = os.stat(self.path)
            if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                return False
            fresh = os.open(self.path, _OPEN | _NO_WAIT)
        except OSError:
            return False  # between two files
        os.close(self._fd)
        self._fd = fresh
        return True


class Followed:
    """One log: the part of it that may still be of interest, and what of that has been told."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self._held = bytearray()
        self._lines_gone = 0
        self._told: set[tuple[int | None, str]] = set()
        self._last_byte = time.monotonic()
        self._is_read = True  # nothing has come since the last look

    def failures(self) -> list[Failure]:
        """Those that are complete by now and were not told before, with their lines in the file."""
        data = self.tail.read()
        now = time.monotonic()
        rest: list[Failure] = []
        if self.tail.is_new:
            rest = self._read(is_over=True)[0] if self._held else []
            self._forget(len(self._held))
            self._lines_gone = 0
        if data:
            self._held += data
            self._last_byte, self._is_read = now, False
        quiet = now - self._last_byte
        is_over = quiet >= _OVER or self.tail.has_ended
        if not self._held or not (is_over or len(self._held) > _MOST_HELD or (quiet >= _WRITTEN and not self._is_read)):
            return rest
        self._is_read = True
        fresh, last = self._read(is_over=is_over)
        if is_over:
            self._forget(len(self._held))
        elif len(self._held) > _MOST_HELD:
            self._forget(self._begin_of(last) if last else len(self._held) - _CONTEXT)
        return rest + fresh

    def _read(self, *, is_over: bool) -> tuple[list[Failure], int | None]:
        """New failures, and the line in what is held at which the last of all begins."""
        path = None if self.tail.path == "-" else self.tail.path
        fresh, last = [], None
        for record in records((bytes(self._held),), path):
            failure = record.failure
            line = failure.source.line
            last = line or last
            mark = (None if line is None else line + self._lines_gone, failure.kind)
            if mark in self._told or (failure.damage and not is_over):  # torn: its rest may be on its way
                continue
            self._told.add(mark)
            if line is not None:
                source = msgspec.structs.replace(failure.source, line=mark[0])
                failure = msgspec.structs.replace(failure, source=source)
            fresh.append(failure)
        return fresh, last

    def _begin_of(self, line: int) -> int:
        at = 0
        for _ in range(line - 1):
            at = self._held.find(b"\n", at) + 1
        return at

    def _forget(self, size: int) -> None:
        """The first ``size`` bytes, to the end of a line."""
        end = self._held.rfind(b"\n", 0, size) + 1 if size < len(self._held) else len(self._held)
        self._lines_gone += self._held.count(b"\n", 0, end)
        del self._held[:end]
        self._told = {mark for mark in self._told if mark[0] is not None and mark[0] > self._lines_gone}


def run(files: tuple[str, ...], wish: Wish) -> int:
    """Follow ``files`` until SIGINT, or until all of them were pipes and have ended; return the exit status."""
    logs = []
    for path in files:
        try:
            logs.append(Followed(Tail(path)))
        except OSError as error:
            complain(f"{path}: {(error.strerror or str(error)).lower()}")
            return NOT_PERMITTED if isinstance(error, PermissionError) else BAD_INPUT
    seen: Counter[bytes] = Counter()
    try:
        while True:
            has_ended = all(log.tail.has_ended for log in logs)
            for log in logs:
                for failure in log.failures():
                    _tell(failure, seen, wish)
            if has_ended:
                break
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        pass
    return DONE if seen else NOTHING


def _tell(failure: Failure, seen: Counter[bytes], wish: Wish) -> None:
    """As it is wanted the first time; what comes again is counted on a line."""
    key = identity(failure)
    seen[key] += failure.source.count
    diagnosis = diagnose(failure, syntax=wish.syntax)
    if wish.as_json:
        encode = wish.symbols.json if wish.symbols else to_json
        sys.stdout.buffer.write(encode(diagnosis) + b"\n")
    elif seen[key] > failure.source.count:
        where = f"line {failure.source.line}" if failure.source.line else "again"
        show([Line(safe(f"{where}: the same, {seen[key]} times by now: {diagnosis.answer}"), "dim")])
    else:
        show(_page(diagnosis, wish))
    sys.stdout.flush()


def _page(diagnosis: Diagnosis, wish: Wish) -> list[Line]:
    from kvmwhy.render.screen import brief, screen
    from kvmwhy.render.text import explanation

    if wish.depth == "brief":
        return brief(diagnosis)
    is_full = wish.depth == "full"
    page = explanation(diagnosis) if is_full else screen(diagnosis, syntax=wish.syntax, role=wish.role)
    return [*page, *names_of(diagnosis, wish), Line(), Line("─" * 60, "dim"), Line()]
