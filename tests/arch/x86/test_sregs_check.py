"""The rules of kvm_is_valid_sregs (arch/x86/kvm/x86.c), on states at their edges."""

from __future__ import annotations

import pytest

from kvmwhy.arch.x86.sregs_check import bits_by_feature, check_sregs
from kvmwhy.record import Cpu, Segment

PG, PE, PAE, LME, LMA = 1 << 31, 1, 1 << 5, 1 << 8, 1 << 10
CODE32 = Segment(8, 0, 0xFFFFFFFF, 0x00CF9B00)
CODE64 = Segment(8, 0, 0xFFFFFFFF, 0x00AF9B00)


def cpu(cs: Segment = CODE32, *, wide: bool | None = None, **registers: int) -> Cpu:
    return Cpu(registers=registers, segments={"cs": cs}, wide=wide)


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ("sregs-cs-l", cpu(CODE64, cr0=PG | PE, cr4=0, efer=0)),
        ("sregs-cs-l", cpu(CODE64, cr0=PE, cr4=PAE, efer=LME)),
        ("sregs-cs-l", cpu(CODE64, wide=False, cr0=PG | PE)),
        ("sregs-lma-set", cpu(cr0=PE, cr4=PAE, efer=LME | LMA)),
        ("sregs-lma-clear", cpu(CODE64, cr0=PG | PE, cr4=PAE, efer=LME)),
        ("sregs-long-pae", cpu(CODE64, cr0=PG | PE, cr4=0, efer=LME | LMA)),
        ("sregs-cr0-pg", cpu(cr0=PG)),
        ("sregs-cr0-nw", cpu(cr0=PE | 1 << 29)),
        ("sregs-cr4-reserved", cpu(cr4=1 << 15)),
        ("sregs-cr3-width", cpu(CODE64, cr0=PG | PE, cr3=1 << 52, cr4=PAE, efer=LME | LMA)),
    ],
)
def test_a_state_that_kvm_refuses_breaks_one_rule(rule: str, state: Cpu) -> None:
    """And no other."""
    assert [violation.rule for violation in check_sregs(state)] == [rule]


@pytest.mark.parametrize(
    "state",
    [
        cpu(CODE64, cr0=PG | PE, cr3=0x1000, cr4=PAE, efer=LME | LMA),
        cpu(CODE32, cr0=PG | PE, cr3=0x1000, cr4=PAE, efer=LME | LMA),
        cpu(cr0=PE, cr4=PAE, efer=LME),
        cpu(cr0=0x60000010, cr4=0, efer=0),
        cpu(CODE64),
        Cpu(),
    ],
)
def test_a_state_that_kvm_takes_or_does_not_show_breaks_none(state: Cpu) -> None:
    """What is not shown is not judged."""
    assert check_sregs(state) == ()


def test_bits_that_need_a_feature_are_named() -> None:
    """A CR4 of another host has bits that this guest's CPUID lacks."""
    assert ("cr4", "PKE", "pku") in bits_by_feature(cpu(cr4=1 << 22))
    assert ("efer", "SVME", "svm") in bits_by_feature(cpu(efer=1 << 12))
