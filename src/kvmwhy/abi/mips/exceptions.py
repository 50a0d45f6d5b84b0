"""Exception codes of the Cause register (arch/mips/include/asm/mipsregs.h: EXCCODE_*)."""

from __future__ import annotations

from typing import Final

CODES: Final = {
    0: "interrupt", 1: "TLB modified", 2: "TLB miss on a load or fetch", 3: "TLB miss on a store",
    4: "address error on a load or fetch", 5: "address error on a store", 6: "bus error on a fetch",
    7: "bus error on a data access", 8: "system call", 9: "breakpoint", 10: "reserved instruction",
    11: "coprocessor unusable", 12: "overflow", 13: "trap", 14: "MSA floating point", 15: "floating point",
    16: "Loongson's own", 18: "coprocessor 2", 19: "read inhibited", 20: "execution inhibited", 21: "MSA disabled",
    22: "MDMX",
    23: "watchpoint", 24: "machine check", 25: "thread", 26: "DSP disabled", 27: "guest exit", 30: "cache error",
}  # fmt: skip


def exception(code: int) -> str:
    """An ExcCode in words."""
    return CODES.get(code, f"exception code {code}")


def code_of(cause: int) -> int:
    """The field of Cause that names the last exception."""
    return cause >> 2 & 0x1F
