"""What there is to do: every input, big ones by ranges of blocks.

A piece is a file or a range of one, a batch is the unit of work, of restarting and of distribution; both are the same
wherever they are done.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from kvmwhy.fleet.extract import HEAD, is_image
from kvmwhy.fleet.files import Found, is_remote, open_input, remote
from kvmwhy.ingest.packed import is_packed
from kvmwhy.ingest.window import BLOCK, Part

SIZE: Final = 128 << 20
MOST_FILES: Final = 2000  # in one batch
_RECORDS: Final = b'{"schema"'


class Piece(msgspec.Struct, frozen=True):
    """``part`` is ``None`` for an input that must be read from its beginning to its end: small, packed, or no text."""

    path: str
    start: int
    part: Part | None
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
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(words).lower()


def _remote(url: str, seen: set[str], size: int) -> Iterator[Piece | Unread]:
    try:
        for file in remote(url):
            if file.path in seen:
                continue
            seen.add(file.path)
            try:
                yield from _cut(file, size)
            except (OSError, ValueError) as error:
                yield Unread(file.path, why(error))
    except (OSError, ValueError) as error:
        yield Unread(url, why(error))


def _cut(found: Found, size: int) -> Iterator[Piece]:
    if not found.size:
        return
    if found.size > size * 3 // 2:
        with open_input(found.path) as file:
            head = file.read(HEAD)
        if not is_packed(head) and not head.startswith(_RECORDS) and not is_image(head):
            blocks = max(1, size // BLOCK)
            starts = range(0, max(1, found.size // BLOCK - blocks // 2), blocks)
            for start in starts:
                last = start == starts[-1]
                end = found.size if last else (start + blocks) * BLOCK
                part = Part(start) if last else Part(start, start + blocks)
                yield Piece(found.path, start * BLOCK, part, end - start * BLOCK, found.changed)
            return
    yield Piece(found.path, 0, None, found.size, found.changed)
