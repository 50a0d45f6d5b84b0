"""What KVM of arm64 and riscv64 makes of an access where there is no memory, as measured, and how to ask it.

>>> from kvmwhy.emulator.trap_atlas import trap_atlas
>>> row = trap_atlas("arm64").look_up(0xA9401003)  # ldp x3, x4, [x0]
>>> row.in_setup("mmu-off")[0][1].kind
'error'
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Final, NamedTuple

from kvmwhy.arch.arm64 import forms as arm64_forms
from kvmwhy.arch.riscv64 import forms as riscv64_forms
from kvmwhy.emulator.assembly_shape import shape
from kvmwhy.emulator.trap_file import Column, Contents, Head, Trap, texts_of, unpack

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
