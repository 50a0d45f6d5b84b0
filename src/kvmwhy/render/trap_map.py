"""The atlas of arm64 or riscv64 as a map: of each family of accesses and each setup, what became of its forms.

Values, no look. A column is a kernel on an emulated CPU; forms that this CPU lacks are not counted in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple, get_args

from kvmwhy.arch.arm64.load_store import Form as Arm64Form
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.arch.riscv64.instruction import Kind, kind_of
from kvmwhy.emulator import trap_wording
from kvmwhy.emulator.trap_atlas import Row, TrapAtlas, is_undefined
from kvmwhy.emulator.trap_file import Column, Trap

# y  KVM_EXIT_MMIO     v  KVM_EXIT_ARM_NISV     n  KVM_RUN fails     x  the guest gets an exception
# d  no fault          o  another end           s  several of these  -  none of its forms was measured, or is there
Fate = Literal["y", "v", "n", "x", "d", "o", "s", "-"]

_FATES: Final[dict[str, Fate]] = {"mmio": "y", "nisv": "v", "error": "n", "exception": "x", "done": "d"}
# Arm ARM, "A64 instruction set encoding": SVE by bits 28 to 25; the maintenance operations are of the class of SYS.
_SVE: Final = 0b0010
_SYSTEM: Final = 0b1101010100
_ARM64: Final = (*get_args(Arm64Form), "SVE", "cache or address operation", "other")
FAMILIES: Final[dict[str, tuple[str, ...]]] = {"arm64": _ARM64, "riscv64": get_args(Kind)}


class Cell(NamedTuple):
    """One family in one setup. ``counts``: for each column how many forms came to which end, most frequent first."""

    fates: tuple[Fate, ...]
    counts: tuple[tuple[tuple[str, int], ...], ...]


class End(NamedTuple):
    """What became of a form on these columns: in short words, and in which setups."""

    columns: tuple[Column, ...]
    outcomes: tuple[tuple[str, tuple[str, ...]], ...]


class Form(NamedTuple):
    """Forms of one mnemonic that fare alike: one of them, and how many they are."""

    text: str
    word: int
    alike: int
    ends: tuple[End, ...]


class Family(NamedTuple):
    """``cells`` are those of the setups, in the order of ``setups_of``."""

    name: str
    mnemonics: tuple[str, ...]
    cells: tuple[Cell, ...]
    forms: tuple[Form, ...]


def family_of(word: int, arch: str) -> str:
    """Accesses that the architecture, or KVM, tells apart: the name of one of FAMILIES."""
    if arch == "riscv64":
        return kind_of(word)
    access = load_store(word)
    if isinstance(access, LoadStore):
        return access.form
    if word >> 25 & 15 == _SVE:
        return "SVE"
    return "cache or address operation" if word >> 22 == _SYSTEM else "other"


def setups_of(atlas: TrapAtlas) -> list[str]:
    """What the VMM asked for tells them apart first."""
    options = list(dict.fromkeys(trap_wording.split(setup)[1] for setup in atlas.head.setups))
    return sorted(atlas.head.setups, key=lambda setup: options.index(trap_wording.split(setup)[1]))


def families(atlas: TrapAtlas) -> list[Family]:
    """In the order of the manual's chapter. Left out are forms that none of the emulated CPUs has."""
    setups = setups_of(atlas)
    rows: dict[str, list[Row]] = {}
    for row in atlas:
        if any(trap is not None and not is_undefined(trap, row.arch) for trap in row.traps):
            rows.setdefault(family_of(row.word, row.arch), []).append(row)
    order = FAMILIES[atlas.head.arch]
    return [_family(name, rows[name], setups) for name in order if name in rows]


def _family(name: str, rows: Sequence[Row], setups: Sequence[str]) -> Family:
    mnemonics = tuple(dict.fromkeys(filter(None, (_mnemonic(row) for row in rows))))
    held = [_by_column(row, setups) for row in rows]
    cells = tuple(
        _cell(
            [[traps[number] for row in held if (traps := row[column]) is not None] for column in range(len(held[0]))],
            rows[0].arch,
        )
        for number in range(len(setups))
    )
    return Family(name, mnemonics, cells, tuple(_forms(rows, setups)))


def _mnemonic(row: Row) -> str:
    return row.text.partition(" ")[0]


def _by_column(row: Row, setups: Sequence[str]) -> list[list[Trap | None] | None]:
    """Of each column the traps in the order of ``setups``; None where the CPU lacks the instruction."""
    width = len(row.setups)
    order = [row.setups.index(setup) for setup in setups]
    columns: list[list[Trap | None] | None] = []
    for start in range(0, len(row.traps), width):
        traps = [row.traps[start + at] for at in order]
        has_it = any(trap is not None and not is_undefined(trap, row.arch) for trap in traps)
        columns.append(traps if has_it else None)
    return columns


def _cell(columns: Iterable[Sequence[Trap | None]], arch: str) -> Cell:
    fates: list[Fate] = []
    counts = []
    for traps in columns:
        known = [trap for trap in traps if trap is not None]
        kinds = {_FATES.get(trap.kind, "o") for trap in known}
        fates.append("-" if not kinds else kinds.pop() if len(kinds) == 1 else "s")
        counts.append(tuple(Counter(trap_wording.short(trap, arch) for trap in known).most_common()))
    return Cell(tuple(fates), tuple(counts))


def _forms(rows: Sequence[Row], setups: Sequence[str]) -> list[Form]:
    alike: dict[tuple[str, tuple[End, ...]], list[Row]] = {}
    for row in rows:
        alike.setdefault((_mnemonic(row), _ends(row, setups)), []).append(row)
    return [Form(group[0].text, group[0].word, len(group), ends) for (_, ends), group in alike.items()]


def _ends(row: Row, setups: Sequence[str]) -> tuple[End, ...]:
    """Columns with the same outcomes together."""
    columns: dict[tuple[tuple[str, tuple[str, ...]], ...], list[Column]] = {}
    for column, traps in zip(row.columns, _by_column(row, setups), strict=True):
        if traps is None:
            continue
        where: dict[str, list[str]] = {}
        for setup, trap in zip(setups, traps, strict=True):
            if trap is not None:
                where.setdefault(trap_wording.short(trap, row.arch), []).append(setup)
        outcomes = tuple((words, tuple(found)) for words, found in where.items())
        columns.setdefault(outcomes, []).append(column)
    return tuple(End(tuple(which), outcomes) for outcomes, which in columns.items())
