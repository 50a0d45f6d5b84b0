"""What was asked and answered so far, on disk before it can be needed: the host may not survive a question.

Lines of text. ``# …`` is the head; ``? N M``: forms N to M are about to be asked; ``= N FIELDS``: what N came to.
A journal that ends in a question without all of its answers was interrupted there: what is left of that block is asked
one at a time, and if the journal ends in a question of one, that form is left out and named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Final, cast, get_args

from kvmwhy.emulator.measured import Compared, Kind, Measured

_KINDS: Final = get_args(Kind)
_COMPARED: Final = get_args(Compared)
BLOCK: Final = 64


def write_measured(measured: Measured | None) -> str:
    if measured is None:
        return "-"
    fields = (
        measured.kind,
        measured.code,
        measured.ndata,
        measured.fetched,
        measured.accesses or ".",
        measured.compared,
        "+".join(measured.wrong) or ".",
    )
    return " ".join(map(str, fields))


def read_measured(text: str) -> Measured | None:
    """None for "-", and for what is torn. Raises ValueError for what is nothing of the sort."""
    if text == "-":
        return None
    kind, code, ndata, fetched, accesses, compared, wrong = text.split()
    if kind not in _KINDS or compared not in _COMPARED:
        raise ValueError(f"no verdict: {text[:80]!r}")
    return Measured(
        cast("Kind", kind),
        *(int(code), int(ndata), int(fetched)),
        accesses.replace(".", ""),
        cast("Compared", compared),
        tuple(wrong.split("+")) if wrong != "." else (),
    )


class Journal:
    """``head`` says what is being asked, and of whom: a journal with another head is begun anew."""

    def __init__(self, path: str, head: str) -> None:
        self.answers: dict[int, Measured | None] = {}
        self.suspects: set[int] = set()  # asked in a block that was interrupted: ask them one at a time
        self.killers: set[int] = set()  # asked alone, and never answered
        self._asked: tuple[int, int] | None = None
        if os.path.exists(path):
            self._read(path, head)
        mode = "a" if self.answers or self.suspects or self.killers else "w"
        self._file: IO[str] = open(path, mode, encoding="ascii")  # noqa: SIM115 -- close() does
        if not self._file.tell():
            self._put(f"# {head}")

    def _read(self, path: str, head: str) -> None:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = file.read().split("\n")
        if lines[0] != f"# {head}":
            return
        for line in lines[1:]:
            try:
                self._line(line)
            except ValueError:  # torn: as if it had not been written
                continue
        self._interrupted()

    def _line(self, line: str) -> None:
        what, _, rest = line.partition(" ")
        if what == "?":
            self._interrupted()
            first, last = map(int, rest.split())
            self._asked = (first, last)
        elif what == "=":
            number, _, verdict = rest.partition(" ")
            self.answers[int(number)] = read_measured(verdict)

    def _interrupted(self) -> None:
        """A block was asked; what of it has no answer?"""
        if self._asked is None:
            return
        first, last = self._asked
        left = {number for number in range(first, last + 1) if number not in self.answers}
        (self.killers if first == last else self.suspects).update(left)
        self._asked = None

    def _put(self, line: str) -> None:
        self._file.write(line + "\n")

    def _keep(self) -> None:
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def blocks(self, total: int) -> Iterator[range]:
        """The numbers that are still to be asked, in blocks; each is on disk before it is given out."""
        number = 0
        while number < total:
            if number in self.answers or number in self.killers:
                number += 1
                continue
            last = number
            while (
                number not in self.suspects
                and last + 1 < total
                and last - number + 1 < BLOCK
                and not {last + 1} & (self.suspects | self.killers | self.answers.keys())
            ):
                last += 1
            self._put(f"? {number} {last}")
            self._keep()
            yield range(number, last + 1)
            number = last + 1

    def answer(self, number: int, verdict: Measured | None) -> None:
        self.answers[number] = verdict
        self._put(f"= {number} {write_measured(verdict)}")

    def close(self) -> None:
        self._keep()
        self._file.close()
