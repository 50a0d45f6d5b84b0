"""Logs of JSON records, each cut down to what is asked of it: the message, who said it, and when.

A collector's record of one short line may have kilobytes, and a failure of 33 lines would go beyond all that a search
looks at around a mark. journald also writes a message that is no clean text as an array of bytes, in which no mark can
be seen. Only records near a mark are cut down, and those that have such an array; everything else passes as it is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.fleet.marks import find
from kvmwhy.ingest.log_prefix import INSIDE, MESSAGE, WHEN, WHO, text_of
from kvmwhy.ingest.multi_search import finder

_STEP: Final = 1 << 20  # bytes that are looked at together
_LONG: Final = 400  # a line of this size is short enough
_LONGEST: Final = 4 << 20
_OURS: Final = (b'{"schema"', b'{"row"')
# A message that is an array; whole names, which stand in every line, would make the search ten times as slow.
_ARRAYS: Final = (b'GE":[', b'GE": [', b'GE" : [', b'ge":[', b'ge": [', b'ge" : [')
_find_array: Final = finder(_ARRAYS)
_MOST: Final = 1 << 20  # lines whose places are remembered
_ABSENT: Final = msgspec.Raw(b"")


class Shortened:
    """The chunks of an input that begins at ``offset``, with its records cut down, if it is a log of records.

    It is cut at the same places however it comes in.
    """

    def __init__(self, chunks: Iterable[bytes], offset: int = 0) -> None:
        self._chunks = iter(chunks)
        self._read = self._given = offset
        self._theirs, self._ours = array("Q"), array("Q")  # where lines begin in the input, and where in what is given
        self._marked = False

    def __iter__(self) -> Iterator[bytes]:
        first = next(self._chunks, b"")
        if not first.lstrip(b" \t").startswith(b"{"):
            yield first
            yield from self._chunks
            return
        held, size = [first], len(first)
        for chunk in self._chunks:
            held.append(chunk)
            size += len(chunk)
            if size >= _STEP:
                data = b"".join(held)
                at = 0
                while end := _end(data, at):
                    yield self._shorter(data[at:end])
                    at = end
                held, size = [data[at:]], len(data) - at
        data = b"".join(held)
        at = 0
        while at < len(data):
            end = _end(data, at) or len(data)
            yield self._shorter(data[at:end])
            at = end

    def place(self, offset: int) -> int:
        """Where in the input that is, which was given at ``offset``."""
        at = bisect_right(self._ours, offset) - 1
        return offset if at < 0 else self._theirs[at] + offset - self._ours[at]

    def _shorter(self, piece: bytes) -> bytes:
        marked = bool(find(piece))
        lines = [piece]
        if _find_array(piece):
            lines = [short(line) if any(mark in line for mark in _ARRAYS) else line for line in _lines(piece)]
            marked = marked or bool(find(b"".join(lines)))
        if not (marked or self._marked):
            lines = [piece]
        elif len(lines) > 1 or any(len(line) > _LONG for line in _lines(piece)):  # all, so that they stay alike
            lines = [short(line) for line in (lines if len(lines) > 1 else _lines(piece))]
        self._marked = marked
        text = b"".join(lines)
        if len(text) < len(piece) or self._given != self._read:
            self._remember(lines, piece)
        self._read += len(piece)
        self._given += len(text)
        return text

    def _remember(self, lines: list[bytes], piece: bytes) -> None:
        theirs = _lines(piece) if len(lines) > 1 else [piece]
        if len(self._ours) > _MOST:
            del self._ours[: _MOST // 2], self._theirs[: _MOST // 2]
        self._ours.extend(list(accumulate(map(len, lines), initial=self._given))[:-1])
        self._theirs.extend(list(accumulate(map(len, theirs), initial=self._read))[:-1])


def _end(data: bytes, at: int) -> int:
    """Where a piece that begins there ends: with a line, if that is no endless one; 0: there must be more of it."""
    if len(data) - at < _STEP:
        return 0
    newline = data.find(b"\n", at + _STEP - 1, at + _LONGEST)
    return newline + 1 if newline >= 0 else at + _LONGEST if len(data) - at >= _LONGEST else 0


def _lines(piece: bytes) -> list[bytes]:
    *lines, last = piece.split(b"\n")
    return [*(line + b"\n" for line in lines), last] if last else [line + b"\n" for line in lines]


class _Record(NamedTuple):
    decoder: msgspec.json.Decoder[Any]
    message: tuple[str, ...]
    inside: tuple[str, ...]
    kubernetes: str


@cache
def _record() -> _Record:
    """A record with nothing but the fields that are asked for, each as it is written."""
    names = list(dict.fromkeys((*MESSAGE, *INSIDE, *sorted(WHO), *WHEN, "stream")))
    own = {name: f"f{n}" for n, name in enumerate(names)}
    kind = msgspec.defstruct(
        "Record",
        [(mine, msgspec.Raw, _ABSENT) for mine in own.values()],
        rename={mine: name for name, mine in own.items()},
        omit_defaults=True,
    )
    message, inside = (tuple(own[name] for name in some) for some in (MESSAGE, INSIDE))
    return _Record(msgspec.json.Decoder(kind), message, inside, own["kubernetes"])


def short(line: bytes) -> bytes:
    """The record without what nobody asks for, its message as text; or the line, if it is no record with a message."""
    bare = line.rstrip(b" \t\r\n,")
    if not bare.endswith(b"}") or bare.startswith(_OURS):
        return line
    try:
        made = _made(bare)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return line
    return made + b"\n" * line.endswith(b"\n") if made is not None and len(made) < len(bare) else line


def _made(text: bytes) -> bytes | None:
    kind = _record()
    record = kind.decoder.decode(text)
    name = next((name for name in kind.message if getattr(record, name) is not _ABSENT), None)
    if name is not None:
        if bytes(getattr(record, name)).startswith(b"["):
            said = text_of(msgspec.json.decode(getattr(record, name)))
            if said is None:
                return None
            setattr(record, name, msgspec.Raw(msgspec.json.encode(said)))
    else:
        name = next((name for name in kind.inside if bytes(getattr(record, name)).startswith(b"{")), None)
        inner = _made(bytes(getattr(record, name))) if name else None
        if name is None or inner is None:
            return None
        setattr(record, name, msgspec.Raw(inner))
    about = bytes(getattr(record, kind.kubernetes))
    if about.startswith(b"{"):
        setattr(record, kind.kubernetes, msgspec.Raw(msgspec.json.encode(kind.decoder.decode(about))))
    return msgspec.json.encode(record)
