"""The atlas as a file, packed as packed.py does.

* the head: kernels, verdicts, and rows (the number of one verdict for each kernel; 0: not measured);
* the columns: planes of one byte per form, in the order of their keys: five of the key, two of the row's number, one
  of flags;
* the bytes: a plane of lengths, then the bytes of each form.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from kvmwhy.abi.uname import Series, series_of
from kvmwhy.emulator import packed
from kvmwhy.emulator.measured import Measured
from kvmwhy.emulator.packed import AtlasError

MAGIC: Final = b"kvmwhy atlas\n"
VERSION: Final = 1
_KEY_PLANES: Final = 5
_ROW_PLANES: Final = 2
_PLANES: Final = _KEY_PLANES + _ROW_PLANES + 1
DEFINED, FORCED, PLAIN = 1, 2, 4  # flags of a form; neither of the last two: by a stale translation
MAX_BYTES: Final = 1 << 26  # of anything in the file, once it is unpacked


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
    def series(self) -> Series:
        return series_of(self.release) or (0, 0)

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
    codes: bytes  # the third stream


def pack(kernels: Sequence[Kernel], entries: Sequence[Entry]) -> bytes:
    """Entries of one key keep their order: the first is the one that speaks for the others."""
    ordered = sorted(entries, key=lambda entry: entry.key)
    verdicts, rows, numbers = packed.numbered(entry.verdicts for entry in ordered)
    planes = packed.planes_of([entry.key for entry in ordered], _KEY_PLANES)
    planes += packed.planes_of(numbers, _ROW_PLANES) + bytes(entry.flags for entry in ordered)
    codes = bytes(len(entry.code) for entry in ordered) + b"".join(entry.code for entry in ordered)
    return packed.write(MAGIC, VERSION, Head(tuple(kernels), verdicts, rows), planes, codes)


def unpack(data: bytes) -> Columns:
    """Raises AtlasError."""
    head, planes, rest = packed.read(data, MAGIC, VERSION, Head, MAX_BYTES)
    count = packed.count_of(planes, _PLANES)
    keys = packed.join(planes, 0, _KEY_PLANES, count, "Q")
    rows = packed.join(planes, _KEY_PLANES, _ROW_PLANES, count, "H")
    packed.check(rows, head.rows, len(head.kernels), len(head.verdicts))
    return Columns(head, keys, rows, planes[(_PLANES - 1) * count :], rest)


class Codes:
    """The bytes of every form, cut out when they are asked for."""

    def __init__(self, raw: bytes, count: int) -> None:
        self._raw = raw
        self._ends = array("L", accumulate(raw[:count], initial=count))

    def __getitem__(self, number: int) -> bytes:
        return self._raw[self._ends[number] : self._ends[number + 1]]


def codes_of(stream: bytes, count: int) -> Codes:
    """From the third stream. Raises AtlasError."""
    raw = packed.inflate(stream, MAX_BYTES)
    if len(raw) < count or count + sum(raw[:count]) != len(raw):
        raise AtlasError("the atlas is damaged: the lengths of its forms")
    return Codes(raw, count)
