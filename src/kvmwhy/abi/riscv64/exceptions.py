"""SCAUSE of an exception, in the kernel's and the specification's words: The RISC-V Instruction Set Manual, vol. II."""

from __future__ import annotations

from typing import Final

_INTERRUPT: Final = 1 << 63
CAUSES: Final = {
    0: "instruction address misaligned",
    1: "instruction access fault",
    2: "illegal instruction",
    3: "breakpoint",
    4: "load address misaligned",
    5: "load access fault",
    6: "store or AMO address misaligned",
    7: "store or AMO access fault",
    8: "environment call from U-mode",
    9: "environment call from S-mode",
    10: "environment call from VS-mode",
    12: "instruction page fault",
    13: "load page fault",
    15: "store or AMO page fault",
    16: "double trap",
    18: "software check",
    20: "instruction guest-page fault",
    21: "load guest-page fault",
    22: "virtual instruction",
    23: "store or AMO guest-page fault",
}


def cause(scause: int) -> str:
    """In words."""
    if scause & _INTERRUPT:
        return f"interrupt {scause & ~_INTERRUPT}"
    return CAUSES.get(scause, f"cause {scause:#x}")
