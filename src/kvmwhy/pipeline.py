"""The one road from bytes to failures: for every command, whatever the size of the input.

An archive is unpacked, and each file in it recognised by its beginning. Text is cut into windows around what readers
look for, and each window is given to every reader that may find something in it; a core or a memory image is searched
page by page. Memory stays bounded, but for a trace.dat, which makes no sense in parts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from kvmwhy.ingest.encoding import recoded, utf_16
from kvmwhy.ingest.packed import HEAD, is_packed
from kvmwhy.ingest.window import BLOCK, SMALL, WHOLE, Part, Window
from kvmwhy.readers import Evidence, read
from kvmwhy.readers.correlate import told_by
from kvmwhy.readers.glance import may_tell
from kvmwhy.readers.host_context import host_of
from kvmwhy.record import At, Failure, Host, Kind, Source

if TYPE_CHECKING:
    from kvmwhy.ingest.archives import UnpackBudget

_WHOLE_TRACE: Final = 512 << 20
_TRACE: Final = b"\x17\x08\x44tracing"
_ELF: Final = b"\x7fELF"
_HEAD: Final = 64 << 10
_MOST_DOCUMENT: Final = 64 << 20
_OWN: Final = re.compile(rb"[\s\[]{0,16}\{\s{0,16}\"schema\"\s{0,4}:")
_OWN_LINE: Final = b'{"schema":'

_ORDER: Final[dict[Kind, int]] = {
    "shutdown": 1, "other": 1, "host-trouble": 2, "symptom": 3, "healthy": 3, "unread": 3,
}  # fmt: skip

Complain = Callable[[str], None]


class Record(NamedTuple):
    """A failure, and where in its input, as it is unpacked, it begins. ``format`` names the readers that saw it."""

    failure: Failure
    offset: int = 0
    format: str | None = None
    window: Window | None = None  # the part of the text that it was read in


def order(failure: Failure) -> int:
    """Which of several failures of one input comes first: those that say what KVM gave up on, symptoms last.

    A shutdown or an exit that a VMM did not expect often follows from the failure beside it.
    """
    return _ORDER.get(failure.kind, 0)


def identity(failure: Failure) -> bytes:
    """What tells a failure from others, whenever and wherever it was seen, on whatever vCPU, after whatever."""
    events = tuple(replace(event, at=At(), time=None) for event in failure.host.events)
    host = replace(failure.host, events=events) if events else failure.host
    source = Source(vmm=failure.source.vmm)
    return msgspec.msgpack.encode(replace(failure, source=source, seen_at={}, trace=(), host=host))


class Input(NamedTuple):
    """A file of an archive, or what is none; its bytes must be taken before the next one's are."""

    path: str | None
    chunks: Iterator[bytes]


def records(chunks: Iterable[bytes], path: str | None = None, complain: Complain | None = None) -> Iterator[Record]:
    """Every failure in an input, in the order of its bytes, those of each file of an archive.

    ``complain`` is given a sentence about each thing that could not be read. Raises nothing but what ``chunks`` does.
    """
    for member in inputs(chunks, path, complain):
        yield from records_of(member.chunks, member.path, complain)


def inputs(
    chunks: Iterable[bytes],
    path: str | None = None,
    complain: Complain | None = None,
    limits: UnpackBudget | None = None,
) -> Iterator[Input]:
    """The files of an archive, with the names that lead to them; the input itself, if it is none."""
    stream = iter(chunks)
    head = b""
    while len(head) < HEAD and (chunk := next(stream, b"")):
        head += chunk
    stream = chain((head,), stream) if head else stream
    if not is_packed(head):
        yield Input(path, stream)
        return
    from kvmwhy.ingest.archives import members
    from kvmwhy.ingest.exec_record import worth_reading

    for member in worth_reading(members(stream, path or "the input", complain or _ignore, limits)):
        yield Input(member.path, member.chunks)


def records_of(
    chunks: Iterable[bytes],
    path: str | None = None,
    complain: Complain | None = None,
    *,
    part: Part = WHOLE,
    numbered: bool = True,
) -> Iterator[Record]:
    """The failures of an input that is no archive, or those of a part of one, whose chunks begin at its ``read_from``.

    Unless ``numbered``, the lines of a large input are not counted.
    """
    for evidence, window in _evidence(iter(chunks), path, part=part, numbered=numbered):
        remarks = {remark for failure in evidence.failures for remark in failure.damage}
        yield from _owned(evidence, window)
        for remark in evidence.damage if complain else ():
            if remark not in remarks:
                complain(f"{path or 'the input'}: {remark}")  # type: ignore[misc]  # it is none, or there is no remark


def _ignore(_: str) -> None:
    pass


def _owned(evidence: Evidence, window: Window | None) -> Iterator[Record]:
    """The failures that begin in the window's own part; its neighbours have the others."""
    if window is None:
        yield from (Record(failure, format=evidence.format) for failure in evidence.failures)
        return
    starts = _LineStarts(window)
    for failure in evidence.failures:
        offset = starts.offset(failure.source.line)
        if window.begin <= offset < window.end:
            owned = failure
            if window.header:
                owned = replace(failure, host=told_by(failure.host, _host_in(window.header)))
            if window.times > 1:
                source = replace(failure.source, count=failure.source.count * window.times, last_line=window.last_line)
                owned = replace(failure, source=source)
            yield Record(owned, offset, evidence.format, window)


@lru_cache(maxsize=16)
def _host_in(header: bytes) -> Host:
    return host_of(header.decode("utf-8", "replace"))


class _LineStarts:
    """Where the lines of a window begin in its input; they are asked for in order, more or less."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.number, self.at = 0, 0

    def offset(self, line: int | None) -> int:
        wanted = max(0, (line or 1) - self.window.first_line)
        if wanted < self.number:
            self.number, self.at = 0, 0
        while self.number < wanted and (end := self.window.data.find(b"\n", self.at)) >= 0:
            self.number, self.at = self.number + 1, end + 1
        return self.window.offset + self.at


def _evidence(
    stream: Iterator[bytes], path: str | None, *, part: Part, numbered: bool
) -> Iterator[tuple[Evidence, Window | None]]:
    """Every piece of evidence, in order. Formats that have a beginning are told by it."""
    head = b""
    while len(head) < _HEAD and (chunk := next(stream, b"")):
        head += chunk
    stream = chain((head,), stream) if head else stream
    if part.first:
        yield from _text(stream, path, part, numbered=numbered)
    elif head.startswith(_TRACE):
        yield from _trace(stream, path)
    elif head.startswith(_ELF):
        yield from _core(head, stream, path)
    elif len(head) <= SMALL:
        if head and may_tell(head):
            yield read(head, path=path), Window(head, 0, 1)
    elif _OWN.match(head):
        yield from _own(head, stream, path)
    elif codec := utf_16(head):
        yield from _text(recoded(stream, codec), path, part, numbered=numbered)
    elif bytes(16) in head:
        yield from _image(stream, path)
    else:
        yield from _text(stream, path, part, numbered=numbered)


def _text(
    stream: Iterator[bytes], path: str | None, part: Part, *, numbered: bool = True
) -> Iterator[tuple[Evidence, Window]]:
    from kvmwhy.ingest.segment import windows
    from kvmwhy.readers.anchors.qemu import REPORT
    from kvmwhy.readers.registry import search

    keep_freed_memory()
    any_told = False
    for window in windows(stream, search(), REPORT, part=part, numbered=numbered):
        if not (window.weak and any_told):
            reading = _read_once if window.times > 1 else read
            evidence = reading(window.data, path=path, first_line=window.first_line)
            any_told = any_told or bool(evidence.failures)
            yield evidence, window


_read_once = lru_cache(maxsize=4096)(read)  # of reports that may stand in other inputs, too


@cache
def keep_freed_memory() -> None:
    """Before many chunks of some MiB: let glibc keep what is freed, instead of mapping and zeroing each chunk anew.

    What it hands back is as large as the largest that was mapped and freed (mallopt(3), M_MMAP_THRESHOLD). Half of the
    time of cutting a log into pieces is saved.
    """
    bytes(16 << 20)


def _held(stream: Iterator[bytes], most: int) -> bytes:
    """The input, up to a byte more than ``most``."""
    held = bytearray()
    for chunk in stream:
        held += chunk
        if len(held) > most:
            break
    return bytes(held[: most + 1])


def _trace(stream: Iterator[bytes], path: str | None) -> Iterator[tuple[Evidence, None]]:
    data = _held(stream, _WHOLE_TRACE)
    evidence = read(data[:_WHOLE_TRACE], path=path)
    if len(data) > _WHOLE_TRACE:
        why = f"the trace is larger than {_WHOLE_TRACE >> 20} MiB; its beginning is read"
        evidence = evidence._replace(damage=(*evidence.damage, why))
    yield evidence, None


def _own(head: bytes, stream: Iterator[bytes], path: str | None) -> Iterator[tuple[Evidence, Window]]:
    """Kvmwhy's own records: lines of any number, or one document, as jq prints it."""
    if not head.startswith(_OWN_LINE):
        data = _held(stream, _MOST_DOCUMENT)
        yield read(data, path=path), Window(data, 0, 1)
        return
    held, offset, line = b"", 0, 1
    for chunk in chain(stream, (b"",)):
        held += chunk
        if len(held) < BLOCK and chunk:
            continue
        end = held.rfind(b"\n") + 1 if chunk and len(held) < _MOST_DOCUMENT else len(held)
        if data := held[:end]:
            yield read(data, path=path, first_line=line), Window(data, offset, line)
        held, offset, line = held[end:], offset + end, line + data.count(b"\n")


def _core(head: bytes, stream: Iterator[bytes], path: str | None) -> Iterator[tuple[Evidence, None]]:
    """Only its pages: the text in a VMM's memory is what it could print, not what it printed."""
    from kvmwhy.readers import core_dump

    if not core_dump.detect(head):
        return
    scanner = core_dump.Scanner(head, path)
    for chunk in stream:
        if failures := tuple(scanner.feed(chunk)):
            yield Evidence(failures, format=core_dump.FORMAT), None
    if not scanner.found:
        yield core_dump.read(head, path=path)._replace(failures=()), None


def _image(stream: Iterator[bytes], path: str | None) -> Iterator[tuple[Evidence, Window | None]]:
    """Pages, and text if there are none: a log on a disk that crashed has runs of NUL in it, too."""
    from kvmwhy.readers import core_dump

    scanner = core_dump.Scanner(b"", path)
    pages: list[tuple[Evidence, Window | None]] = []

    def scanned() -> Iterator[bytes]:
        for chunk in stream:
            if failures := tuple(scanner.feed(chunk)):
                pages.append((Evidence(failures, format=core_dump.FORMAT), None))
            yield chunk

    texts: list[tuple[Evidence, Window | None]] = list(_text(scanned(), path, WHOLE))
    yield from pages or texts
