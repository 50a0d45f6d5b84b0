"""The atlas as a file: a head in msgpack, and columns, compressed.

It starts with the magic bytes, a byte of version, and the lengths of three zlib streams, u32 little endian:

* the head: kernels, verdicts, and rows (the number of one verdict for each kernel; 0: not measured);
* the columns: planes of one byte per form, in the order of their keys: five of the key, two of the row's number, one
  of flags;
* the bytes: a plane of lengths, then the bytes of each form.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from kvmwhy.emulator.measured import Measured

MAGIC: Final = b"kvmwhy atlas\n"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<13sB3I")
_KEY_PLANES: Final = 5
_PLANES: Final = _KEY_PLANES + 3
DEFINED, FORCED, PLAIN = 1, 2, 4  # flags of a form; neither of the last two: by a stale translation
MAX_BYTES: Final = 1 << 26  # of anything in the file, once it is unpacked


class AtlasError(ValueError):
    """This is no atlas, or one of another version."""


class Kernel(msgspec.Struct, frozen=True):
    """One column: what was measured, on what, when, and how. ``turns``: how often each form was asked."""

    vendor: str
    release: str
    version: str
    cpu: str
    bench: str
    module_args: str
    date: str
    command: str
    forms: int
    turns: int
    killers: tuple[str, ...] = ()  # mode and bytes of forms that ended the machine

    @property
    def series(self) -> tuple[int, int]:
        major, minor = self.release.split(".")[:2]
        return int(major), int("".join(c for c in minor if c.isdecimal()) or 0)

    @property
    def name(self) -> str:
        """Short, and unlike any other's."""
        number = f"{self.series[0]}.{self.series[1]}"
        vendor = "" if self.vendor == "svm" else self.vendor
        return " ".join(part for part in (vendor, number, self.module_args) if part)


class Head(msgspec.Struct, frozen=True):
    kernels: tuple[Kernel, ...]
    verdicts: tuple[Measured | None, ...]
    rows: tuple[tuple[int, ...], ...]


class Entry(NamedTuple):
    """One form, to be written: ``verdicts`` has one for each kernel."""

    key: int
    code: bytes
    flags: int
    verdicts: tuple[Measured | None, ...]


class Columns(NamedTuple):
    """What a look-up needs; ``keys`` are sorted."""

    head: Head
    keys: array[int]
    rows: array[int]
    flags: bytes
    packed: bytes  # the third stream


def pack(kernels: Sequence[Kernel], entries: Sequence[Entry]) -> bytes:
    """Entries of one key keep their order: the first is the one that speaks for the others."""
    ordered = sorted(entries, key=lambda entry: entry.key)
    verdicts: dict[Measured | None, int] = {None: 0}
    rows: dict[tuple[int, ...], int] = {}
    numbers = []
    for entry in ordered:
        row = tuple(verdicts.setdefault(verdict, len(verdicts)) for verdict in entry.verdicts)
        numbers.append(rows.setdefault(row, len(rows)))
    head = Head(tuple(kernels), tuple(verdicts), tuple(rows))
    planes = [bytes(entry.key >> 8 * n & 0xFF for entry in ordered) for n in range(_KEY_PLANES)]
    planes += [bytes(number >> 8 * n & 0xFF for number in numbers) for n in range(2)]
    planes.append(bytes(entry.flags for entry in ordered))
    codes = bytes(len(entry.code) for entry in ordered) + b"".join(entry.code for entry in ordered)
    streams = [zlib.compress(part, 9) for part in (msgspec.msgpack.encode(head), b"".join(planes), codes)]
    return _HEAD.pack(MAGIC, VERSION, *map(len, streams)) + b"".join(streams)


def unpack(data: bytes) -> Columns:
    """Raises AtlasError."""
    if len(data) < _HEAD.size:
        raise AtlasError(f"{len(data)} bytes are no atlas")
    magic, version, *lengths = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise AtlasError(f"{magic!r}, version {version}: no atlas of version {VERSION}")
    if _HEAD.size + sum(lengths) != len(data):
        raise AtlasError(f"{len(data)} bytes, where {_HEAD.size + sum(lengths)} were announced")
    first = _HEAD.size + lengths[0]
    second = first + lengths[1]
    try:
        head = msgspec.msgpack.decode(_inflate(data[_HEAD.size : first]), type=Head)
        planes = _inflate(data[first:second])
    except (zlib.error, msgspec.MsgspecError) as error:
        raise AtlasError(f"the atlas is damaged: {error}") from None
    count, rest = divmod(len(planes), _PLANES)
    if rest:
        raise AtlasError(f"{len(planes)} bytes of columns are not {_PLANES} planes")
    keys = _join(planes, 0, _KEY_PLANES, count, "Q")
    rows = _join(planes, _KEY_PLANES, 2, count, "H")
    width = len(head.kernels)
    if (count and max(rows) >= len(head.rows)) or any(len(row) != width for row in head.rows):
        raise AtlasError("the atlas is damaged: rows and kernels do not match")
    if any(not 0 <= number < len(head.verdicts) for row in head.rows for number in row):
        raise AtlasError("the atlas is damaged: a row has a verdict that is not there")
    return Columns(head, keys, rows, planes[(_PLANES - 1) * count :], data[second:])


def _join(planes: bytes, first: int, number: int, count: int, typecode: str) -> array[int]:
    numbers = array(typecode)
    size = numbers.itemsize
    raw = bytearray(size * count)
    for n in range(number):
        raw[n::size] = planes[(first + n) * count : (first + n + 1) * count]
    numbers.frombytes(raw)
    if struct.pack("=H", 1) != b"\1\0":  # planes are little endian
        numbers.byteswap()
    return numbers


class Codes:
    """The bytes of every form, cut out when they are asked for."""

    def __init__(self, raw: bytes, count: int) -> None:
        self._raw = raw
        self._ends = array("L", accumulate(raw[:count], initial=count))

    def __getitem__(self, number: int) -> bytes:
        return self._raw[self._ends[number] : self._ends[number + 1]]


def codes_of(packed: bytes, count: int) -> Codes:
    """From the third stream. Raises AtlasError."""
    try:
        raw = _inflate(packed)
    except zlib.error as error:
        raise AtlasError(f"the atlas is damaged: {error}") from None
    if len(raw) < count or count + sum(raw[:count]) != len(raw):
        raise AtlasError("the atlas is damaged: the lengths of its forms")
    return Codes(raw, count)


def _inflate(stream: bytes) -> bytes:
    inflater = zlib.decompressobj()
    data = inflater.decompress(stream, MAX_BYTES)
    if inflater.unconsumed_tail:
        raise zlib.error(f"more than {MAX_BYTES} bytes")
    if not inflater.eof:
        raise zlib.error("it ends too early")
    return data
