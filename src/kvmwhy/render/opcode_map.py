"""The atlas by opcode: for each opcode of each map, what each measured kernel does with its forms. Values, no look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from kvmwhy.emulator.atlas import Kernel, Row
from kvmwhy.emulator.encoding_key import LEGACY, VEX, Place, place_of
from kvmwhy.emulator.measured import Measured

# y  all of its forms are carried out      s  some are      n  none is
# x  none is, and the guest gets an exception for each      -  not measured
Outcome = Literal["y", "s", "n", "x", "-"]

_MODES: Final = {"real16": "real", "prot16": "16", "prot32": "32", "long64": "64"}


class Form(NamedTuple):
    """Forms of one mnemonic that fare alike: one of them, in which modes they were measured, and their verdicts."""

    text: str
    modes: tuple[str, ...]
    row: Row


class Cell(NamedTuple):
    """One opcode. ``outcomes`` are those of the kernels, in their order."""

    opcode: int
    names: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    forms: tuple[Form, ...]

    @property
    def changed(self) -> bool:
        return len(set(self.outcomes) - {"-"}) > 1


class Panel(NamedTuple):
    """One map of 256 opcodes: those that a CPU defines."""

    id: str
    title: str
    cells: dict[int, Cell]


_PANELS: Final = {
    (LEGACY, 0): ("0", "One-byte opcodes"),
    (LEGACY, 1): ("0f", "Opcodes behind 0f"),
    (LEGACY, 2): ("0f38", "Opcodes behind 0f 38"),
    (LEGACY, 3): ("0f3a", "Opcodes behind 0f 3a"),
    (VEX, 1): ("vex1", "VEX, map 1 (as behind 0f)"),
    (VEX, 2): ("vex2", "VEX, map 2 (as behind 0f 38)"),
    (VEX, 3): ("vex3", "VEX, map 3 (as behind 0f 3a)"),
}
_SPEAKING: Final = ("svm", "")  # vendor and module parameters of the columns that are shown


def columns_of(kernels: Sequence[Kernel]) -> list[int]:
    """The columns with every form, oldest first: kvm-amd's without module parameters."""
    shown = [n for n, kernel in enumerate(kernels) if (kernel.vendor, kernel.module_args) == _SPEAKING]
    return sorted(shown, key=lambda n: kernels[n].series)


def panels(rows: Iterable[tuple[Row, str]], columns: Sequence[int]) -> list[Panel]:
    """Each row with its text. Left out are encodings that no CPU defines, and other encodings (EVEX, XOP)."""
    by_place: dict[Place, list[tuple[Row, str]]] = {}
    for row, text in rows:
        place = place_of(row.code, row.mode) if row.defined else None
        if place is not None and (place.encoding, place.number) in _PANELS:
            by_place.setdefault(place, []).append((row, text))
    found = {key: Panel(name, title, {}) for key, (name, title) in _PANELS.items()}
    for place, held in sorted(by_place.items()):
        found[place.encoding, place.number].cells[place.opcode] = _cell(place.opcode, held, columns)
    return [panel for panel in found.values() if panel.cells]


def _cell(opcode: int, rows: Sequence[tuple[Row, str]], columns: Sequence[int]) -> Cell:
    names = dict.fromkeys(mnemonic(text) for _, text in rows)
    outcomes = tuple(_outcome([row.verdicts[column] for row, _ in rows]) for column in columns)
    return Cell(opcode, tuple(names), outcomes, tuple(_forms(rows, columns)))


def _outcome(verdicts: Iterable[Measured | None]) -> Outcome:
    kinds = [verdict.kind for verdict in verdicts if verdict is not None]
    if not kinds:
        return "-"
    works = kinds.count("emulated")
    if works:
        return "y" if works == len(kinds) else "s"
    return "x" if set(kinds) == {"exception"} else "n"


def _forms(rows: Sequence[tuple[Row, str]], columns: Sequence[int]) -> Iterator[Form]:
    """One of those that differ in nothing that is shown."""
    alike: dict[object, tuple[str, Row, list[str]]] = {}
    for row, text in rows:
        verdicts = tuple(
            (verdict.kind, verdict.code, verdict.compared == "wrong") if (verdict := row.verdicts[column]) else None
            for column in columns
        )
        which = (mnemonic(text), "[" in text, verdicts)
        alike.setdefault(which, (text, row, []))[2].append(_MODES[row.mode])
    for text, row, modes in alike.values():
        yield Form(text, tuple(mode for mode in _MODES.values() if mode in modes), row)


def mnemonic(text: str) -> str:
    """The instruction's name, behind its prefixes."""
    words = text.split()
    while len(words) > 1 and words[0] in {"lock", "rep", "repe", "repne", "bnd", "notrack", "xacquire", "xrelease"}:
        words.pop(0)
    return words[0] if words else "?"
