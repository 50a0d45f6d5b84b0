"""What a CPU raises when it cannot deliver an exception. Expectations: SDM vol. 3A, 6.13, "Error Code"."""

from __future__ import annotations

import pytest

from kvmwhy.arch.x86.exception_delivery import undeliverable
from kvmwhy.record import Cpu, Segment

INT3, UD, GP = 3, 6, 13
EXT = 1
ABOUT_A_GATE = 2


def cpu(idt_limit: int) -> Cpu:
    """Protected mode, with an IDT of so many bytes."""
    return Cpu(registers={"cr0": 0x11, "efer": 0}, segments={"idt": Segment(0, 0x1000, idt_limit, 0)})


@pytest.mark.parametrize(("vector", "ext"), [(0, EXT), (UD, EXT), (GP, EXT), (14, EXT), (INT3, 0), (4, 0)])
def test_a_fault_during_the_delivery_of_an_exception_is_external_to_the_program(vector: int, ext: int) -> None:
    """EXT is set for an earlier exception, and clear for INT3 and INTO, which are software interrupts."""
    broken = undeliverable(vector, cpu(0), None)
    assert broken is not None
    assert broken.vector == GP
    assert broken.error_code == vector * 8 + ABOUT_A_GATE + ext


def test_a_page_fault_has_no_such_bit() -> None:
    """Bit 0 of a page fault's code says that the page is present, whatever was delivered."""
    wide = Cpu(
        registers={"cr0": 0x8000_0011, "cr3": 0, "cr4": 0x20, "efer": 0x500, "rsp": 0x7000},
        segments={"idt": Segment(0, 1 << 30, 0xFFF, 0)},
    )
    broken = undeliverable(UD, wide, lambda _, size: bytes(size))
    assert broken is not None
    assert (broken.vector, broken.error_code) == (14, 0)
