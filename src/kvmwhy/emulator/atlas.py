"""The atlas: what the emulator of each measured kernel made of each form, and how to ask it.

>>> from kvmwhy.emulator.atlas import atlas
>>> row = atlas().look_up(bytes.fromhex("d9 03"), "long64")  # fld dword ptr [rbx]
>>> row.in_kernel((6, 1)).verdict.kind
'fails'

A kernel between two measured ones is answered with both; nothing is interpolated.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import Literal, NamedTuple

from kvmwhy.emulator.atlas_file import (
    DEFINED,
    FORCED,
    PLAIN,
    Codes,
    Columns,
    Kernel,
    codes_of,
    unpack,
)
from kvmwhy.emulator.encoding_key import SAME, Mode, key_of, mode_of, relaxed
from kvmwhy.emulator.measured import Measured
from kvmwhy.emulator.packed import AtlasError

__all__ = ["Answer", "Atlas", "AtlasError", "Kernel", "Measured", "Row", "atlas", "in_kernel", "look_up"]

Technique = Literal["stale", "forced", "plain"]
Status = Literal["measured", "between", "before", "after", "unknown"]
Version = tuple[int, int]


class Row(NamedTuple):
    """What is known of one instruction.

    ``code`` was measured; it is an equal form of what was asked for, or, if ``exact``, the same bytes. ``ignored``
    says what the measured form has not and the instruction has ("REX.W"). ``verdicts`` are in the order of
    ``kernels``; None: not measured there.
    """

    mode: Mode
    code: bytes
    exact: bool
    ignored: str
    technique: Technique
    defined: bool
    kernels: tuple[Kernel, ...]
    verdicts: tuple[Measured | None, ...]

    def in_kernel(self, version: Version, vendor: str | None = None) -> Answer:
        """What the row says of a kernel's version: see the function."""
        return in_kernel(self.kernels, self.verdicts, version, vendor)


class Answer(NamedTuple):
    """A row, for one kernel.

    ``measured``: ``verdict`` was seen in that series, on ``kernel``. ``between``, ``before``, ``after``: it was not
    measured; ``below`` and ``above`` are the nearest that were, and ``changed`` whether they differ.
    """

    status: Status
    verdict: Measured | None = None
    kernel: Kernel | None = None
    below: tuple[Kernel, Measured] | None = None
    above: tuple[Kernel, Measured] | None = None

    @property
    def changed(self) -> bool:
        return bool(self.below and self.above and not self.below[1].same_outcome(self.above[1]))


class Atlas:
    """An atlas in memory. Look-ups take microseconds; the bytes of the forms are unpacked when first asked for."""

    def __init__(self, data: bytes) -> None:
        self._columns: Columns = unpack(data)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        return self._columns.head.kernels

    def __len__(self) -> int:
        return len(self._columns.keys)

    @cached_property
    def _codes(self) -> Codes:
        return codes_of(self._columns.codes, len(self))

    def __iter__(self) -> Iterator[Row]:
        for number in range(len(self)):
            yield self._row(number, exact=True, ignored="")

    def look_up(self, code: bytes, mode: str) -> Row | None:
        """The row of the first instruction in ``code``; None if no equal form was measured.

        ``mode`` is a name of ``x86.mode``. What is known of 16- and 32-bit code holds under long mode as well;
        KVM has a mode of its own for vm86, which was not measured.
        """
        if (known := SAME.get(mode)) is None or (key := key_of(code, known)) is None:
            return None
        if (number := self._find(key, code)) is not None:
            return self._row(number, exact=code.startswith(self._codes[number]), ignored="")
        for other, ignored in relaxed(key):
            if (number := self._find(other, code)) is not None:
                return self._row(number, exact=False, ignored=ignored)
        return None

    def verdicts(self, code: bytes, mode: str) -> tuple[Measured | None, ...] | None:
        """As ``look_up``, for equal forms only and without the form: the quickest question."""
        if (known := SAME.get(mode)) is None or (key := key_of(code, known)) is None:
            return None
        keys = self._columns.keys
        number = bisect_left(keys, key)
        if number == len(keys) or keys[number] != key:
            return None
        return self._verdicts(self._columns.rows[number])

    def _find(self, key: int, code: bytes) -> int | None:
        """The form with this key; of several the one whose bytes are those, else the first."""
        keys = self._columns.keys
        first = number = bisect_left(keys, key)
        while number < len(keys) and keys[number] == key:
            if code.startswith(self._codes[number]):
                return number
            number += 1
        return None if number == first else first

    def _row(self, number: int, *, exact: bool, ignored: str) -> Row:
        columns = self._columns
        flags = columns.flags[number]
        return Row(
            mode=mode_of(columns.keys[number]),
            code=self._codes[number],
            exact=exact,
            ignored=ignored,
            technique="forced" if flags & FORCED else "plain" if flags & PLAIN else "stale",
            defined=bool(flags & DEFINED),
            kernels=columns.head.kernels,
            verdicts=self._verdicts(columns.rows[number]),
        )

    def _verdicts(self, row: int) -> tuple[Measured | None, ...]:
        head = self._columns.head
        return tuple(head.verdicts[number] for number in head.rows[row])


@cache
def atlas() -> Atlas:
    """The atlas that comes with the package. Raises AtlasError, or OSError."""
    with open(os.path.join(os.path.dirname(__file__), "data", "atlas.bin"), "rb") as file:
        return Atlas(file.read())


def look_up(code: bytes, mode: str) -> Row | None:
    """The same, of the atlas that comes with the package."""
    return atlas().look_up(code, mode)


def in_kernel(
    kernels: Sequence[Kernel],
    verdicts: Sequence[Measured | None],
    version: Version,
    vendor: str | None = None,
) -> Answer:
    """What a row's verdicts say of a kernel's version.

    ``vendor``: ``svm`` or ``vmx``, if it has to be that one's; else kvm-amd speaks first. Columns with module
    parameters (``ept=0``) do not speak here.
    """
    known = [
        (column, verdict)
        for column, verdict in zip(kernels, verdicts, strict=True)
        if verdict is not None and not column.module_args and vendor in (None, column.vendor)
    ]
    known.sort(key=lambda row: (row[0].series, row[0].vendor))
    below = above = None
    for column, verdict in known:
        if column.series == version:
            return Answer("measured", verdict, column)
        if column.series < version:
            if below is None or column.series > below[0].series:
                below = (column, verdict)
        elif above is None:
            above = (column, verdict)
    if below is None and above is None:
        return Answer("unknown")
    status: Literal["between", "before", "after"] = (
        "before" if below is None else "after" if above is None else "between"
    )
    return Answer(status, below=below, above=above)
