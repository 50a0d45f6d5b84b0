"""Registers that KVM writes into the page, where a VMM asked for them."""

from __future__ import annotations

import os
import struct

import pytest

from kvmwhy.abi.kvm_run import RUN_SIZE
from kvmwhy.machine import Guest, KvmMachine
from kvmwhy.readers import run_page
from needs import missing

VALID = 288


def test_without_being_asked_there_are_none() -> None:
    """A page whose kvm_valid_regs is 0 shows no registers, whatever lies behind it; nor does one with unknown bits."""
    for valid in (0, 1 << 40 | 1):
        page = bytearray(RUN_SIZE)
        page[8] = 8
        struct.pack_into("<Q", page, VALID, valid)
        page[VALID + 16 :] = bytes([0xAA]) * (RUN_SIZE - VALID - 16)
        (failure,) = run_page.read(bytes(page)).failures
        assert failure.cpu is None


@pytest.mark.live
def test_they_are_those_of_the_vcpu() -> None:
    """On real KVM: what the page has is what KVM_GET_REGS and KVM_GET_SREGS give."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        missing("live", "no /dev/kvm that may be used")
    with KvmMachine() as machine:
        vcpu = Guest("long64", bytes.fromhex("48c7c3 44332211 0f0b"), idt=(0, 0)).load(machine)
        page = vcpu._page  # type: ignore[attr-defined]  # of the vCPU on /dev/kvm
        struct.pack_into("<Q", page, VALID, 3)
        vcpu.run(5.0)
        (failure,) = run_page.read(vcpu.page()).failures
        regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    cpu = failure.cpu
    assert cpu is not None
    assert cpu.registers["rip"] == regs.rip
    assert cpu.registers["rbx"] == regs.rbx
    assert all(cpu.registers[name] == getattr(sregs, name) for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer"))
    assert (cpu.segments["idt"].base, cpu.segments["idt"].limit) == (sregs.idt.base, sregs.idt.limit)
    for name in ("cs", "ss", "tr"):
        seen, asked = cpu.segments[name], getattr(sregs, name)
        assert (seen.selector, seen.base, seen.limit) == (asked.selector, asked.base, asked.limit)
        assert (seen.type, seen.dpl, seen.long, seen.present) == (asked.type, asked.dpl, asked.l, asked.present)
