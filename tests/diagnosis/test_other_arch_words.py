"""The state of a vCPU that is not x86's, and its numbers, in words."""

from __future__ import annotations

import pytest

from kvmwhy.record import Arch, Cpu, Exit, Failure
from kvmwhy.render.describe.other_arch import exit_words, hardware_reason, state


@pytest.mark.parametrize(
    ("arch", "registers", "words"),
    [
        ("arm64", {"pc": 0x40205AFC, "pstate": 0x600003C5}, "PC 0x40205afc; EL1h (PSTATE 0x600003c5)"),
        ("arm64", {"pc": 0x8000, "pstate": 0x1D3}, "PC 0x8000; AArch32 (PSTATE 0x1d3)"),
        ("s390x", {"psw_mask": 0x180000000, "psw_addr": 0x7FD00600}, "nothing ran yet"),
        ("ppc64", {"nip": 0x100, "msr": 0x1000} | {f"r{n}": 0 for n in range(32)}, "the reset vector: nothing ran yet"),
        ("ppc64", {"nip": 0x100, "r5": 1}, "NIP 0x100"),
        ("riscv64", {"pc": 0x80000018, "stval": 0xD000000}, "PC 0x80000018; STVAL 0xd000000"),
    ],
)
def test_where_the_vcpu_was(arch: Arch, registers: dict[str, int], words: str) -> None:
    """The program counter by the architecture's own name, and what is known of such a state."""
    assert (state(Failure(kind="other", arch=arch, cpu=Cpu(registers=registers))) or "").endswith(words)


def test_x86_is_not_meant() -> None:
    """x86's state has its own words."""
    assert state(Failure(kind="other", arch="x86", cpu=Cpu(registers={"rip": 1}))) is None
    assert exit_words(Failure(kind="other", arch="x86", exit=Exit(reason=48, isa="vmx"))) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ((1 << 64) - 22, "-22 (-EINVAL)"),
        ((1 << 64) - 55, "-55 (H_P2)"),
        (0xE40, "hypervisor emulation assist interrupt"),
    ],
)
def test_powers_numbers(number: int, words: str) -> None:
    """arch/powerpc/kvm: a trap, or an error of the call to the hypervisor below."""
    assert hardware_reason(Failure(kind="unknown-exit", arch="ppc64", hardware_reason=number)) == words


def test_the_exit_of_a_riscv_guest() -> None:
    """SCAUSE and the guest's physical address."""
    left = Exit(reason=23, info1=0xF000000, info2=0xF000000)
    assert exit_words(Failure(kind="run-error", arch="riscv64", exit=left)) == (
        "store guest-page fault, guest address 0xf000000"
    )
