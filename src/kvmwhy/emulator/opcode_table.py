"""The shipped table of the emulator's slots, read once on first use.

``data/handlers.csv`` says in its head what its columns mean and where they come from.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Literal, NamedTuple

from msgspec import Struct

Map = Literal["0", "0f", "0f38"]
RowOutcome = Literal["handler", "none", "empty", "ud"]
Version = tuple[int, int]

NEWEST = "7.3"  # the newest kernel the table was read from
OLDEST = "2.6.32"


class Row(Struct, frozen=True):
    """One slot. ``None`` and empty strings mean "any"."""

    reg: int | None
    mod: str
    rm: int | None
    prefix: str
    mode: str
    outcome: RowOutcome
    since: str  # "" never, "old", "6.19"; "-6.0" means until before 6.0
    version: Version | None  # ``since`` for comparing
    flags: frozenset[str]
    limit: str
    mnemonic: str


class Slot(NamedTuple):
    """All rows of one opcode. ``modrm`` tells whether a ModRM byte is needed to choose among them."""

    rows: tuple[Row, ...]
    modrm: bool


_OUTCOMES: dict[str, RowOutcome] = {"handler": "handler", "none": "none", "empty": "empty", "ud": "ud"}
_Key = tuple[str, int, bool]  # map, opcode, vex


def _number(text: str) -> int | None:
    return int(text) if text else None


def version_of(since: str) -> Version | None:
    """``"6.19"`` and ``"-6.0"`` as numbers; ``None`` for ``""`` and ``"old"``."""
    major, dot, minor = since.lstrip("-").partition(".")
    return (int(major), int(minor)) if dot else None


@cache
def _lines() -> dict[_Key, list[str]]:
    """The table's rows as they stand, by opcode map, opcode byte and whether the encoding is VEX."""
    with open(os.path.join(os.path.dirname(__file__), "data", "handlers.csv"), encoding="ascii") as file:
        text = file.read()
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    next(lines)  # the column names
    rows: dict[_Key, list[str]] = {}
    for line in lines:
        where, vex, opcodes, rest = line.split(",", 3)
        first, _, last = opcodes.partition("-")
        for opcode in range(int(first, 16), int(last or first, 16) + 1):
            rows.setdefault((where, opcode, bool(vex)), []).append(rest)
    return rows


def _row(line: str) -> Row:
    reg, mod, rm, prefix, mode, outcome, since, flags, limit, mnemonic = line.split(",")
    return Row(
        _number(reg),
        mod,
        _number(rm),
        prefix,
        mode,
        _OUTCOMES[outcome],
        since,
        version_of(since),
        frozenset(flags.split("|")) if flags else frozenset(),
        limit,
        mnemonic,
    )


@cache
def slot(opcode_map: str, opcode: int, *, vex: bool = False) -> Slot | None:
    """The rows of one opcode, or ``None`` where KVM has nothing at all."""
    rows = tuple(map(_row, _lines().get((opcode_map, opcode, vex), ())))
    modrm = any(row.reg is not None or row.mod or row.rm is not None for row in rows)
    return Slot(rows, modrm) if rows else None


def slots() -> dict[_Key, Slot]:
    """The whole table."""
    return {key: entry for key in _lines() if (entry := slot(key[0], key[1], vex=key[2]))}


def by_modrm(rows: tuple[Row, ...], modrm: int) -> tuple[Row, ...]:
    """The rows that hold for a ModRM byte."""
    if len(rows) == 1 and rows[0].reg is None and not rows[0].mod and rows[0].rm is None:
        return rows
    reg, rm = modrm >> 3 & 7, modrm & 7
    mod = "reg" if modrm >= 0xC0 else "mem"
    return tuple(row for row in rows if row.reg in (None, reg) and row.mod in ("", mod) and row.rm in (None, rm))
