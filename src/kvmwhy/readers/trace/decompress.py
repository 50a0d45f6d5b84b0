"""The compressions of a ``trace.dat``, with a limit on what comes out."""

from __future__ import annotations

import zlib
from typing import Final

from kvmwhy.ingest.zstd import zstd
from kvmwhy.readers.trace.formats import Buffer

LARGEST: Final = 64 << 20  # of one section or chunk; trace-cmd's chunks are of some hundred KiB
_NO_ZSTD: Final = (
    "it is compressed with zstd, which this Python cannot read: install backports.zstd, or convert it with"
    " trace-cmd convert --compression none"
)


class UnpackError(ValueError):
    """These bytes cannot be decompressed here: damaged, too large, or by a compression that is not known."""


def unpack(data: Buffer, size: int, how: str) -> bytes:
    """``size`` is what the file says that comes out. Raises UnpackError."""
    if size > LARGEST:
        raise UnpackError(f"a piece of {size} bytes is larger than any that trace-cmd writes")
    if how == "zlib":
        return _zlib(data, size)
    if how == "zstd":
        return _zstd(data, size)
    raise UnpackError(f"its compression {how!r} is not known here" if how else "it is compressed, and does not say how")


def _zlib(data: Buffer, size: int) -> bytes:
    try:
        out = zlib.decompressobj().decompress(data, max(1, size))
    except zlib.error as error:
        raise UnpackError(f"a compressed piece is damaged ({error})") from None
    return _checked(out, size)


def _zstd(data: Buffer, size: int) -> bytes:
    try:
        module = zstd()
    except ImportError:
        raise UnpackError(_NO_ZSTD) from None
    try:
        out: bytes = module.ZstdDecompressor().decompress(data, max_length=max(1, size))
    except (module.ZstdError, ValueError, EOFError) as error:
        raise UnpackError(f"a compressed piece is damaged ({error})") from None
    return _checked(out, size)


def _checked(out: bytes, size: int) -> bytes:
    if len(out) != size:
        raise UnpackError(f"a compressed piece gives {len(out)} bytes instead of {size}")
    return out
