"""What KVM of arm64 and riscv64 makes of an access where there is no memory, as measured, and how to ask it.

>>> from kvmwhy.emulator.trap_atlas import trap_atlas
>>> row = trap_atlas("arm64").look_up(0xA9401003)  # ldp x3, x4, [x0]
>>> row.in_setup("mmu-off")[0][1].kind
'error'
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Container, Iterator
from functools import cache, cached_property
from typing import Final, NamedTuple

from kvmwhy.abi.uname import Series
from kvmwhy.arch.arm64 import forms as arm64_forms
from kvmwhy.arch.riscv64 import forms as riscv64_forms
from kvmwhy.emulator.assembly_shape import shape
from kvmwhy.emulator.trap_file import Column, Contents, Head, Trap, texts_of, unpack

_UNDEFINED: Final = {"arm64": {0x2000000}, "riscv64": {2, 22}}  # ESR_EL1 of an unknown reason; SCAUSE
_FORM_OF: Final[dict[str, Callable[[int], int | None]]] = {
    "arm64": arm64_forms.form_of,
    "riscv64": riscv64_forms.form_of,
}


class Row(NamedTuple):
    """What is known of one form. ``traps``: of each column, and in it of each setup; ``None``: not measured."""

    arch: str
    word: int
    text: str
    exact: bool
    columns: tuple[Column, ...]
    setups: tuple[str, ...]
    traps: tuple[Trap | None, ...]

    def in_setup(self, setup: str) -> list[tuple[Column, Trap]]:
        """Each column's outcome, in the order of the columns."""
        at = self.setups.index(setup)
        measured = zip(self.columns, self.traps[at :: len(self.setups)], strict=True)
        return [(column, trap) for column, trap in measured if trap is not None]


class Outcome(NamedTuple):
    """What came of it, and on which columns."""

    columns: tuple[Column, ...]
    trap: Trap


def is_undefined(trap: Trap, arch: str) -> bool:
    """The CPU does not know the instruction, or KVM hides it from the guest."""
    return trap.kind == "exception" and trap.code in _UNDEFINED[arch]


def of_columns(row: Row, setup: str, columns: Container[Column]) -> list[Outcome]:
    """What these columns say together: more than one outcome where they disagree, none if they were not asked.

    A CPU that lacks the instruction tells nothing of the kernel: it counts only if all of them lack it.
    """
    measured = [(column, trap) for column, trap in row.in_setup(setup) if column in columns]
    known = [(column, trap) for column, trap in measured if not is_undefined(trap, row.arch)]
    where: dict[Trap, list[Column]] = {}
    for column, trap in known or measured:
        where.setdefault(trap, []).append(column)
    return [Outcome(tuple(found), trap) for trap, found in where.items()]


def of_series(row: Row, setup: str, version: Series) -> list[Outcome]:
    """What a series of kernels makes of it, on every emulator that it was asked on; see ``of_columns``."""
    return of_columns(row, setup, [column for column in row.columns if column.series == version])


class TrapAtlas:
    """An atlas in memory."""

    def __init__(self, data: bytes) -> None:
        self._contents: Contents = unpack(data)

    @property
    def head(self) -> Head:
        return self._contents.head

    def __len__(self) -> int:
        return len(self._contents.words)

    @cached_property
    def _texts(self) -> list[str]:
        return texts_of(self._contents)

    @cached_property
    def _by_shape(self) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for number, text in enumerate(self._texts):
            if text:
                numbers.setdefault(shape(text, self.head.arch), []).append(number)
        return numbers

    def __iter__(self) -> Iterator[Row]:
        for number in range(len(self)):
            yield self._row(number, exact=True)

    def look_up(self, word: int) -> Row | None:
        """The row of an instruction; ``None`` if no form like it was measured."""
        form = _FORM_OF[self.head.arch](word)
        if form is None:
            return None
        words = self._contents.words
        number = bisect_left(words, form)
        if number == len(words) or words[number] != form:
            return None
        return self._row(number, exact=form == word)

    def find(self, text: str) -> list[Row]:
        """Rows whose text is like this one, whatever registers and offsets; of a mnemonic alone, all of its forms."""
        wanted = shape(text, self.head.arch)
        if " " not in wanted:
            numbers = [n for n, known in enumerate(self._texts) if known.partition(" ")[0] == wanted]
        else:
            numbers = self._by_shape.get(wanted, [])
        rows: dict[object, Row] = {}  # one of those that look alike and do the same
        for number in numbers:
            row = self._row(number, exact=False)
            rows.setdefault((shape(row.text, row.arch), row.traps), row)
        return list(rows.values())

    def _row(self, number: int, *, exact: bool) -> Row:
        head = self.head
        row = head.rows[self._contents.rows[number]]
        return Row(
            arch=head.arch,
            word=self._contents.words[number],
            text=self._texts[number],
            exact=exact,
            columns=head.columns,
            setups=head.setups,
            traps=tuple(head.traps[at] for at in row),
        )


@cache
def trap_atlas(arch: str) -> TrapAtlas:
    """The one that comes with the package, of ``arm64`` or ``riscv64``. Raises AtlasError, or OSError."""
    with open(os.path.join(os.path.dirname(__file__), "data", f"traps-{arch}.bin"), "rb") as file:
        return TrapAtlas(file.read())
