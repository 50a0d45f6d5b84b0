"""An input's failures, each with what was made of it: what is equal is made once.

Pure but for the chunks that it is given: the same code runs here, in worker processes and on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import Final, Generic, NamedTuple, TypeVar

from kvmwhy.fleet.log_context import around, name_in
from kvmwhy.ingest.times import instant
from kvmwhy.ingest.window import WHOLE, Part
from kvmwhy.pipeline import Complain, Record, identity, records_of
from kvmwhy.record import Failure

T = TypeVar("T")

_MOST_KNOWN: Final = 20_000  # distinct failures that are remembered
HEAD: Final = 64 << 10
OURS: Final = (b'{"row":', b"PAR1")  # what a scan has written
_NO_TEXT: Final = (b"\x7fELF", b"\x17\x08\x44tracing", b"\xff\xfe", b"\xfe\xff")


class Sighting(NamedTuple, Generic[T]):
    """A failure that was seen ``times`` times, and what it was made into. What has one ``key`` is equal."""

    key: bytes
    made: T
    offset: int
    times: int
    host: str
    writer: str
    time: datetime | None
    microcode: str | None
    kernel: str | None = None


class Place(NamedTuple):
    """What is known of an input besides its bytes: the part of it that is wanted, the host's name, and when it was
    written last, in seconds since 1970, for times without a year.
    """

    part: Part = WHOLE
    host: str = ""
    near: float = 0.0


class Known(Generic[T]):
    """What was made of each distinct failure, wherever it stood."""

    def __init__(self, make: Callable[[Failure], T]) -> None:
        self.make = make
        self.known: dict[bytes, T] = {}

    def of(self, failure: Failure) -> tuple[bytes, T]:
        """The digest of a failure without its place, and what is made of it."""
        digest = blake2b(identity(failure), digest_size=16).digest()
        if digest not in self.known:
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[digest] = self.make(failure)
        return digest, self.known[digest]


def sightings(
    chunks: Iterable[bytes], known: Known[T], place: Place, complain: Complain | None = None
) -> Iterator[Sighting[T]]:
    """The failures of one input, or of a part of one, whose chunks begin at the part's ``read_from``."""
    stream = iter(chunks)
    head = next(stream, b"")
    if not place.part.first:
        if head.startswith(OURS):
            return
        place = place._replace(host=name_in(head[:HEAD]) or place.host)
    for record in records_of(chain((head,), stream), None, complain, part=place.part, numbered=False):
        yield _sighting(record, known, place)


def _sighting(record: Record, known: Known[T], place: Place) -> Sighting[T]:
    source = record.failure.source
    about = around(record.window, record.offset)
    writer, name = _writer(source.writer)
    stamp = source.last_time or source.time or about.started
    key, row = known.of(record.failure)
    return Sighting(
        key,
        row,
        record.offset,
        source.count,
        name or about.name or place.host,
        writer,
        instant(stamp, near=place.near) if stamp else None,
        about.microcode,
        about.kernel,
    )


def _writer(named: str | None) -> tuple[str, str]:
    """The writer and the host of "QEMU[2043] on pve1"."""
    if not named or " on " not in named:
        return named or "", ""
    writer, _, host = named.rpartition(" on ")
    return writer, host


def is_image(head: bytes) -> bool:
    """Whether what begins so is no text, but pages, a core, a trace, or a text of two bytes a character."""
    return head.startswith(_NO_TEXT) or bytes(64) in head[:HEAD] or 0 < head[:64].count(0) >= len(head[:64]) // 3
