"""What was taken out of the kernel's buffer and is not told yet, in a file: whoever is killed leaves it to the next.

A page is written before anything else is done with it, and marks behind it for each record that is about to be written,
with the place where it will stand: whether the last one came so far is seen from the file of records. Without open
questions the file is cut back to its head.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from kvmwhy.live.errors import CaptureError, NotPermittedError
from kvmwhy.live.rate_limit import Mark

LARGE: Final = 4 << 20  # bytes, above which nothing should wait that need not
_LARGEST: Final = 16 << 20  # of what another one left
_DRIFT: Final = 60.0  # seconds
_HEAD: Final = b"H"  # what is needed to read the pages, on this boot or a later one
_PAGE: Final = b"P"  # behind its bounds
_TOLD: Final = b"T"
_ENTRY: Final = struct.Struct("<cI")  # kind, length
_OFFSET: Final = struct.Struct("<d")
_MARK: Final = struct.Struct("<Qd")
_BOUNDS: Final = struct.Struct("<dd")
_PLACE: Final = struct.Struct("<QQ")

Place = tuple[int, int]
"""Where the next record will stand: the file's inode, and its size."""


class Page(NamedTuple):
    """A page of a ring buffer. Only its events from ``since`` on and before ``until`` count: others have the rest."""

    raw: bytes
    since: float = -inf
    until: float = inf


class Left(NamedTuple):
    """What a killed watch had taken: pages, the formats of their events, failures of theirs that were told already.

    ``offset`` is the time of day minus the kernel's clock, in seconds, when it began.
    """

    formats: str
    offset: float
    pages: tuple[Page, ...]
    told: frozenset[Mark]

    @property
    def is_of_another_boot(self) -> bool:
        """Or of before this machine slept: its clock is not ours."""
        return abs(time.time() - time.monotonic() - self.offset) > _DRIFT


class Spool:
    """The file ``path``; there is one writer, who holds the lock of the records beside it, which end at ``place``.

    Raises NotPermittedError, CaptureError.
    ``left`` is there until begin(). Without room it gives up: ``problem`` says why, and nothing is kept any more.
    """

    def __init__(self, path: str, place: Place) -> None:
        self.path = path
        self.problem: str | None = None
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(path, flags, 0o600)
            spooled = os.pread(self._fd, _LARGEST, 0)
        except PermissionError:
            raise NotPermittedError(f"not permitted to write {path}: it takes write access to its directory") from None
        except OSError as error:
            raise CaptureError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        self.size = len(spooled)
        self._head = 0
        self.left = _left(spooled, place)

    def begin(self, formats: str) -> None:
        """Everything that was left is told: begin anew, with the formats of this kernel's events."""
        self.left = None
        self._cut(0)
        offset = time.time() - time.monotonic()
        self._append(_entry(_HEAD, _OFFSET.pack(offset) + formats.encode()))
        self._head = self.size

    def page(self, page: Page) -> None:
        """A page was taken out of the kernel's buffer."""
        self._append(_entry(_PAGE, _BOUNDS.pack(page.since, page.until) + page.raw))

    def telling(self, marks: Iterable[Mark], place: Place) -> None:
        """The record of these failures is about to be written."""
        self._append(_entry(_TOLD, _PLACE.pack(*place) + b"".join(_MARK.pack(*mark) for mark in marks)))

    def clear(self) -> None:
        """Everything is told."""
        if self.size > self._head:
            self._cut(self._head)

    def _append(self, entry: bytes) -> None:
        if self._fd < 0 or self.problem:
            return
        try:
            self.size += os.write(self._fd, entry)
        except OSError as error:
            self.problem = f"{self.path}: {(error.strerror or str(error)).lower()}"
            self._cut(0)  # a part of it would be taken for all

    def _cut(self, size: int) -> None:
        if self._fd >= 0:
            os.ftruncate(self._fd, size)
            self.size = size

    def close(self, *, empty: bool) -> None:
        """``empty``: nothing is left to tell. A file without anything goes."""
        if self._fd >= 0:
            if empty or self.size <= self._head:
                os.unlink(self.path)
            os.close(self._fd)
            self._fd = -1


def _entry(kind: bytes, payload: bytes) -> bytes:
    return _ENTRY.pack(kind, len(payload)) + payload


def _left(data: bytes, end: Place) -> Left | None:
    """What is whole in a spool, if there is a page in it. ``end``: of the records."""
    formats, offset = "", 0.0
    pages: list[Page] = []
    marks: set[Mark] = set()
    last: bytes = b""
    at = 0
    while at + _ENTRY.size <= len(data):
        kind, size = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        payload = data[at : at + size]
        if len(payload) < size:
            break
        at += size
        if kind == _HEAD and size >= _OFFSET.size:
            (offset,) = _OFFSET.unpack_from(payload)
            formats = payload[_OFFSET.size :].decode("utf-8", "replace")
        elif kind == _PAGE and size >= _BOUNDS.size:
            pages.append(Page(payload[_BOUNDS.size :], *_BOUNDS.unpack_from(payload)))
        elif kind == _TOLD and size % _MARK.size == _PLACE.size % _MARK.size and size >= _PLACE.size:
            marks.update(_MARK.iter_unpack(payload[_PLACE.size :]))
            last = payload
        else:
            break  # it is no spool, or a damaged one
    if last and not _is_past(_PLACE.unpack_from(last), end):
        marks.difference_update(_MARK.iter_unpack(last[_PLACE.size :]))
    return Left(formats, offset, tuple(pages), frozenset(marks)) if pages else None


def _is_past(place: Place, end: Place) -> bool:
    """Whether a record that was to stand at ``place`` is written, if the records end at ``end``."""
    (inode, size), (last_inode, last_size) = place, end
    return last_size > size if inode == last_inode else last_size > 0
