"""An input of any size as pieces of evidence, while it streams: text by its windows, images by their pages."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Final

from kvmwhy.ingest.segment import windows
from kvmwhy.readers import Evidence, read

_WHOLE_TRACE: Final = 512 << 20  # a trace.dat is read as a whole: its parts make no sense alone
_TRACE: Final = b"\x17\x08\x44tracing"
_TRACE_TEXTS: Final = (b"# tracer:", b"cpus=", b"version = ")  # ftrace's own header, trace-cmd report's
_HEAD: Final = 64 << 10
_LARGEST_PAGES: Final = 3 * 4096  # a vCPU's own mapping: run page, PIO page, coalesced ring


def read_stream(chunks: Iterable[bytes], *, path: str | None = None) -> Iterator[Evidence]:
    """Every piece of evidence in order. Holds one window, or one chunk of an image; raises what ``chunks`` does.

    Formats that have a beginning are told by it.
    """
    stream = iter(chunks)
    head = b""
    while len(head) < _HEAD and (chunk := next(stream, b"")):
        head += chunk
    if not head:
        return
    if head.startswith(_TRACE):
        yield from _trace(head, stream, path)
        return
    if head[:4] == b"\x7fELF":
        yield from _core(head, stream, path)
        return
    if head.startswith(_TRACE_TEXTS):
        from kvmwhy.readers.trace import ftrace

        yield ftrace.read_file(chain((head,), stream), path=path)
        return
    codec = utf_16(head)
    if len(head) > _LARGEST_PAGES and bytes(16) in head and not codec:
        yield from _image(head, stream, path)
    else:
        text = chain((head,), stream)
        keep_freed_memory()
        for window in windows(_recoded(text, codec) if codec else text):
            yield read(window.data, path=path, first_line=window.first_line)


@cache
def keep_freed_memory() -> None:
    """Before many chunks of some MiB: let glibc keep what is freed, instead of mapping and zeroing each chunk anew.

    What it hands back is as large as the largest that was mapped and freed (mallopt(3), M_MMAP_THRESHOLD). Half of the
    time of cutting a log into pieces is saved.
    """
    bytes(16 << 20)


def utf_16(head: bytes) -> str | None:
    """The codec, if this begins a text of two bytes a character."""
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    start = head[:4096]
    zeros = start.count(0)
    if zeros <= len(start) // 3:
        return None
    return "utf-16-le" if start[1::2].count(0) == zeros else "utf-16-be" if start[::2].count(0) == zeros else None


def _recoded(chunks: Iterable[bytes], codec: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(codec)("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


def _trace(head: bytes, stream: Iterator[bytes], path: str | None) -> Iterator[Evidence]:
    held = bytearray(head)
    for chunk in stream:
        held += chunk
        if len(held) > _WHOLE_TRACE:
            found = read(bytes(held[:_WHOLE_TRACE]), path=path)
            why = f"the trace is larger than {_WHOLE_TRACE >> 20} MiB; its beginning is read"
            yield found._replace(damage=(*found.damage, why))
            return
    yield read(bytes(held), path=path)


def _core(head: bytes, stream: Iterator[bytes], path: str | None) -> Iterator[Evidence]:
    """Only its pages: the text in a VMM's memory is what it could print, not what it printed."""
    from kvmwhy.readers import core_dump

    if not core_dump.detect(head):
        return
    scanner = core_dump.Scanner(head, path)
    for chunk in chain((head,), stream):
        if failures := tuple(scanner.feed(chunk)):
            yield Evidence(failures, format=core_dump.FORMAT)
    if not scanner.found:
        yield core_dump.read(head, path=path)._replace(failures=())


def _image(head: bytes, stream: Iterator[bytes], path: str | None) -> Iterator[Evidence]:
    """Pages, and text if there are none: a log on a disk that crashed has runs of NUL in it, too."""
    from kvmwhy.readers import core_dump

    scanner = core_dump.Scanner(b"", path)
    pages: list[Evidence] = []

    def scanned() -> Iterator[bytes]:
        for chunk in chain((head,), stream):
            if failures := tuple(scanner.feed(chunk)):
                pages.append(Evidence(failures, format=core_dump.FORMAT))
            yield chunk

    texts = [read(window.data, path=path, first_line=window.first_line) for window in windows(scanned())]
    yield from pages or texts
