"""Pieces, done: the functions that this process, its children and a cluster's workers all run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, TypeVar

from kvmwhy.fleet.extract import HEAD, Known, Place, Sighting, sightings
from kvmwhy.fleet.files import open_input
from kvmwhy.fleet.input_splits import Piece, Unread, why
from kvmwhy.fleet.log_context import name_in
from kvmwhy.pipeline import inputs

T = TypeVar("T")

_CHUNK: Final = 1 << 20

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
    try:
        with open_input(piece.path) as file:
            if piece.part is None:
                yield from _whole(piece, file, known, complain, meter)
                return
            host = name_in(file.read(HEAD)) if piece.part.first else ""
            before, start = meter.read, piece.part.read_from
            end = piece.start + piece.size if piece.part.is_last else piece.part.read_to
            file.seek(start)
            chunks = _rest_on_error(meter.chunks(file, end - start), piece.path, complain)
            yield piece.path, sightings(chunks, known, Place(piece.part, host, piece.changed))
            if meter.read - before < piece.start + piece.size - start:
                complain(Unread(piece.path, "it became shorter while it was read; what there was is read"))
    except (OSError, ValueError) as error:
        complain(Unread(piece.path, why(error)))


def _whole(
    piece: Piece, file: BinaryIO, known: Known[T], complain: Complain, meter: Meter
) -> Iterator[tuple[str, Iterator[Sighting[T]]]]:
    def remark(sentence: str) -> None:
        path, _, reason = sentence.partition(": ")
        complain(Unread(path, reason) if reason else Unread(piece.path, sentence))

    for member in inputs(meter.chunks(file, None), piece.path, remark):
        path = member.path or piece.path
        yield path, sightings(_rest_on_error(member.chunks, path, complain), known, Place(near=piece.changed))


def _rest_on_error(chunks: Iterable[bytes], path: str, complain: Complain) -> Iterator[bytes]:
    """An input that cannot be read on ends there: what came before is kept."""
    try:
        yield from chunks
    except OSError as error:
        complain(Unread(path, f"{why(error)}; what came before is read"))
