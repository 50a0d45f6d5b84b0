"""A file of records, one JSON object a line, that survives whoever writes it.

A record is written with one call and counts once its newline is there. What a killed writer left half done
is cut off by the next one; a full disk holds records back instead of tearing them.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from types import TracebackType
from typing import Final, Self

from kvmwhy.live.errors import BusyError, CaptureError, NotPermittedError

MAX_WAITING: Final = 10_000  # records held back while the disk is full
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_BLOCK: Final = 1 << 16
_MAX_TAIL: Final = 16 << 20


class Records:
    """Appends to ``path``; at ``max_size`` bytes the file becomes PATH.1, that one PATH.2, up to ``keep``.

    Raises NotPermittedError, BusyError (another writer has it), CaptureError.
    """

    def __init__(self, path: str, *, max_size: int | None = None, keep: int = 5) -> None:
        self.path, self.max_size, self.keep = path, max_size, max(1, keep)
        self.waiting: deque[bytes] = deque()
        self.written = 0
        self.dropped = 0
        self._dirty = False
        self._fd = self._open()
        self._mend()
        status = os.fstat(self._fd)
        self._inode, self._size = status.st_ino, status.st_size

    def _open(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except PermissionError:
            raise NotPermittedError(
                f"not permitted to write {self.path}: it takes write access to it and its directory"
            ) from None
        except OSError as error:
            raise CaptureError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise BusyError(f"{self.path} has another writer; two would mix their rotations") from None
        return fd

    def _mend(self) -> None:
        """Cut off a record that was killed in the middle. Text that is no record keeps its place, on its own line."""
        size = end = os.fstat(self._fd).st_size
        tail = b""
        while end and b"\n" not in tail and len(tail) < _MAX_TAIL:
            start = max(0, end - _BLOCK)
            tail = os.pread(self._fd, end - start, start) + tail
            end = start
        torn = tail[tail.rfind(b"\n") + 1 :]
        if torn.startswith(b"{") or not torn.strip(b"\0"):
            os.ftruncate(self._fd, size - len(torn))
        elif torn:
            os.write(self._fd, b"\n")

    @property
    def place(self) -> tuple[int, int]:
        """Where the next record will stand, unless the file is rotated before: its inode, and its size."""
        return self._inode, self._size

    def write(self, record: bytes) -> None:
        """One record without its newline. Never raises for want of room: the record waits, or is counted as dropped."""
        if len(self.waiting) >= MAX_WAITING:
            self.waiting.popleft()
            self.dropped += 1
        self.waiting.append(record + b"\n")
        self.flush()

    def flush(self) -> str | None:
        """Write what waits. Why not, if it cannot be written."""
        while self.waiting:
            problem = self._append(self.waiting[0])
            if problem:
                return problem
            self.waiting.popleft()
            self.written += 1
        return None

    def _append(self, line: bytes) -> str | None:
        try:
            if self.max_size is not None and self._size and self._size + len(line) > self.max_size:
                self._rotate()
            self._write_whole(line)
        except OSError as error:
            if error.errno not in _FULL:
                raise CaptureError(f"{self.path}: {(error.strerror or str(error)).lower()}") from None
            return f"{self.path}: {(error.strerror or str(error)).lower()}"
        self._size += len(line)
        self._dirty = True
        return None

    def _write_whole(self, line: bytes) -> None:
        """All of it or nothing."""
        done = 0
        try:
            while done < len(line):
                done += os.write(self._fd, line[done:])
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise

    def _rotate(self) -> None:
        """Each step renames: killed at any point, every record is still there, in order."""
        first_gap = next((n for n in range(1, self.keep) if not os.path.exists(f"{self.path}.{n}")), self.keep)
        for n in range(first_gap - 1, 0, -1):
            os.replace(f"{self.path}.{n}", f"{self.path}.{n + 1}")
        os.replace(self.path, f"{self.path}.1")
        fresh = self._open()
        os.close(self._fd)
        self._fd, self._inode, self._size = fresh, os.fstat(fresh).st_ino, 0

    def sync(self) -> None:
        """To the disk itself, against a crash of the host."""
        if self._dirty:
            self._dirty = False
            try:
                os.fdatasync(self._fd)
            except OSError:
                return  # a pipe or a terminal has nothing to sync

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            self.sync()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()
