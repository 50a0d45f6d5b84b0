"""An input's blocks to failures: each distinct block is read once.

Pure but for the chunks that it is given: the same code runs here, in worker processes and on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from hashlib import blake2b
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from kvmwhy.fleet.block_dedup import Counted, Header, counted, header_text
from kvmwhy.fleet.log_context import NOWHERE, Around, around, kernel_in, microcode_in
from kvmwhy.fleet.marks import find, is_head, is_header
from kvmwhy.fleet.shorten import Shortened
from kvmwhy.fleet.wrapped import Wrapped, digest_of, instant, time_in, unwrap
from kvmwhy.ingest.packed import is_packed
from kvmwhy.readers import read
from kvmwhy.readers.correlate import told_by
from kvmwhy.readers.inputs import read_stream
from kvmwhy.readers.likely import may_tell
from kvmwhy.record import Failure, Host, Source

T = TypeVar("T")

WHOLE: Final = 1 << 20  # inputs up to this size are read as a whole, if they hold few failures
_FEW: Final = 16
_MOST_MARKS: Final = 1000
_MOST_KNOWN: Final = 20_000  # distinct blocks that are remembered
_LONGEST_RECORD: Final = 4 << 20
_OWN: Final = (b'{"schema":', b'{"schema" :')
_NO_TEXT: Final = (b"\x7fELF", b"\x17\x08\x44tracing", b"\xff\xfe", b"\xfe\xff")
OURS: Final = (b'{"row":', b"PAR1")  # what a scan has written


class Sighting(NamedTuple, Generic[T]):
    """A failure that was seen ``times`` times, and what it was made into. What has one ``key`` is equal."""

    key: tuple[object, ...]
    made: T
    offset: int
    times: int
    host: str
    writer: str
    time: datetime | None
    microcode: str | None


class Place(NamedTuple):
    """What is known of an input besides its bytes: where they begin, libvirt's header before, the host's name, and
    when it was written last, in seconds since 1970, for times without a year.
    """

    offset: int = 0
    header: Header | None = None
    host: str = ""
    near: float = 0.0


class Made(NamedTuple, Generic[T]):
    """What was made of a failure. What has one ``key`` is equal."""

    key: tuple[object, ...]
    made: T
    source: Source


class Known(Generic[T]):
    """What was made of the failures of each distinct block. Blocks are read once, wherever they stand."""

    def __init__(self, make: Callable[[Failure], T]) -> None:
        self.make = make
        self.blocks: dict[object, list[Made[T]]] = {}
        self.single: dict[bytes, T] = {}

    def of(self, told: Wrapped, host: Host) -> list[Made[T]]:
        """The failures of a block."""
        digest = told.digest or digest_of(told.text)
        block = digest if host is NOWHERE.host else (digest, host)  # the usual case, and a host is slow to hash
        known = self.blocks.get(block)
        if known is None:
            if len(self.blocks) >= _MOST_KNOWN:
                self.blocks.clear()
            failures = read(told.text).failures if may_tell(told.text) else ()
            found = [replace(f, host=told_by(f.host, host)) for f in failures]
            known = self.blocks[block] = [
                Made((digest_of(repr((digest, host, n, f.source.vcpu)).encode()),), self.make(f), f.source)
                for n, f in enumerate(found)
            ]
        return known

    def one(self, failure: Failure) -> tuple[bytes, T]:
        """The digest of a failure that was read already, wherever it was seen; and what is made of it."""
        bare = replace(failure, source=Source(vmm=failure.source.vmm, vcpu=failure.source.vcpu))
        digest = blake2b(msgspec.msgpack.encode(bare), digest_size=16).digest()
        if digest not in self.single:
            if len(self.single) >= _MOST_KNOWN:
                self.single.clear()
            self.single[digest] = self.make(failure)
        return digest, self.single[digest]


def sightings(chunks: Iterable[bytes], known: Known[T], place: Place) -> Iterator[Sighting[T]]:
    """The failures of one input, or of a part of one that begins at ``place.offset``."""
    stream = iter(chunks)
    if place.offset:
        yield from _blocks(stream, known, place)
        return
    held: list[bytes] = []
    size = 0
    while size <= WHOLE and (chunk := next(stream, b"")):
        held.append(chunk)
        size += len(chunk)
    head = b"".join(held)
    if head.startswith(OURS):
        return
    if head.startswith(_OWN):
        yield from _records(_again(head, stream), known, place)
    elif is_image(head):
        for evidence in read_stream(_again(head, stream)):
            for failure in evidence.failures:
                yield _sighting(failure, known, Around(), 0, place)
    elif size <= WHOLE and len(found := _marks(head)) <= _MOST_MARKS and _are_few(found):
        if found:
            yield from _whole(head, known, place)
    else:
        yield from _blocks(_again(head, stream), known, place)


def _marks(data: bytes) -> list[int]:
    """The marks of a small input that may have a failure."""
    text = b"".join(Shortened((data,)))
    return [which for which, _, _ in find(text)] if may_tell(text) else []


def is_dull(data: bytes) -> bool:
    """Whether this is a whole input, of less than WHOLE bytes, with nothing in it to look at."""
    return not (is_packed(data) or is_image(data) or _marks(data))


def _are_few(found: list[int]) -> bool:
    return sum(map(is_head, found)) <= _FEW


def is_image(head: bytes) -> bool:
    """Whether what begins so is no text, but pages, a core, a trace, or a text of two bytes a character."""
    return head.startswith(_NO_TEXT) or bytes(64) in head[: 64 << 10] or 0 < head[:64].count(0) >= len(head[:64]) // 3


def _again(head: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from stream


def _blocks(chunks: Iterable[bytes], known: Known[T], place: Place) -> Iterator[Sighting[T]]:
    records = Shortened(chunks, place.offset)
    for block in counted(records, offset=place.offset, header=place.header):
        yield from _of_block(block, records.place(block.offset), known, place)


def _of_block(block: Counted, offset: int, known: Known[T], place: Place) -> Iterator[Sighting[T]]:
    told = block.told or unwrap(block.text)
    about = around(block.before, block.header)
    for key, made, source in known.of(told, about.host):
        writer, name = _writer(source.writer) if source.writer else ("", "")
        writer, name = writer or told.writer, name or told.host or about.name or place.host
        stamp = source.time or told.time or about.start
        if told.fields and source.line is not None and source.line > 1:
            stamp = time_in(block.text, source.line) or stamp
        time = instant(stamp, near=place.near) if stamp else None
        yield Sighting(key, made, offset, block.times * source.count, name, writer, time, about.microcode)


def _writer(named: str | None) -> tuple[str, str]:
    """The writer and the host of "QEMU[2043] on pve1"."""
    if not named or " on " not in named:
        return named or "", ""
    writer, _, host = named.rpartition(" on ")
    return writer, host


# -- inputs that are read as a whole --------------------------------------------------------------


def _whole(data: bytes, known: Known[T], place: Place) -> Iterator[Sighting[T]]:
    """With all that it says of its host: what ``kvmwhy explain`` would say of it."""
    headers = [(at, around(b"", header_text(data, at))) for which, at, _ in find(data) if is_header(which)]
    text = data.decode("utf-8", "replace") if b"microcode" in data or b"Linux version " in data else ""
    kernel, microcode = kernel_in(text), microcode_in(text)
    starts = _line_starts(data)
    for evidence in read_stream((data,)):
        for failure in evidence.failures:
            line = (failure.source.line or 1) - 1
            at = starts[min(line, len(starts) - 1)]
            about = next((told for start, told in reversed(headers) if start <= at), Around())
            told = failure
            if kernel and not failure.host.kernel:
                told = replace(failure, host=replace(failure.host, kernel=kernel))
            yield _sighting(told, known, about._replace(microcode=microcode), at, place)


def _line_starts(data: bytes) -> list[int]:
    starts, at = [0], data.find(b"\n")
    while at >= 0:
        starts.append(at + 1)
        at = data.find(b"\n", at + 1)
    return starts


def _records(chunks: Iterable[bytes], known: Known[T], place: Place) -> Iterator[Sighting[T]]:
    """What kvmwhy itself wrote: JSON, one object a line."""
    held, offset = b"", place.offset
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            yield from _record(line, known, place, offset)
            offset += len(line) + 1
        if len(held) > _LONGEST_RECORD:
            offset, held = offset + len(held), b""
    yield from _record(held, known, place, offset)


def _record(line: bytes, known: Known[T], place: Place, offset: int) -> Iterator[Sighting[T]]:
    if line.startswith(b"{"):
        for failure in read(line).failures:
            yield _sighting(failure, known, Around(), offset, place)


def _sighting(failure: Failure, known: Known[T], about: Around, offset: int, place: Place) -> Sighting[T]:
    source = failure.source
    writer, name = _writer(source.writer)
    stamp = source.last_time or source.time or about.start
    key, made = known.one(failure)
    return Sighting(
        (key,),
        made,
        offset,
        source.count,
        name or about.name or place.host,
        writer,
        instant(stamp, near=place.near) if stamp else None,
        about.microcode,
    )
