"""Pieces, done: the functions that this process, its children and a cluster's workers all run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import BinaryIO, Final, TypeVar

from kvmwhy.fleet.extract import Known, Place, Sighting, is_dull, sightings
from kvmwhy.fleet.files import open_input
from kvmwhy.fleet.input_splits import Piece, Unread, first_header, header_before, why
from kvmwhy.ingest.archives import members
from kvmwhy.readers.inputs import keep_freed_memory

T = TypeVar("T")

_CHUNK: Final = 1 << 20
_HOST: Final = re.compile(rb"\bhostname: ([\w.-]{1,255})")

Complain = Callable[[Unread], None]


class Meter:
    """Bytes of files that were read, not what they unpack to."""

    def __init__(self, tell: Callable[[int], None] | None = None) -> None:
        self.read = 0
        self.tell = tell

    def chunks(self, file: BinaryIO, size: int | None) -> Iterator[bytes]:
        left = size
        while left is None or left > 0:
            chunk = file.read(_CHUNK if left is None else min(_CHUNK, left))
            if not chunk:
                return
            self.read += len(chunk)
            left = None if left is None else left - len(chunk)
            if self.tell:
                self.tell(len(chunk))
            yield chunk


def look(
    piece: Piece, known: Known[T], complain: Complain, meter: Meter
) -> Iterator[tuple[str, Iterator[Sighting[T]]]]:
    """Every input in a piece, by its path, and its failures; they must be taken before the next input is.

    What cannot be read is told to ``complain``, and never raised.
    """
    keep_freed_memory()
    try:
        with open_input(piece.path) as file:
            if piece.end is None:
                yield from _whole(piece, file, known, complain, meter)
            else:
                before = meter.read
                place = _place(piece, file)
                file.seek(piece.start)
                chunks = _rest_on_error(meter.chunks(file, piece.end - piece.start), piece.path, complain)
                yield piece.path, sightings(chunks, known, place)
                if meter.read - before < piece.end - piece.start:
                    complain(Unread(piece.path, "it became shorter while it was read; what there was is read"))
    except (OSError, ValueError) as error:
        complain(Unread(piece.path, why(error)))


def _place(piece: Piece, file: BinaryIO) -> Place:
    found = _HOST.search(first_header(file))
    header = header_before(file, piece.start) if piece.start else None  # last: what follows is read ahead
    return Place(piece.start, header, found[1].decode() if found else "", piece.changed)


def _whole(
    piece: Piece, file: BinaryIO, known: Known[T], complain: Complain, meter: Meter
) -> Iterator[tuple[str, Iterator[Sighting[T]]]]:
    def remark(sentence: str) -> None:
        path, _, reason = sentence.partition(": ")
        complain(Unread(path, reason) if reason else Unread(piece.path, sentence))

    stream = meter.chunks(file, None)
    first = next(stream, b"")
    if len(first) == piece.size and is_dull(first):  # as nearly all of a million small files
        return
    for path, chunks in members(chain((first,), stream), piece.path, remark):
        stream = _rest_on_error(chunks, path, complain)
        yield path, sightings(stream, known, Place(near=piece.changed))


def _rest_on_error(chunks: Iterable[bytes], path: str, complain: Complain) -> Iterator[bytes]:
    """An input that cannot be read on ends there: what came before is kept."""
    try:
        yield from chunks
    except OSError as error:
        complain(Unread(path, f"{why(error)}; what came before is read"))
