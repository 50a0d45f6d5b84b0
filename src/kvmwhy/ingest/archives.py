"""Archives and compressed files as streams of bytes: gzip, bzip2, xz, zstd, tar and zip, one in another.

Nothing is ever held whole: a member's bytes come out in chunks while the archive's go in, so a zip is read
by its local headers, from its beginning on, and can come through a pipe. What comes out is bounded.
Whatever is broken ends that member with a sentence; what was read before stays.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from kvmwhy.ingest.packed import BZIP2, GZIP, TAR, TAR_AT, XZ, ZIP, ZSTD
from kvmwhy.ingest.zstd import zstd

CHUNK: Final = 1 << 20
_DEEPEST: Final = 4  # a tar.gz in a zip in a tar.gz
_TAR_BLOCK: Final = 512
_XZ_MEMORY: Final = 256 << 20
_ZIP_HEADER: Final = 30
_MOST_NAME: Final = 4096

Complain = Callable[[str], None]


class TooMuchError(ValueError):
    """More came out of an archive than its limits allow."""


class UnpackBudget:
    """What may come out of one input: bytes in all, bytes for each byte of the input, members."""

    def __init__(
        self, *, total: int = 64 << 30, ratio: int = 2000, free: int = 256 << 20, members: int = 100_000
    ) -> None:
        self.total, self.ratio, self.free, self.members = total, ratio, free, members
        self.taken = self.given = 0
        self.spent = False

    def count(self, chunk: bytes) -> bytes:
        """Count what comes out. Raises TooMuchError."""
        self.given += len(chunk)
        if self.given > self.total:
            raise TooMuchError(f"more than {self.total >> 20:,} MiB came out of it; the rest is not read")
        if self.given > self.free and self.given > self.ratio * self.taken:
            raise TooMuchError(f"it unpacks to more than {self.ratio} times its size; the rest is not read")
        return chunk

    def member(self) -> None:
        """Count a member. Raises TooMuchError."""
        self.members -= 1
        if self.spent:
            raise TooMuchError("its limits are spent")
        if self.members < 0:
            raise TooMuchError("it has too many members; the rest are not read")


class Member(NamedTuple):
    """A file, by the names that lead to it, and its bytes; they must be taken before the next member is."""

    path: str
    chunks: Iterator[bytes]


class _Pull:
    """Bytes on demand, out of chunks of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = iter(chunks)
        self.held = b""

    def peek(self, size: int) -> bytes:
        while len(self.held) < size and (chunk := next(self.chunks, b"")):
            self.held += chunk
        return self.held[:size]

    def read(self, size: int) -> bytes:
        out = self.peek(size)
        self.held = self.held[len(out) :]
        return out

    def some(self) -> bytes:
        """Whatever comes next; empty at the end."""
        out = self.held or next(self.chunks, b"")
        self.held = b""
        return out

    def rest(self) -> Iterator[bytes]:
        while chunk := self.some():
            yield chunk


def members(
    chunks: Iterable[bytes], path: str, complain: Complain, limits: UnpackBudget | None = None
) -> Iterator[Member]:
    """Every file in the input: the input itself if it is no archive. Never raises for what the bytes are."""
    bounds = limits or UnpackBudget()

    def taken() -> Iterator[bytes]:
        for chunk in chunks:
            bounds.taken += len(chunk)
            yield chunk

    try:
        yield from _members(_Pull(taken()), path, complain, bounds, 0)
    except TooMuchError as error:
        if not bounds.spent:
            complain(f"{path}: {error}")


def _leaf(pull: _Pull, path: str, complain: Complain, limits: UnpackBudget) -> Iterator[bytes]:
    """A file's bytes, up to the limits; whoever takes them sees an end, not an error."""
    try:
        yield from pull.rest()
    except TooMuchError as error:
        limits.spent = True
        complain(f"{path}: {error}")


def _members(pull: _Pull, path: str, complain: Complain, limits: UnpackBudget, depth: int) -> Iterator[Member]:
    head = pull.peek(_TAR_BLOCK)
    unpack = next((make for magic, make in _UNPACK if head.startswith(magic)), None)
    kind = "tar" if head[TAR_AT] == TAR else "zip" if head.startswith(ZIP) else None
    if (unpack or kind) and depth >= _DEEPEST:
        complain(f"{path}: archives are nested more than {_DEEPEST} deep; this one is not read")
        return
    if unpack:
        inner = _Pull(_unpacked(pull, unpack, path, complain, limits))
        yield from _members(inner, path, complain, limits, depth + 1)
    elif kind == "tar":
        yield from _tar(pull, path, complain, limits, depth)
    elif kind == "zip":
        yield from _zip(pull, path, complain, limits, depth)
    else:
        yield Member(path, _leaf(pull, path, complain, limits))


# -- compressed files -----------------------------------------------------------------------------


def _zstd() -> Any:
    return zstd().ZstdDecompressor()


def _xz() -> Any:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


class _Deflate:
    """zlib with the interface that the others share."""

    def __init__(self, wbits: int) -> None:
        self.inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self.inner.eof

    @property
    def unused_data(self) -> bytes:
        return self.inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self.inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self.inner.decompress(self.inner.unconsumed_tail + data, max_length)


_UNPACK: Final[tuple[tuple[bytes, Callable[[], Any]], ...]] = (
    (GZIP, lambda: _Deflate(31)),
    (BZIP2, bz2.BZ2Decompressor),
    (XZ, _xz),
    (ZSTD, _zstd),
)


def _unpacked(
    pull: _Pull, make: Callable[[], Any], path: str, complain: Complain, limits: UnpackBudget
) -> Iterator[bytes]:
    """One file after another, as rotated logs are put together; padding behind the last is no damage."""
    first = True
    while True:
        engine = make()
        try:
            yield from _run(engine, pull, limits)
        except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, MemoryError) as error:
            if isinstance(error, TooMuchError):
                raise
            if first or pull.peek(1).strip(b"\0"):
                complain(f"{path}: the compressed data is broken ({str(error)[:80]}); what came before is read")
            return
        except Exception as error:  # noqa: BLE001 -- ZstdError has no base of its own below Exception
            complain(f"{path}: the compressed data is broken ({str(error)[:80]}); what came before is read")
            return
        if not engine.eof:
            complain(f"{path}: the compressed data ends early; what there was is read")
            return
        pull.held = engine.unused_data + pull.held
        first = False
        following = pull.peek(6)
        if not any(following.startswith(magic) for magic, _ in _UNPACK):
            if pull.peek(1).strip(b"\0"):
                complain(f"{path}: something else follows the compressed data; it is not read")
            return


def _run(engine: Any, pull: _Pull, limits: UnpackBudget) -> Iterator[bytes]:
    data = pull.some()
    while not engine.eof:
        if engine.needs_input and not data:
            return
        out = engine.decompress(data, CHUNK)
        data = b""
        if out:
            yield limits.count(out)
        if engine.needs_input and not engine.eof:
            data = pull.some()


# -- tar ------------------------------------------------------------------------------------------


def _tar(pull: _Pull, path: str, complain: Complain, limits: UnpackBudget, depth: int) -> Iterator[Member]:
    import tarfile

    try:
        with tarfile.open(fileobj=pull, mode="r|") as archive:  # type: ignore[call-overload]  # it only reads
            for info in archive:
                archive.members = []  # a stream never goes back, and the list has no end
                limits.member()
                if not info.isreg() or info.issparse():
                    continue
                stream = archive.extractfile(info)
                if stream is not None:
                    inner = _Pull(_counted(iter(lambda s=stream: s.read(CHUNK), b""), limits))  # type: ignore[misc]
                    yield from _members(inner, _joined(path, info.name), complain, limits, depth + 1)
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, TooMuchError):
            raise
        complain(f"{path}: the tar archive is broken ({str(error)[:80]}); what came before is read")


def _counted(chunks: Iterator[bytes], limits: UnpackBudget) -> Iterator[bytes]:
    for chunk in chunks:
        yield limits.count(chunk)


def _joined(path: str, name: str) -> str:
    return f"{path}:{name[:_MOST_NAME]}"


# -- zip ------------------------------------------------------------------------------------------


def _zip(pull: _Pull, path: str, complain: Complain, limits: UnpackBudget, depth: int) -> Iterator[Member]:
    """By the local headers (APPNOTE.TXT 4.3.7): the directory at the end says nothing that is needed here."""
    while pull.peek(4) == ZIP:
        header = pull.read(_ZIP_HEADER)
        if len(header) < _ZIP_HEADER:
            complain(f"{path}: the zip archive ends early; what there was is read")
            return
        flags, method = (int.from_bytes(header[at : at + 2], "little") for at in (6, 8))
        packed, size = (int.from_bytes(header[at : at + 4], "little") for at in (18, 22))
        name = pull.read(int.from_bytes(header[26:28], "little")).decode("utf-8", "replace")
        extra = pull.read(int.from_bytes(header[28:30], "little"))
        packed = _zip64(extra, packed, size)
        limits.member()
        place = _joined(path, name)
        make = _ZIP_METHODS.get(method)
        later = bool(flags & 8)  # sizes stand behind the data
        if name.endswith("/") and method == 0:
            _skip(pull, packed)
            if later:
                _descriptor(pull)
            continue
        if flags & 1 or make is None or (later and method == 0 and not packed):
            complain(f"{place}: {_why_not(flags, method)}; it is not read")
            if later and not packed:
                return  # nobody can say where the next one begins
            _skip(pull, packed)
            continue
        body = _Pull(_body(pull, None if later and not packed else packed))
        inner = _Pull(_counted(body.rest(), limits) if method == 0 else _one(body, make, place, complain, limits))
        yield from _members(inner, place, complain, limits, depth + 1)
        if limits.spent:
            return
        for _ in inner.rest():
            pass
        if later and not packed:
            pull.held = body.held + pull.held
            _descriptor(pull)
        else:
            for _ in body.rest():
                pass


def _zip64(extra: bytes, packed: int, size: int) -> int:
    at = 0
    while at + 4 <= len(extra):
        kind, length = (int.from_bytes(extra[at + n : at + n + 2], "little") for n in (0, 2))
        if kind == 1 and packed == 0xFFFFFFFF:
            start = at + 4 + (8 if size == 0xFFFFFFFF else 0)
            return int.from_bytes(extra[start : start + 8], "little")
        at += 4 + length
    return packed


def _why_not(flags: int, method: int) -> str:
    if flags & 1:
        return "it is encrypted"
    return "its length is not told before its end" if method == 0 else f"it is packed by method {method}"


def _body(pull: _Pull, size: int | None) -> Iterator[bytes]:
    while size is None or size:
        chunk = pull.some()
        if not chunk:
            return
        if size is not None:
            chunk, pull.held = chunk[:size], chunk[size:] + pull.held
            size -= len(chunk)
        yield chunk


def _skip(pull: _Pull, size: int) -> None:
    for _ in _body(pull, size):
        pass


def _one(body: _Pull, make: Callable[[], Any], path: str, complain: Complain, limits: UnpackBudget) -> Iterator[bytes]:
    engine = make()
    try:
        yield from _run(engine, body, limits)
    except TooMuchError:
        raise
    except Exception as error:  # noqa: BLE001 -- four libraries, four families of errors
        complain(f"{path}: the compressed data is broken ({str(error)[:80]}); what came before is read")
        return
    if not engine.eof:
        complain(f"{path}: the compressed data ends early; what there was is read")
    body.held = engine.unused_data + body.held


def _descriptor(pull: _Pull) -> None:
    """Behind the data: with a signature or without, with sizes of 4 bytes or 8."""
    signed = 4 if pull.peek(4) == b"PK\x07\x08" else 0
    for length in (signed + 12, signed + 20):
        following = pull.peek(length + 4)[length:]
        if following[:2] == b"PK":
            pull.read(length)
            return


_ZIP_METHODS: Final[dict[int, Callable[[], Any]]] = {
    0: lambda: None,
    8: lambda: _Deflate(-15),
    12: bz2.BZ2Decompressor,
    93: _zstd,
    95: _xz,
}
