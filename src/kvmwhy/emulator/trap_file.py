"""The atlas of trapped accesses as a file: what KVM made of each form where there is no memory, on arm64 or riscv64.

Magic bytes, a byte of version, and the lengths of three zlib streams, u32 little endian: a head in msgpack; columns of
one number per form, in the order of the forms (four planes of the form's word, two of its row); the forms' texts, one
a line.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

MAGIC: Final = b"kvmwhy traps\n"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<13sB3I")
_PLANES: Final = 6
_WORD_PLANES: Final = 4
MAX_BYTES: Final = 1 << 24  # of anything in the file, once it is unpacked

# mmio       KVM_EXIT_MMIO for each of `accesses`, then the guest went on
# done       the guest went on, and userspace was told nothing
# error      KVM_RUN failed, `code` is the errno
# nisv       KVM_EXIT_ARM_NISV, `code` is esr_iss
# exception  the guest got one: `code` is its ESR_EL1 or scause
# exit       another exit, `code` is its reason
# timeout    KVM_RUN did not return      endless   the same accesses for ever
Kind = Literal["mmio", "done", "error", "nisv", "exception", "exit", "timeout", "endless"]


class Trap(NamedTuple):
    """What came of one form in one setup. ``accesses`` as in Measured: ``r8``, ``w4w4``.

    ``offset``: of fault_ipa, or of the guest's FAR_EL1 or stval, from the operand's address; ``None`` if there is none
    or it is no operand's.
    """

    kind: Kind
    accesses: str = ""
    code: int = 0
    offset: int | None = None


class Column(msgspec.Struct, frozen=True):
    """One kernel on one machine, and how it was asked."""

    release: str
    version: str
    bench: str
    cpu: str
    date: str
    command: str
    forms: int

    @property
    def series(self) -> tuple[int, int]:
        major, minor = self.release.split(".")[:2]
        return int(major), int("".join(c for c in minor if c.isdecimal()) or 0)

    @property
    def emulator(self) -> str:
        """``QEMU 7.2``: its CPU is the one that was asked."""
        number = self.bench.partition(" version ")[2].partition(" ")[0]
        return f"QEMU {'.'.join(number.split('.')[:2])}"

    @property
    def name(self) -> str:
        return f"{self.series[0]}.{self.series[1]} on {self.emulator}"


class Head(msgspec.Struct, frozen=True):
    """``rows``: of each column, and in it of each setup, the number of an outcome."""

    arch: str
    columns: tuple[Column, ...]
    setups: tuple[str, ...]
    traps: tuple[Trap | None, ...]
    rows: tuple[tuple[int, ...], ...]


class Entry(NamedTuple):
    """One form, to be written: ``traps`` has one for each column and setup."""

    word: int
    text: str
    traps: tuple[Trap | None, ...]


class TrapFileError(ValueError):
    """This is no such atlas, or one of another version."""


class Contents(NamedTuple):
    """``words`` are sorted."""

    head: Head
    words: array[int]
    rows: array[int]
    packed_texts: bytes


def pack(arch: str, columns: Sequence[Column], setups: Sequence[str], entries: Sequence[Entry]) -> bytes:
    ordered = sorted(entries)
    traps: dict[Trap | None, int] = {None: 0}
    rows: dict[tuple[int, ...], int] = {}
    numbers = []
    for entry in ordered:
        row = tuple(traps.setdefault(trap, len(traps)) for trap in entry.traps)
        numbers.append(rows.setdefault(row, len(rows)))
    head = Head(arch, tuple(columns), tuple(setups), tuple(traps), tuple(rows))
    planes = [bytes(entry.word >> 8 * n & 0xFF for entry in ordered) for n in range(_WORD_PLANES)]
    planes += [bytes(number >> 8 * n & 0xFF for number in numbers) for n in range(_PLANES - _WORD_PLANES)]
    texts = "\n".join(entry.text for entry in ordered).encode()
    streams = [zlib.compress(part, 9) for part in (msgspec.msgpack.encode(head), b"".join(planes), texts)]
    return _HEAD.pack(MAGIC, VERSION, *map(len, streams)) + b"".join(streams)


def unpack(data: bytes) -> Contents:
    """Raises TrapFileError."""
    if len(data) < _HEAD.size:
        raise TrapFileError(f"{len(data)} bytes are no atlas")
    magic, version, *lengths = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise TrapFileError(f"{magic!r}, version {version}: no atlas of version {VERSION}")
    if _HEAD.size + sum(lengths) != len(data):
        raise TrapFileError(f"{len(data)} bytes, where {_HEAD.size + sum(lengths)} were announced")
    first = _HEAD.size + lengths[0]
    second = first + lengths[1]
    try:
        head = msgspec.msgpack.decode(inflate(data[_HEAD.size : first]), type=Head)
    except msgspec.MsgspecError as error:
        raise TrapFileError(f"the atlas is damaged: {error}") from None
    planes = inflate(data[first:second])
    count, rest = divmod(len(planes), _PLANES)
    if rest:
        raise TrapFileError(f"{len(planes)} bytes of columns are not {_PLANES} planes")
    words = array("L", _join(planes, 0, _WORD_PLANES, count))
    rows = array("H", _join(planes, _WORD_PLANES, _PLANES - _WORD_PLANES, count))
    width = len(head.columns) * len(head.setups)
    if (count and max(rows) >= len(head.rows)) or any(len(row) != width for row in head.rows):
        raise TrapFileError("the atlas is damaged: rows and columns do not match")
    if any(not 0 <= number < len(head.traps) for row in head.rows for number in row):
        raise TrapFileError("the atlas is damaged: a row has an outcome that is not there")
    return Contents(head, words, rows, data[second:])


def _join(planes: bytes, first: int, number: int, count: int) -> list[int]:
    parts = [planes[(first + n) * count : (first + n + 1) * count] for n in range(number)]
    return [sum(byte << 8 * n for n, byte in enumerate(bytes_)) for bytes_ in zip(*parts, strict=True)]


def inflate(stream: bytes) -> bytes:
    """Raises TrapFileError."""
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(stream, MAX_BYTES)
    except zlib.error as error:
        raise TrapFileError(f"the atlas is damaged: {error}") from None
    if decompressor.unconsumed_tail or not decompressor.eof:
        raise TrapFileError("the atlas is damaged: a part is too long, or ends too early")
    return data
