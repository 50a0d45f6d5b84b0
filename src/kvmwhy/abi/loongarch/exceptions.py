"""Exception codes and control registers by name (arch/loongarch/include/asm/loongarch.h)."""

from __future__ import annotations

from typing import Final

CODES: Final = {
    1: "TLB miss on a load", 2: "TLB miss on a store", 3: "TLB miss on a fetch", 4: "write to a clean page",
    5: "page may not be read", 6: "page may not be executed", 7: "page of another privilege", 8: "address error",
    9: "unaligned access", 10: "bounds check", 11: "system call", 12: "breakpoint", 13: "instruction does not exist",
    14: "privileged instruction", 15: "FPU disabled", 16: "LSX disabled", 17: "LASX disabled",
    18: "floating point exception", 19: "watchpoint", 20: "binary translation disabled",
    21: "binary translation exception", 22: "guest's privileged instruction", 23: "hypercall",
    24: "guest's control register modified", 25: "security",
}  # fmt: skip
_FIRST_INTERRUPT: Final = 64
_CSRS: Final = {
    0x0: "CRMD", 0x1: "PRMD", 0x2: "EUEN", 0x3: "MISC", 0x4: "ECFG", 0x5: "ESTAT", 0x6: "ERA", 0x7: "BADV", 0x8: "BADI",
    0xC: "EENTRY", 0x10: "TLBIDX", 0x11: "TLBEHI", 0x15: "GTLBC", 0x16: "TRGP", 0x18: "ASID", 0x19: "PGDL",
    0x1A: "PGDH", 0x1B: "PGD", 0x1C: "PWCTL0", 0x1D: "PWCTL1", 0x1E: "STLBPGSIZE", 0x1F: "RVACFG", 0x20: "CPUID",
    0x21: "PRCFG1",
    0x22: "PRCFG2", 0x23: "PRCFG3", 0x40: "TMID", 0x41: "TCFG", 0x42: "TVAL", 0x43: "CNTC", 0x44: "TINTCLR",
    0x50: "GSTAT", 0x51: "GCFG", 0x52: "GINTC", 0x53: "GCNTC", 0x60: "LLBCTL", 0x80: "IMPCTL1", 0x81: "IMPCTL2",
    0x82: "GNMI", 0x88: "TLBRENTRY", 0x89: "TLBRBADV", 0x8A: "TLBRERA", 0x90: "MERRCTL", 0x93: "MERRENTRY",
    0x98: "CTAG", 0xA4: "IRR", 0x180: "DMWIN0", 0x181: "DMWIN1", 0x200: "PERFCTRL0", 0x201: "PERFCNTR0",
    0x300: "MWPC", 0x301: "MWPS", 0x380: "FWPC", 0x381: "FWPS", 0x500: "DEBUG", 0x501: "DERA", 0x502: "DESAVE",
}  # fmt: skip


def exception(code: int) -> str:
    """An ECode in words."""
    if code >= _FIRST_INTERRUPT:
        return f"interrupt {code - _FIRST_INTERRUPT}"
    return CODES.get(code, f"exception code {code}")


def ecode_of(estat: int) -> int:
    """The field of ESTAT that names the last exception."""
    return estat >> 16 & 0x3F


def csr(number: int) -> str:
    """A control register by its number."""
    return _CSRS.get(number, f"CSR {number:#x}")
