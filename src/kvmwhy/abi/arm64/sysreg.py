"""Arm's system registers by name: by the five numbers of an MRS or MSR, of a trapped one, or of KVM's ONE_REG."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from kvmwhy.abi.arm64.sysreg_names import TABLE

_SYSTEM: Final = 0b1101010100  # the top bits of MSR, MRS and SYS
_IMPLEMENTATION_DEFINED: Final = frozenset({11, 15})  # CRn, with Op0 = 3 (Arm ARM, "Reserved encodings")


class SysReg(NamedTuple):
    """An encoding, in the order of the kernel's ``sys_reg()``."""

    op0: int
    op1: int
    crn: int
    crm: int
    op2: int

    @property
    def generic(self) -> str:
        """As assemblers take it where they know no name."""
        return f"S{self.op0}_{self.op1}_C{self.crn}_C{self.crm}_{self.op2}"

    @property
    def name(self) -> str | None:
        return _names().get(self) or _numbered(self)

    @property
    def implementation_defined(self) -> bool:
        """A CPU's own register: KVM refuses it without a line in the log (sys_regs.c: emulate_sys_reg)."""
        return self.op0 == 3 and self.crn in _IMPLEMENTATION_DEFINED

    def __str__(self) -> str:
        if (name := self.name) is not None:
            return f"{name} ({self.generic})"
        return f"{self.generic} (implementation defined)" if self.implementation_defined else self.generic


def of_syndrome(esr: int) -> SysReg:
    """Of a trapped MSR, MRS or system instruction: the fields of ESR's ISS for class 0x18."""
    return SysReg(esr >> 20 & 3, esr >> 14 & 7, esr >> 10 & 15, esr >> 1 & 15, esr >> 17 & 7)


def of_one_reg(number: int) -> SysReg:
    """Of the low 16 bits of a ONE_REG id of the kind KVM_REG_ARM64_SYSREG (uapi asm/kvm.h)."""
    return SysReg(number >> 14 & 3, number >> 11 & 7, number >> 7 & 15, number >> 3 & 15, number & 7)


def of_instruction(word: int) -> SysReg | None:
    """Of an MRS or MSR of A64; ``None``: another instruction."""
    if word >> 22 != _SYSTEM or not word >> 20 & 1:  # Op0 is 2 or 3: with 0 and 1 it is no register
        return None
    return SysReg(word >> 19 & 3, word >> 16 & 7, word >> 12 & 15, word >> 8 & 15, word >> 5 & 7)


@cache
def _names() -> dict[SysReg, str]:
    names: dict[SysReg, str] = {}
    for line in TABLE.split("\n"):
        head, _, entries = line.partition(":")
        if entries:
            op0, op1, crn = map(int, head.split())
            for entry in entries.split():
                numbers, _, name = entry.partition("=")
                crm, op2 = map(int, numbers.split("."))
                names[SysReg(op0, op1, crn, crm, op2)] = name
    return names


def _numbered(reg: SysReg) -> str | None:
    """Registers of which there are several: breakpoints, event counters, list registers."""
    op0, op1, crn, crm, op2 = reg
    match op0, op1, crn:
        case 2, 0, 0 if 4 <= op2 <= 7:
            return f"DBG{('BVR', 'BCR', 'WVR', 'WCR')[op2 - 4]}{crm}_EL1"
        case 3, 3, 14 if crm >= 8:
            return f"{'PMEVCNTR' if crm < 12 else 'PMEVTYPER'}{(crm & 3) << 3 | op2}_EL0"
        case 3, 3, 13 if crm in {4, 5, 12, 13}:
            return f"AMEVCNTR{int(crm >= 12)}{(crm & 1) << 3 | op2}_EL0"
        case 3, 3, 13 if crm in {6, 7, 14, 15}:
            return f"AMEVTYPER{int(crm >= 14)}{(crm & 1) << 3 | op2}_EL0"
        case 3, 0, 12 if crm == 8 and op2 >= 4:
            return f"ICC_AP0R{op2 - 4}_EL1"
        case 3, 0, 12 if crm == 9 and op2 < 4:
            return f"ICC_AP1R{op2}_EL1"
        case 3, 4, 12 if crm in {8, 9} and op2 < 4:
            return f"ICH_AP{crm - 8}R{op2}_EL2"
        case 3, 4, 12 if crm in {12, 13}:
            return f"ICH_LR{(crm & 1) << 3 | op2}_EL2"
    return None
