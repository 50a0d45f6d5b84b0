"""The pages of one CPU inside a file, one at a time: as they are, or compressed in chunks."""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Final, NamedTuple, Protocol

from kvmwhy.readers.trace.decompress import LARGEST, UnpackError, unpack
from kvmwhy.readers.trace.formats import Buffer

_MOST_CHUNKS: Final = 1 << 20


class Pages(Protocol):
    """``piece(n)`` is any number of whole pages; the pages of a CPU are those of its pieces in order."""

    @property
    def pieces(self) -> int: ...
    def piece(self, number: int) -> memoryview: ...
    def first(self, number: int) -> int:
        """The index of a piece's first page."""

    def page(self, index: int) -> memoryview: ...
    @property
    def damage(self) -> tuple[str, ...]: ...


class Plain:
    """A run of pages that lies in the file as it was in the kernel."""

    damage: tuple[str, ...] = ()

    def __init__(self, data: Buffer, page_size: int) -> None:
        self._data = memoryview(data)
        self._size = page_size
        per_piece = max(1, (4 << 20) // page_size)
        self._piece = per_piece * page_size
        self._pages_per_piece = per_piece

    @property
    def pieces(self) -> int:
        return -(-len(self._data) // self._piece)

    def piece(self, number: int) -> memoryview:
        return self._data[number * self._piece : (number + 1) * self._piece]

    def first(self, number: int) -> int:
        return number * self._pages_per_piece

    def page(self, index: int) -> memoryview:
        return self._data[index * self._size : (index + 1) * self._size]


class _Chunk(NamedTuple):
    at: int
    packed: int
    size: int


class Packed:
    """trace-cmd's chunks: a count, then for each the two sizes and the compressed bytes."""

    def __init__(self, data: Buffer, page_size: int, how: str) -> None:
        self._data = memoryview(data)
        self._size = page_size
        self._how = how
        self._damage: list[str] = []
        self._chunks: list[_Chunk] = []
        self._first: list[int] = []
        self._held: tuple[int, memoryview] | None = None
        self._list()

    def _list(self) -> None:
        if len(self._data) < 4:
            return
        (count,) = struct.unpack_from("<I", self._data)
        at, pages = 4, 0
        for _ in range(min(count, _MOST_CHUNKS)):
            if at + 8 > len(self._data):
                self._damage.append("a CPU's chunks are cut off")
                return
            packed, size = struct.unpack_from("<II", self._data, at)
            at += 8
            if at + packed > len(self._data) or size > LARGEST:
                self._damage.append("a CPU's chunks are cut off or damaged")
                return
            self._chunks.append(_Chunk(at, packed, size))
            self._first.append(pages)
            pages += -(-size // self._size)
            at += packed

    @property
    def damage(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._damage))

    @property
    def pieces(self) -> int:
        return len(self._chunks)

    def piece(self, number: int) -> memoryview:
        """Empty if it cannot be decompressed; ``damage`` then says so."""
        if self._held is not None and self._held[0] == number:
            return self._held[1]
        chunk = self._chunks[number]
        try:
            out = unpack(self._data[chunk.at : chunk.at + chunk.packed], chunk.size, self._how)
        except UnpackError as error:
            if len(self._damage) < 16:
                self._damage.append(str(error))
            out = b""
        self._held = number, memoryview(out)
        return self._held[1]

    def first(self, number: int) -> int:
        return self._first[number]

    def page(self, index: int) -> memoryview:
        number = bisect_right(self._first, index) - 1
        if number < 0:
            return memoryview(b"")
        inside = (index - self._first[number]) * self._size
        return self.piece(number)[inside : inside + self._size]
