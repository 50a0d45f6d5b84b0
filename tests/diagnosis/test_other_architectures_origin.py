"""Whose doing it is on arm64, riscv64 and ppc64, from texts after the programs' and the kernel's own format strings."""

from __future__ import annotations

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read


def first(text: str) -> str:
    (failure,) = read(text.encode()).failures
    return diagnose(failure).origins[0].id


def test_memory_that_the_vmm_unmapped_under_a_slot() -> None:
    """arch/arm64/kvm/mmu.c, user_mem_abort: the slot is there, and the VMM's address space has nothing behind it."""
    log = "kernel: [   11.543583] kvm [85]: Failed to find VMA for hva 0xffff93422000\n"
    assert first(log + "qemu-system-aarch64: error: kvm run failed Bad address\n") == "vmm"


def test_an_exception_for_an_access_without_ram_is_the_guests() -> None:
    """KVM put it there, but who went where no RAM is was the guest: ESR_EL1 of a synchronous external abort."""
    result = (
        '{"errno":0,"exit_reason":6,"words":["0xe000000","0xffffffff96000010","0x100000008","0"],"pc":"0x40002208",'
        '"pstate":"0x3c5","what":" guest-exception(data=ESR_EL1)"}\n'
    )
    assert first(result) == "guest-code"
