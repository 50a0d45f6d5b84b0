"""Forms of instructions: encodings that differ in their operands alone are one, and stand for each other.

A group is a shape of the architecture's encoding tables: bits that are fixed, and fields that hold operands (registers,
offsets). All other bits select the instruction. A word's form is the word with its operands replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple


class Operand(NamedTuple):
    """A field of operands. ``stands``: the values that stand for the others; those of ``apart`` for themselves alone,
    as where a register's number makes it another instruction.
    """

    high: int
    low: int
    stands: int
    apart: tuple[int, ...] = ()

    @property
    def mask(self) -> int:
        return (1 << self.high + 1) - (1 << self.low)

    def form(self, word: int) -> int:
        value = (word & self.mask) >> self.low
        return word & ~self.mask | (value if value in self.apart else self.stands) << self.low


class Group(NamedTuple):
    """``pattern``: the bits from the highest on, 0 and 1 fixed, ``.`` any; spaces are for the reader."""

    name: str
    pattern: str
    operands: tuple[Operand, ...]

    @property
    def fixed(self) -> tuple[int, int]:
        """Mask and value of the fixed bits."""
        bits = self.pattern.replace(" ", "")
        mask = int("".join("0" if bit == "." else "1" for bit in bits), 2)
        return mask, int(bits.replace(".", "0"), 2)

    def form(self, word: int) -> int:
        for operand in self.operands:
            word = operand.form(word)
        return word

    def forms(self) -> Iterator[int]:
        """Every form: all values of the bits that select."""
        mask, value = self.fixed
        for operand in self.operands:
            mask |= operand.mask
        width = len(self.pattern.replace(" ", ""))
        selecting = [1 << bit for bit in range(width) if not mask >> bit & 1]
        choices = [[0, bit] for bit in selecting]
        choices += [[number << o.low for number in (o.stands, *o.apart)] for o in self.operands]
        for chosen in product(*choices):
            yield value + sum(chosen)


def group_of(groups: Sequence[Group], word: int) -> Group | None:
    """The first group that has the word."""
    for group in groups:
        mask, value = group.fixed
        if word & mask == value:
            return group
    return None


def all_forms(groups: Sequence[Group]) -> Iterator[tuple[Group, int]]:
    """Each form of each group once, a group's own: one that an earlier group has is that one's."""
    for group in groups:
        for word in group.forms():
            if group_of(groups, word) is group:
                yield group, word
