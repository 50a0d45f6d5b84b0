"""Whether an input is an archive or compressed: asked of every input, before what unpacks it is loaded."""

from __future__ import annotations

from typing import Final

GZIP: Final = b"\x1f\x8b\x08"  # RFC 1952; 8 is deflate, the only method there is
BZIP2: Final = b"BZh"
XZ: Final = b"\xfd7zXZ\0"
ZSTD: Final = b"\x28\xb5\x2f\xfd"  # RFC 8878
ZIP: Final = b"PK\x03\x04"
TAR: Final = b"ustar"
TAR_AT: Final = slice(257, 262)
HEAD: Final = TAR_AT.stop  # bytes that tell

_FIRST: Final = (GZIP, BZIP2, XZ, ZSTD, ZIP)


def is_packed(head: bytes) -> bool:
    """Whether what begins so is packed; ``head`` has at least HEAD bytes, or is all there is."""
    return head.startswith(_FIRST) or head[TAR_AT] == TAR
