"""Walks of arm64's stage-1 tables, over tables that the test builds by the manual's layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.arm64.stage1 import Tables, walk

GRANULES = {12: (0b00, 0b10), 14: (0b10, 0b01), 16: (0b01, 0b11)}  # TG0, TG1
PAGE, TABLE, BLOCK, AF = 0b11, 0b11, 0b01, 1 << 10
ROOT = 0x4000_0000


def tcr(granule: int, size: int, *, more: int = 0) -> int:
    """Both halves alike; 48 bits of physical addresses."""
    tg0, tg1 = GRANULES[granule]
    return (64 - size) | (64 - size) << 16 | tg0 << 14 | tg1 << 30 | 5 << 32 | more


def mapped(granule: int, size: int, va: int, pa: int, *, leaf: int = 3, flags: int = AF) -> dict[int, int]:
    """Memory with one path from the root to ``pa`` at ``leaf``."""
    bits = granule - 3
    level = next(level for level in range(4) if granule + bits * (4 - level) >= size > granule + bits * (3 - level))
    memory, table, fresh = {}, ROOT, ROOT + (1 << 20)
    while True:
        shift = granule + bits * (3 - level)
        at = table + 8 * ((va & (1 << size) - 1) >> shift & (1 << bits) - 1)
        if level == leaf:
            memory[at] = pa & -1 << shift | flags | (PAGE if level == 3 else BLOCK)
            return memory
        memory[at] = fresh | TABLE
        table, fresh, level = fresh, fresh + (1 << 20), level + 1


@pytest.mark.parametrize("granule", GRANULES)
@pytest.mark.parametrize("size", [39, 42, 47, 48])
@given(st.data())
def test_a_mapped_page(granule: int, size: int, data: st.DataObject) -> None:
    """Wherever the page lies, and in whichever half the address is."""
    low = data.draw(st.integers(0, (1 << size) - 1))
    va = low | ((1 << 64) - (1 << size) if data.draw(st.booleans()) else 0)
    pa = data.draw(st.integers(0, (1 << 47) - 1)) & -1 << granule
    memory = mapped(granule, size, va, pa)
    found = walk(va, Tables(tcr(granule, size), ROOT, ROOT), memory.get)
    assert found.outcome == "mapped"
    assert found.address == pa | va & (1 << granule) - 1
    assert found.level == 3


@pytest.mark.parametrize(("granule", "level", "span"), [(12, 1, 30), (12, 2, 21), (14, 2, 25), (16, 2, 29)])
def test_a_block(granule: int, level: int, span: int) -> None:
    """1 GiB and 2 MiB of 4 KiB pages, 32 MiB of 16 KiB, 512 MiB of 64 KiB."""
    va, pa = 0x1234_5678_9ABC, 0x20_0000_0000
    found = walk(va, Tables(tcr(granule, 48), ROOT, 0), mapped(granule, 48, va, pa, leaf=level).get)
    assert (found.outcome, found.address) == ("mapped", pa & -1 << span | va & (1 << span) - 1)


def test_faults() -> None:
    """Each fault of a walk, with its level."""
    va = 0x7F_1234_5000
    good = mapped(12, 48, va, 0x8000_0000)
    tables = Tables(tcr(12, 48), ROOT, 0)
    assert walk(va, tables, lambda _: 0)[:3] == ("translation fault", None, 0)
    assert walk(va, tables, lambda _: None).outcome == "table not readable"
    assert walk(va, tables, mapped(12, 48, va, 0x8000_0000, flags=0).get).outcome == "access flag fault"
    assert (
        walk(va, tables._replace(tcr=tcr(12, 48, more=1 << 39)), mapped(12, 48, va, 0, flags=0).get).outcome == "mapped"
    )
    assert walk(va, tables._replace(tcr=tcr(12, 48, more=1 << 7)), good.get).outcome == "walks disabled"
    assert walk(va, tables._replace(tcr=tcr(12, 36)), good.get).outcome == "address outside the tables' range"
    small = tcr(12, 48) & ~(7 << 32)  # 32 bits of physical addresses
    assert walk(va, tables._replace(tcr=small), mapped(12, 48, va, 1 << 40).get).outcome == "address size fault"


def test_a_tagged_address() -> None:
    """TBI0: the top byte is not looked at."""
    va = 0x7F_1234_5678
    tables = Tables(tcr(12, 48, more=1 << 37), ROOT, 0)
    assert walk(0x5A << 56 | va, tables, mapped(12, 48, va, 0x8000_0000).get).address == 0x8000_0678


def test_rights() -> None:
    """AP[2] read-only, AP[1] for EL0, PXN and UXN; what EL0 may write EL1 may not execute."""
    va, tables = 0x1000, Tables(tcr(12, 48), ROOT, 0)
    read_only = walk(va, tables, mapped(12, 48, va, 0x8000_0000, flags=AF | 1 << 7).get)
    assert (read_only.writable, read_only.user, read_only.executable) == (False, False, True)
    user = walk(va, tables, mapped(12, 48, va, 0x8000_0000, flags=AF | 1 << 6).get)
    assert (user.writable, user.user, user.executable, user.user_executable) == (True, True, False, True)
    hidden = walk(va, tables, mapped(12, 48, va, 0x8000_0000, flags=AF | 1 << 7 | 1 << 53 | 1 << 54).get)
    assert not hidden.executable
    assert not hidden.user_executable


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers())
def test_any_registers(va: int, number: int, ttbr: int, seed: int) -> None:
    """Hostile registers and memory: an answer, always."""
    memory = {0: seed & (1 << 64) - 1}
    assert walk(va, Tables(number, ttbr, ttbr), lambda at: memory.get(at % 7, seed & (1 << 64) - 1)).outcome
