"""The CPU mode follows the SDM's rules (vol. 3A, 2.2 and 9.8) and survives leftovers of other modes."""

from __future__ import annotations

import pytest

from kvmwhy.arch.x86.mode import cpu_cpl, cpu_mode, linear_rip
from kvmwhy.record import Cpu, Segment

CODE64 = 0x00A0_9B00
CODE32 = 0x00C0_9B00
CODE16 = 0x0000_9B00
PAGED = 0x8005_0033
LMA = 0xD01


def machine(
    attributes: int | None = None, selector: int = 8, base: int = 0, ss: int | None = None, **registers: int
) -> Cpu:
    segments = {}
    if attributes is not None:
        segments["cs"] = Segment(selector, base, 0xFFFF_FFFF, attributes)
    if ss is not None:
        segments["ss"] = Segment(0x10, 0, 0xFFFF_FFFF, ss)
    return Cpu(registers=registers, segments=segments)


@pytest.mark.parametrize(
    ("cpu", "name", "bitness"),
    [
        (machine(CODE16, 0xF000, 0xFFFF_0000, cr0=0x6000_0010, efer=0), "real16", 16),
        (machine(CODE16, cr0=0x11, efer=0), "prot16", 16),
        (machine(CODE32, cr0=0x11, efer=0), "prot32", 32),
        (machine(CODE32, cr0=PAGED, efer=0, rflags=0x2_0002), "vm86", 16),
        (machine(CODE64, cr0=PAGED, efer=LMA), "long64", 64),
        (machine(CODE64, cr0=PAGED, efer=0x100), "long64", 64),
        (machine(CODE32, cr0=PAGED, efer=LMA), "compat32", 32),
        (machine(CODE16, cr0=PAGED, efer=LMA), "compat16", 16),
        (machine(CODE64, cr0=0x11, efer=0), "prot16", 16),
    ],
)
def test_every_mode_has_its_bits(cpu: Cpu, name: str, bitness: int) -> None:
    """Each of the seven modes is found from CR0, EFER, RFLAGS.VM and CS, and is certain."""
    mode = cpu_mode(cpu)
    assert mode is not None
    assert (mode.name, mode.bitness, mode.certain) == (name, bitness, True)


def test_stale_long_bit_is_real_mode() -> None:
    """A dump with CS attributes 00a09b00 and CR0=60000010 was 16-bit code: L counts in long mode only."""
    mode = cpu_mode(machine(0x00A0_9B00, 0xF000, 0xFFFF_0000, cr0=0x6000_0010, efer=0))
    assert mode is not None
    assert (mode.name, mode.bitness, mode.certain) == ("real16", 16, True)
    assert "L bit" in mode.why


def test_real_mode_with_a_32_bit_code_segment_decodes_as_32_bit() -> None:
    """KVM takes the default size from the cached CS.D even with CR0.PE clear."""
    mode = cpu_mode(machine(0x00C0_9B00, cr0=0x10, efer=0))
    assert mode is not None
    assert (mode.name, mode.bitness) == ("real16", 32)


def test_all_zero_state_is_not_certain() -> None:
    """CR0 = 0 with an empty CS is what a hidden vCPU shows; nothing certain follows from it."""
    mode = cpu_mode(machine(0, 0, 0, cr0=0, efer=0, rip=0))
    assert mode is not None
    assert not mode.certain


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        (machine(rip=0xFFFF_FFFF_8100_0000), "long64"),
        (machine(r8=0, rip=0x1000), "long64"),
        (machine(CODE64, cr0=PAGED, rip=0x1000), "long64"),
        (machine(efer=LMA, rip=0x1000), "long64"),
        (machine(CODE16, 0x9F00, 0x9_F000), "real16"),
        (machine(cr0=0x10), "real16"),
    ],
)
def test_what_is_missing_is_inferred(cpu: Cpu, name: str) -> None:
    """A 64-bit RIP, a printed r8, CS.L or a real-mode CS base stand in for registers not shown."""
    mode = cpu_mode(cpu)
    assert mode is not None
    assert mode.name == name
    assert mode.why


def test_no_evidence_no_mode() -> None:
    """Without CR0, EFER, CS and a telling RIP there is no answer."""
    assert cpu_mode(machine(rip=0x1000, rax=0)) is None


def test_cpl() -> None:
    """The printed CPL counts first; real mode is 0, VM86 is 3, otherwise SS.DPL, then CS.RPL."""
    assert cpu_cpl(Cpu(cpl=3)) == 3
    assert cpu_cpl(machine(CODE16, 0x1003, 0x1_0030, cr0=0x10)) == 0
    assert cpu_cpl(machine(CODE16, cr0=PAGED, efer=0, rflags=0x2_0000)) == 3
    assert cpu_cpl(machine(CODE64, 0x33, cr0=PAGED, efer=LMA, ss=0x00C0_F300)) == 3
    assert cpu_cpl(machine(CODE64, 0x33, cr0=PAGED, efer=LMA)) == 3
    assert cpu_cpl(Cpu()) is None


def test_linear_rip() -> None:
    """CS.base + RIP, wrapped at 32 bits outside 64-bit mode; RIP itself in it."""
    for cpu, expected in (
        (machine(CODE16, 0xF000, 0xFFFF_0000, cr0=0x10, rip=0xFFF0), 0xFFFF_FFF0),
        (machine(CODE32, 8, 0xFFFF_F000, cr0=0x11, efer=0, rip=0x2000), 0x1000),
        (machine(CODE64, 8, 0x1234, cr0=PAGED, efer=LMA, rip=0xFFFF_8000_0000_0000), 0xFFFF_8000_0000_0000),
    ):
        mode = cpu_mode(cpu)
        assert mode is not None
        assert linear_rip(cpu, mode) == expected
