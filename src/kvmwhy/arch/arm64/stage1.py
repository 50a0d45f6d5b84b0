"""The guest's own page tables on arm64: TTBR0 and TTBR1, TCR, granules of 4, 16 and 64 KiB.

Arm ARM DDI 0487, "The AArch64 Virtual Memory System Architecture": VMSAv8-64 with LPA (64 KiB) and LPA2. Pure: the
memory is read by a function of the caller's, which answers ``None`` where it has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

Outcome = Literal[
    "mapped", "translation fault", "access flag fault", "address size fault", "table not readable", "walks disabled",
    "address outside the tables' range",
]  # fmt: skip
Read = Callable[[int], int | None]  # the 64-bit word at a guest physical address

_VALID: Final = 1
_TABLE: Final = 2
_AF: Final = 1 << 10
_LAST: Final = 3
_UPPER: Final = 1 << 55  # the bit of an address that chooses TTBR1
_GRANULES0: Final = {0: 12, 1: 16, 2: 14}  # TCR.TG0
_GRANULES1: Final = {1: 14, 2: 12, 3: 16}  # TCR.TG1
_SIZES: Final = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52, 7: 56}  # TCR.IPS
_HA: Final = 1 << 39  # the CPU sets the access flag itself
_DS: Final = 1 << 59  # LPA2
_52_BITS: Final = 6
_READ_ONLY: Final = 1 << 7
_USER: Final = 1 << 6
_PXN: Final = 1 << 53
_UXN: Final = 1 << 54


class Tables(NamedTuple):
    """The registers that a walk needs."""

    tcr: int
    ttbr0: int
    ttbr1: int


class Step(NamedTuple):
    """One descriptor: its level, where it lies, and its value."""

    level: int
    address: int
    value: int | None


class Walk(NamedTuple):
    """``address``: where the virtual address leads, if it is mapped; ``steps``: the descriptors on the way."""

    outcome: Outcome
    address: int | None = None
    level: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def last(self) -> int:
        """The descriptor that decided, or 0."""
        return (self.steps[-1].value or 0) if self.steps else 0

    @property
    def writable(self) -> bool:
        return self.outcome == "mapped" and not self.last & _READ_ONLY

    @property
    def user(self) -> bool:
        """EL0 may access it."""
        return self.outcome == "mapped" and bool(self.last & _USER)

    @property
    def executable(self) -> bool:
        """EL1 may execute it: not where EL0 may write."""
        return self.outcome == "mapped" and not self.last & _PXN and not (self.user and self.writable)

    @property
    def user_executable(self) -> bool:
        return self.user and not self.last & _UXN


def walk(va: int, tables: Tables, read: Read) -> Walk:
    """Where the guest's tables lead, as its CPU would walk them."""
    upper = bool(va & _UPPER)
    tcr = tables.tcr
    granule = (_GRANULES1 if upper else _GRANULES0).get(tcr >> (30 if upper else 14) & 3)
    size = 64 - (tcr >> (16 if upper else 0) & 0x3F)
    if tcr >> (23 if upper else 7) & 1:
        return Walk("walks disabled")
    bits = 0 if granule is None else granule - 3
    if granule is None or not granule < size <= 52:
        return Walk("address outside the tables' range")
    kept = 56 if tcr >> (38 if upper else 37) & 1 else 64  # without a top byte that is ignored
    top = va >> size & (1 << (kept - size)) - 1
    if top != ((1 << (kept - size)) - 1 if upper else 0):
        return Walk("address outside the tables' range")
    level = _LAST - (size - granule - 1) // bits
    wide = bool(tcr & _DS) or (granule == 16 and tcr >> 32 & 7 >= _52_BITS)
    base = _base(tables.ttbr1 if upper else tables.ttbr0, size - _shift(level, granule), wide=wide)
    limit = 1 << _SIZES[tcr >> 32 & 7]
    steps: list[Step] = []
    while True:
        shift = _shift(level, granule)
        index = (va & (1 << size) - 1) >> shift & (1 << bits) - 1
        at = base + 8 * index
        value = read(at)
        steps.append(Step(level, at, value))
        if value is None:
            return Walk("table not readable", None, level, tuple(steps))
        is_leaf = level == _LAST or not value & _TABLE
        if not value & _VALID or (level == _LAST and not value & _TABLE):
            return Walk("translation fault", None, level, tuple(steps))
        if is_leaf and level != _LAST and not _may_be_block(level, granule, wide=wide):
            return Walk("translation fault", None, level, tuple(steps))
        base = _output(value, shift if is_leaf else granule, wide=wide, lpa2=bool(tcr & _DS) and granule < 16)
        if base >= limit:
            return Walk("address size fault", None, level, tuple(steps))
        if is_leaf:
            if not value & _AF and not tcr & _HA:
                return Walk("access flag fault", None, level, tuple(steps))
            return Walk("mapped", base | va & (1 << shift) - 1, level, tuple(steps))
        level += 1


def _shift(level: int, granule: int) -> int:
    """The bits of an address below those that a level indexes."""
    return granule + (granule - 3) * (_LAST - level)


def _base(ttbr: int, index_bits: int, *, wide: bool) -> int:
    """The first table, aligned to its size (at least 64 bytes where addresses have 52 bits)."""
    size = max(index_bits + 3, 6 if wide else 3)
    base = ttbr & (1 << 48) - 1 & -1 << size
    return base | (ttbr >> 2 & 0xF) << 48 if wide else base


def _may_be_block(level: int, granule: int, *, wide: bool) -> bool:
    least = {12: 1, 14: 2, 16: 2}[granule]
    return level >= least - (1 if wide else 0)


def _output(value: int, shift: int, *, wide: bool, lpa2: bool) -> int:
    if lpa2:
        return value & (1 << 50) - 1 & -1 << shift | (value >> 8 & 3) << 50
    low = value & (1 << 48) - 1 & -1 << shift
    return low | (value >> 12 & 0xF) << 48 if wide else low
