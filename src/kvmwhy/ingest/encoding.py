"""Encodings of a whole input, and of letters within it, undone so far that anchors can be searched for.

A text of two bytes a character is recoded as it comes. Escapes of single letters stay where they are, since readers
undo them with all that belongs to it; the search sees a copy without them.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from kvmwhy.deferred_re import deferred

# What shows that letters may be escaped: quoted-printable's "=", JSON's "=" and letters, HTML's "=", and journald's
# arrays of bytes: "IP=", "KVM", "kvm". What JSON escapes besides, such as colours and "<", tears no anchor.
ESCAPED: Final = (
    "=3D", "\\u003d", "\\u003D", "\\u004", "\\u005", "\\u006", "\\u007", "&#61", "&#x3",
    "73,80,61,", "75,86,77,", "107,118,109,", "73, 80, 61,", "75, 86, 77,", "107, 118, 109,",
    'MESSAGE":[', 'MESSAGE": [', 'MESSAGE" : [',  # journald's, where a message has a character that JSON has not
)  # fmt: skip

_ESCAPE: Final = deferred(
    rb"=3D|=\r?\n|\\u00([0-7][0-9a-fA-F])|&#([0-9]{2,3});|&#[xX]([0-9a-fA-F]{2});|\[((?:[0-9]{1,3}, ?){3,}[0-9]{1,3})\]"
)


def utf_16(head: bytes) -> str | None:
    """The codec, if this begins a text of two bytes a character."""
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    start = head[:4096]
    zeros = start.count(0)
    if zeros <= len(start) // 3:
        return None
    return "utf-16-le" if start[1::2].count(0) == zeros else "utf-16-be" if start[::2].count(0) == zeros else None


def recoded(chunks: Iterable[bytes], codec: str) -> Iterator[bytes]:
    """The text in UTF-8."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "replace")
    yield decoder.decode(b"", True).encode("utf-8", "replace")


class Unescaped:
    """A copy of some bytes, with their escapes undone that can hide an anchor."""

    def __init__(self, data: bytes) -> None:
        self._plain, self._raw = [0], [0]
        shift = 0

        def undo(match: re.Match[bytes]) -> bytes:
            nonlocal shift
            text = _letters(match)
            shift += len(match[0]) - len(text)
            self._raw.append(match.end())
            self._plain.append(match.end() - shift)
            return text

        self.data = _ESCAPE.sub(undo, data)

    def place(self, at: int) -> int:
        """Where in the original an offset of the copy is."""
        n = bisect_right(self._plain, at) - 1
        return self._raw[n] + at - self._plain[n]

    def index(self, at: int) -> int:
        """Where in the copy an offset of the original is."""
        n = bisect_right(self._raw, at) - 1
        return self._plain[n] + at - self._raw[n]


def _letters(match: re.Match[bytes]) -> bytes:
    if digits := match[1] or match[3]:
        return bytes([int(digits, 16)])
    if match[2]:
        return bytes([int(match[2]) & 0xFF])
    if match[4]:
        return bytes(int(n) & 0xFF for n in match[4].split(b","))
    return b"=" if match[0] == b"=3D" else b""
