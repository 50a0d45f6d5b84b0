"""How the atlases lie in their files: magic bytes, a byte of version, and three zlib streams.

The lengths of the streams are u32, little endian. The first is a head in msgpack, in which equal outcomes and equal
rows of outcomes stand once. The second has planes: the lowest byte of the number of each form, then the second byte,
and so on.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

_HEAD: Final = struct.Struct("<13sB3I")

Outcome = TypeVar("Outcome", bound=Hashable)
Head = TypeVar("Head")


class AtlasError(ValueError):
    """This is no atlas, or one of another version, or it is damaged."""


def numbered(
    rows: Iterable[Sequence[Outcome | None]],
) -> tuple[tuple[Outcome | None, ...], tuple[tuple[int, ...], ...], list[int]]:
    """The distinct outcomes, 0 is None; the distinct rows of their numbers; and the number of each row."""
    outcomes: dict[Outcome | None, int] = {None: 0}
    distinct: dict[tuple[int, ...], int] = {}
    numbers = []
    for outcomes_of_form in rows:
        row = tuple(outcomes.setdefault(outcome, len(outcomes)) for outcome in outcomes_of_form)
        numbers.append(distinct.setdefault(row, len(distinct)))
    return tuple(outcomes), tuple(distinct), numbers


def check(numbers: array[int], rows: Sequence[Sequence[int]], width: int, outcomes: int) -> None:
    """Raises AtlasError, unless every number is of a row, and every row has ``width`` numbers of outcomes."""
    if (numbers and max(numbers) >= len(rows)) or any(len(row) != width for row in rows):
        raise AtlasError("the atlas is damaged: rows and columns do not match")
    if any(not 0 <= number < outcomes for row in rows for number in row):
        raise AtlasError("the atlas is damaged: a row has an outcome that is not there")


def planes_of(numbers: Sequence[int], size: int) -> bytes:
    """``size`` planes of a byte for each number."""
    return b"".join(bytes(number >> 8 * n & 0xFF for number in numbers) for n in range(size))


def join(planes: bytes, first: int, size: int, count: int, typecode: str) -> array[int]:
    """The numbers of ``size`` planes, from the ``first`` on."""
    numbers = array(typecode)
    width = numbers.itemsize
    raw = bytearray(width * count)
    for n in range(size):
        raw[n::width] = planes[(first + n) * count : (first + n + 1) * count]
    numbers.frombytes(raw)
    if struct.pack("=H", 1) != b"\1\0":  # planes are little endian
        numbers.byteswap()
    return numbers


def write(magic: bytes, version: int, head: object, planes: bytes, rest: bytes) -> bytes:
    """The file."""
    streams = [zlib.compress(part, 9) for part in (msgspec.msgpack.encode(head), planes, rest)]
    return _HEAD.pack(magic, version, *map(len, streams)) + b"".join(streams)


def read(data: bytes, magic: bytes, version: int, head: type[Head], most: int) -> tuple[Head, bytes, bytes]:
    """Head and planes, of at most ``most`` bytes each, and the third stream, still packed. Raises AtlasError."""
    if len(data) < _HEAD.size:
        raise AtlasError(f"{len(data)} bytes are no atlas")
    found_magic, found_version, *lengths = _HEAD.unpack_from(data)
    if found_magic != magic or found_version != version:
        raise AtlasError(f"{found_magic!r}, version {found_version}: no atlas of version {version}")
    if _HEAD.size + sum(lengths) != len(data):
        raise AtlasError(f"{len(data)} bytes, where {_HEAD.size + sum(lengths)} were announced")
    first = _HEAD.size + lengths[0]
    second = first + lengths[1]
    try:
        decoded = msgspec.msgpack.decode(inflate(data[_HEAD.size : first], most), type=head)
    except msgspec.MsgspecError as error:
        raise AtlasError(f"the atlas is damaged: {error}") from None
    return decoded, inflate(data[first:second], most), data[second:]


def count_of(planes: bytes, number: int) -> int:
    """How many forms ``number`` planes are of. Raises AtlasError."""
    count, rest = divmod(len(planes), number)
    if rest:
        raise AtlasError(f"{len(planes)} bytes of columns are not {number} planes")
    return count


def inflate(stream: bytes, most: int) -> bytes:
    """Raises AtlasError."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stream, most)
    except zlib.error as error:
        raise AtlasError(f"the atlas is damaged: {error}") from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise AtlasError("the atlas is damaged: a part is too long, or ends too early")
    return data
