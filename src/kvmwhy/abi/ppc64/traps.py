"""POWER's interrupts by their vectors, what SRR1 says of a program interrupt, and hypercalls.

arch/powerpc/include/asm: kvm_asm.h (BOOK3S_INTERRUPT_*), reg.h (SRR1_*), hvcall.h.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.error_numbers import NAMES

TRAPS: Final = {
    0x100: "system reset", 0x200: "machine check", 0x300: "data storage", 0x380: "data segment",
    0x400: "instruction storage", 0x480: "instruction segment", 0x500: "external", 0x501: "external (level)",
    0x502: "external (hypervisor)", 0x600: "alignment", 0x700: "program", 0x800: "floating point unavailable",
    0x900: "decrementer", 0x980: "hypervisor decrementer", 0xA00: "doorbell", 0xC00: "system call", 0xD00: "trace",
    0xE00: "hypervisor data storage", 0xE20: "hypervisor instruction storage", 0xE40: "hypervisor emulation assist",
    0xE60: "hypervisor maintenance", 0xE80: "hypervisor doorbell", 0xEA0: "hypervisor virtualization",
    0xF00: "performance monitor", 0xF20: "vector unavailable", 0xF40: "VSX unavailable", 0xF60: "facility unavailable",
    0xF80: "hypervisor facility unavailable", 0x1500: "soft patch (transactional memory)",
}  # fmt: skip
_PROGRAM: Final = {
    0x100000: "floating point enabled", 0x80000: "illegal instruction", 0x40000: "privileged instruction",
    0x20000: "trap instruction", 0x200000: "transactional memory in a bad state",
}  # fmt: skip
_NEGATIVE: Final = 1 << 63
_H_P2: Final = 55  # the second parameter of the hypercall is refused
_H_CALLS: Final = {
    0x04: "H_REMOVE", 0x08: "H_ENTER", 0x0C: "H_READ", 0x18: "H_PROTECT", 0x1C: "H_GET_TCE", 0x20: "H_PUT_TCE",
    0x24: "H_SET_SPRG0", 0x28: "H_SET_DABR", 0x2C: "H_PAGE_INIT", 0x3C: "H_LOGICAL_CI_LOAD",
    0x40: "H_LOGICAL_CI_STORE", 0x54: "H_GET_TERM_CHAR", 0x58: "H_PUT_TERM_CHAR", 0x64: "H_EOI", 0x68: "H_CPPR",
    0x6C: "H_IPI", 0x74: "H_XIRR", 0xDC: "H_REGISTER_VPA", 0xE0: "H_CEDE", 0xE4: "H_CONFER", 0xE8: "H_PROD",
    0x138: "H_PUT_TCE_INDIRECT", 0x300: "H_RANDOM", 0x31C: "H_SET_MODE", 0x37C: "H_REGISTER_PROC_TBL",
    0x460: "H_GUEST_GET_CAPABILITIES", 0x464: "H_GUEST_SET_CAPABILITIES", 0x470: "H_GUEST_CREATE",
    0x474: "H_GUEST_CREATE_VCPU", 0x478: "H_GUEST_GET_STATE", 0x47C: "H_GUEST_SET_STATE", 0x480: "H_GUEST_RUN_VCPU",
    0xF000: "KVM's H_RTAS", 0xF002: "KVM's H_CAS", 0xF800: "H_SET_PARTITION_TABLE", 0xF804: "H_ENTER_NESTED",
    0xF808: "H_TLB_INVALIDATE", 0xF80C: "H_COPY_TOFROM_GUEST",
}  # fmt: skip


def trap(number: int) -> str | None:
    """The interrupt of a vector."""
    return f"{TRAPS[number]} interrupt" if number in TRAPS else None


def hardware_reason(number: int) -> str | None:
    """The number of KVM_EXIT_UNKNOWN: a trap, or an error of the hypervisor below."""
    if number & _NEGATIVE:
        error = (1 << 64) - number
        return f"-{error} ({'H_P2' if error == _H_P2 else '-' + NAMES.get(error, str(error))})"
    return trap(number)


def program_reason(srr1: int) -> str | None:
    """Why a program interrupt came."""
    return next((why for bit, why in _PROGRAM.items() if srr1 & bit), None)


def hypercall(number: int) -> str:
    """A hypercall of PAPR or KVM by its number."""
    return _H_CALLS.get(number, f"hypercall {number:#x}")
