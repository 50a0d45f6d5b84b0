"""What there is to do: every input, big ones cut into ranges that no block goes over.

A piece is a file or a range of one, a batch is the unit of work, of restarting and of distribution; both are the same
wherever they are done.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

import msgspec

from kvmwhy.fleet.block_dedup import REACH, Header, header_text
from kvmwhy.fleet.blocks import AFTER, AHEAD, KEEP, LARGEST, Ends
from kvmwhy.fleet.extract import WHOLE, is_image
from kvmwhy.fleet.files import Found, is_remote, open_input, remote
from kvmwhy.fleet.marks import END, LIBVIRT, find, is_head, is_header
from kvmwhy.ingest.packed import is_packed

SIZE: Final = 128 << 20
MOST_FILES: Final = 2000  # in one batch
_SEARCH: Final = 1 << 20  # a place to cut is looked for in steps of this size
_MOST_SEARCHED: Final = 64
_DESERT: Final = 2 * (AFTER + KEEP + AHEAD)
_RECORDS: Final = b'{"schema"'


class Piece(msgspec.Struct, frozen=True):
    """``end`` is ``None`` for an input that must be read from its beginning to its end: packed, or no text."""

    path: str
    start: int
    end: int | None
    size: int
    changed: float  # mtime, in seconds since 1970


class Unread(msgspec.Struct, frozen=True):
    """What could not be read, and why, in one sentence."""

    path: str
    why: str


def plan(paths: Iterable[str], *, size: int = SIZE) -> Iterator[Piece | Unread]:
    """Pieces of about ``size`` bytes of all that is named: files, directories, globs. Each file once."""
    seen: set[tuple[int, int]] = set()
    objects: set[str] = set()
    for path in paths:
        if is_remote(path):
            yield from _remote(path, objects, size)
            continue
        matches = [path]
        if glob.has_magic(path) and not os.path.lexists(path):
            matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            yield Unread(path, "nothing matches it")
        for match in matches:
            yield from _walk(match, seen, size)


def batches(pieces: Iterable[Piece], *, size: int = SIZE) -> Iterator[list[Piece]]:
    """Pieces that follow each other, together about ``size`` bytes: many small files are one batch."""
    batch: list[Piece] = []
    held = 0
    for piece in pieces:
        if batch and (held + piece.size > size or len(batch) >= MOST_FILES):
            yield batch
            batch, held = [], 0
        batch.append(piece)
        held += piece.size
    if batch:
        yield batch


def _walk(top: str, seen: set[tuple[int, int]], size: int) -> Iterator[Piece | Unread]:
    """In the order of names. Links to directories are followed only where they are named."""
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            info = os.stat(path)
            if (info.st_dev, info.st_ino) in seen:
                continue
            if stat.S_ISDIR(info.st_mode):
                with os.scandir(path) as entries:
                    names = sorted(e.path for e in entries if not (e.is_symlink() and e.is_dir()))
                waiting += reversed(names)
            elif stat.S_ISREG(info.st_mode):
                seen.add((info.st_dev, info.st_ino))
                yield from _cut(Found(path, info.st_size, info.st_mtime), size)
            elif path == top:
                yield Unread(path, "it is no file and no directory")
        except (OSError, ValueError) as error:
            yield Unread(path, why(error))


def why(error: OSError | ValueError) -> str:
    """The reason of an error as the end of a sentence."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).lower()


def _remote(url: str, seen: set[str], size: int) -> Iterator[Piece | Unread]:
    try:
        for found in remote(url):
            if found.path in seen:
                continue
            seen.add(found.path)
            try:
                yield from _cut(found, size)
            except (OSError, ValueError) as error:
                yield Unread(found.path, why(error))
    except (OSError, ValueError) as error:
        yield Unread(url, why(error))


def _cut(found: Found, size: int) -> Iterator[Piece]:
    if not found.size:
        return
    start = 0
    if found.size > max(WHOLE, size * 3 // 2):
        with open_input(found.path) as file:
            head = file.read(64 << 10)
            if not is_packed(head) and not head.startswith(_RECORDS) and not is_image(head):
                while found.size - start > size * 3 // 2:
                    end = boundary(file, start + max(size, WHOLE), found.size)
                    if end is None:
                        break
                    yield Piece(found.path, start, end, end - start, found.changed)
                    start = end
                yield Piece(found.path, start, found.size, found.size - start, found.changed)
                return
    yield Piece(found.path, 0, None, found.size, found.changed)


def boundary(file: BinaryIO, wanted: int, size: int) -> int | None:
    """The first place from ``wanted`` on that no block goes over, whatever stands far from it; ``None``: none is near.

    That is an announcement right behind another's dump, where no two vCPUs write at once, or the beginning of a line
    without a mark far and wide; in a text without lines, any place without one.
    """
    step = _SEARCH
    for n in range(_MOST_SEARCHED):
        begin = wanted + n * step - _DESERT
        if begin + _DESERT >= size:
            return None
        file.seek(max(0, begin))
        data = file.read(step + 2 * _DESERT)
        least = wanted + n * step - max(0, begin)
        at = _boundary(data, least)
        if at is not None:
            return max(0, begin) + at
    return None


def _boundary(data: bytes, least: int) -> int | None:
    found = find(data)
    ends = Ends(data, found)
    previous, head = 0, -1
    for n in range(len(found) + 1):
        which, at = found[n][:2] if n < len(found) else (-1, len(data))
        if at - previous > _DESERT and at - _DESERT // 2 >= least:
            middle = max(least, previous + _DESERT // 2)
            newline = data.find(b"\n", middle, at - _DESERT // 2)
            return newline + 1 if newline >= 0 else middle
        if n < len(found) and is_head(which):
            if head >= 0 and at >= least and at + AHEAD <= len(data):
                line = _line_between(data, head, previous, at, ends)
                if line >= least:
                    return line
            head = at
        previous = at
    return None


def _line_between(data: bytes, head: int, previous: int, at: int, ends: Ends) -> int:
    """The beginning of the line of ``at``, if what was announced at ``head`` ends right before it; else -1."""
    line = data.rfind(b"\n", max(previous, at - KEEP), at) + 1
    if not line or at - previous > AFTER or not ends.between(head, at) or ends.owed(at):
        return -1
    code = data.rfind(END, head, line)
    return line if code < 0 or data.find(b"\n", code, line) == line - 1 else -1


def header_before(file: BinaryIO, start: int) -> Header | None:
    """The header of libvirt that holds at ``start``: the last, if it is near enough."""
    begin = max(0, start - REACH - KEEP)
    file.seek(begin)
    data = file.read(start - begin)
    for which, at, _ in reversed(find(data)):
        if is_header(which):
            file.seek(begin)
            more = file.read(start - begin + LARGEST)
            return begin + at, header_text(more, at)
    return None


def first_header(file: BinaryIO) -> bytes:
    """The header of libvirt at the beginning of a file, which names the host of all that follows."""
    file.seek(0)
    data = file.read(64 << 10)
    at = data.find(LIBVIRT)
    return header_text(data, at) if at >= 0 else b""
