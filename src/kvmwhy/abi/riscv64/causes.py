"""SCAUSE, SBI extensions and CSRs by name.

The RISC-V privileged architecture (scause, the H extension), the SBI specification, and csr.h and sbi.h of
arch/riscv/include/asm.
"""

from __future__ import annotations

from typing import Final

GUEST_FETCH, GUEST_LOAD, VIRTUAL_INSTRUCTION, GUEST_STORE = 20, 21, 22, 23
EXCEPTIONS: Final = {
    0: "instruction address misaligned", 1: "instruction access fault", 2: "illegal instruction", 3: "breakpoint",
    4: "load address misaligned", 5: "load access fault", 6: "store address misaligned", 7: "store access fault",
    8: "call from user mode", 9: "call from supervisor mode", 10: "call from the guest's kernel",
    11: "call from machine mode", 12: "instruction page fault", 13: "load page fault", 15: "store page fault",
    16: "double trap", 18: "software check", 19: "hardware error", GUEST_FETCH: "instruction guest-page fault",
    GUEST_LOAD: "load guest-page fault", VIRTUAL_INSTRUCTION: "virtual instruction",
    GUEST_STORE: "store guest-page fault",
}  # fmt: skip
INTERRUPTS: Final = {
    1: "supervisor software interrupt", 2: "guest's software interrupt", 5: "supervisor timer interrupt",
    6: "guest's timer interrupt", 9: "supervisor external interrupt", 10: "guest's external interrupt",
    12: "supervisor guest external interrupt", 13: "counter overflow interrupt",
}  # fmt: skip
_INTERRUPT: Final = 1 << 63
_BASES: Final = {
    0x00: "set timer (legacy)", 0x01: "console putchar (legacy)", 0x02: "console getchar (legacy)",
    0x03: "clear IPI (legacy)", 0x04: "send IPI (legacy)", 0x05: "remote FENCE.I (legacy)",
    0x06: "remote SFENCE.VMA (legacy)", 0x07: "remote SFENCE.VMA with ASID (legacy)", 0x08: "shutdown (legacy)",
    0x10: "base", 0x54494D45: "TIME", 0x735049: "IPI", 0x52464E43: "RFENCE", 0x48534D: "HSM (harts)",
    0x53525354: "SRST (system reset)", 0x504D55: "PMU", 0x4442434E: "DBCN (debug console)",
    0x53555350: "SUSP (suspend)",
    0x43505043: "CPPC", 0x4E41434C: "NACL (nested acceleration)", 0x535441: "STA (steal time)", 0x535345: "SSE",
    0x46574654: "FWFT (firmware features)", 0x44425452: "DBTR", 0x4D505859: "MPXY",
}  # fmt: skip
_RANGES: Final = (
    (0x08000000, 0x08FFFFFF, "an experimental extension"),
    (0x09000000, 0x09FFFFFF, "a vendor's extension"),
    (0x0A000000, 0x0AFFFFFF, "a firmware's own extension"),
)
_CSRS: Final = {
    0x001: "fflags", 0x002: "frm", 0x003: "fcsr", 0x008: "vstart", 0x00F: "vcsr", 0x015: "seed",
    0x100: "sstatus", 0x104: "sie", 0x105: "stvec", 0x106: "scounteren", 0x10A: "senvcfg", 0x140: "sscratch",
    0x141: "sepc", 0x142: "scause", 0x143: "stval", 0x144: "sip", 0x14D: "stimecmp", 0x150: "siselect", 0x151: "sireg",
    0x15C: "stopei", 0x180: "satp", 0x200: "vsstatus", 0x204: "vsie", 0x205: "vstvec", 0x240: "vsscratch",
    0x241: "vsepc", 0x242: "vscause", 0x243: "vstval", 0x244: "vsip", 0x280: "vsatp", 0x300: "mstatus", 0x301: "misa",
    0x302: "medeleg", 0x303: "mideleg", 0x304: "mie", 0x305: "mtvec", 0x340: "mscratch", 0x341: "mepc", 0x342: "mcause",
    0x343: "mtval", 0x344: "mip", 0x600: "hstatus", 0x602: "hedeleg", 0x603: "hideleg", 0x604: "hie",
    0x606: "hcounteren", 0x607: "hgeie", 0x60A: "henvcfg", 0x643: "htval", 0x644: "hip", 0x645: "hvip",
    0x64A: "htinst",
    0x680: "hgatp", 0xC00: "cycle", 0xC01: "time", 0xC02: "instret", 0xDB0: "stopi", 0xE12: "hgeip", 0xF11: "mvendorid",
    0xF12: "marchid", 0xF13: "mimpid", 0xF14: "mhartid",
}  # fmt: skip
# SBI SRST's reasons, which KVM leaves in data[0] of KVM_EXIT_SYSTEM_EVENT (vcpu_sbi.c:
# kvm_riscv_vcpu_sbi_system_reset).
RESET_REASONS: Final = {0: "for no special reason", 1: "because its system failed"}


def cause(scause: int) -> str:
    """An exception or an interrupt in words."""
    if scause & _INTERRUPT:
        number = scause & ~_INTERRUPT
        return INTERRUPTS.get(number, f"interrupt {number}")
    return EXCEPTIONS.get(scause, f"exception {scause:#x}")


def guest_address(stval: int, htval: int) -> int:
    """Where a guest-page fault was: HTVAL lacks the two lowest bits (vcpu_exit.c: gstage_page_fault)."""
    return htval << 2 | stval & 3


def sbi_extension(number: int) -> str:
    """An SBI extension by its id."""
    if (known := _BASES.get(number)) is not None:
        return known
    return next((name for low, high, name in _RANGES if low <= number <= high), f"extension {number:#x}")


def csr(number: int) -> str:
    """A CSR by its number."""
    return _CSRS.get(number, f"CSR {number:#x}")
