"""The atlas of trapped accesses as a file: what KVM made of each form where there is no memory, on arm64 or riscv64.

Packed as packed.py does: the head; columns in the order of the forms (four planes of the form's word, two of its row's
number); the forms' texts, one a line.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from kvmwhy.abi.uname import Series, series_of
from kvmwhy.emulator import packed

MAGIC: Final = b"kvmwhy traps\n"
VERSION: Final = 1
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
    def series(self) -> Series:
        return series_of(self.release) or (0, 0)

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


class Contents(NamedTuple):
    """``words`` are sorted."""

    head: Head
    words: array[int]
    rows: array[int]
    packed_texts: bytes


def pack(arch: str, columns: Sequence[Column], setups: Sequence[str], entries: Sequence[Entry]) -> bytes:
    ordered = sorted(entries)
    traps, rows, numbers = packed.numbered(entry.traps for entry in ordered)
    planes = packed.planes_of([entry.word for entry in ordered], _WORD_PLANES)
    planes += packed.planes_of(numbers, _PLANES - _WORD_PLANES)
    texts = "\n".join(entry.text for entry in ordered).encode()
    return packed.write(MAGIC, VERSION, Head(arch, tuple(columns), tuple(setups), traps, rows), planes, texts)


def unpack(data: bytes) -> Contents:
    """Raises AtlasError."""
    head, planes, texts = packed.read(data, MAGIC, VERSION, Head, MAX_BYTES)
    count = packed.count_of(planes, _PLANES)
    words = packed.join(planes, 0, _WORD_PLANES, count, "L")
    rows = packed.join(planes, _WORD_PLANES, _PLANES - _WORD_PLANES, count, "H")
    packed.check(rows, head.rows, len(head.columns) * len(head.setups), len(head.traps))
    return Contents(head, words, rows, texts)


def texts_of(contents: Contents) -> list[str]:
    """Of each form. Raises AtlasError."""
    texts = packed.inflate(contents.packed_texts, MAX_BYTES).decode("utf-8", "replace").split("\n")
    if len(texts) != max(1, len(contents.words)):
        raise packed.AtlasError("the atlas is damaged: the texts of its forms")
    return texts
