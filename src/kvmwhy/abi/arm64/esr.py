"""ESR_EL2, the exception syndrome of an exit: its class, and of an abort what it says of the access.

Arm ARM DDI 0487, ESR_EL2; names as in arch/arm64/include/asm/esr.h.
"""

from __future__ import annotations

from typing import Final

CLASSES: Final = {
    0x00: "unknown reason",
    0x01: "WFI or WFE",
    0x07: "SIMD or floating point",
    0x0E: "illegal execution state",
    0x15: "SVC",
    0x16: "HVC",
    0x17: "SMC",
    0x18: "system register access",
    0x19: "SVE",
    0x20: "instruction abort in the guest",
    0x21: "instruction abort at EL2",
    0x22: "PC alignment fault",
    0x24: "data abort in the guest",
    0x25: "data abort at EL2",
    0x26: "SP alignment fault",
    0x2F: "SError",
    0x3C: "BRK",
}
_INSTRUCTION_ABORTS: Final = {0x20, 0x21}
_DATA_ABORTS: Final = {0x24, 0x25}
_LEVELLED: Final = {0: "address size fault", 1: "translation fault", 2: "access flag fault", 3: "permission fault"}
_STATUS: Final = {
    0x10: "synchronous external abort",
    0x18: "parity or ECC error",
    0x21: "alignment fault",
    0x30: "TLB conflict",
    0x31: "unsupported atomic hardware update",
    0x34: "lockdown fault",
    0x35: "unsupported exclusive or atomic access",
}
IL: Final = 1 << 25  # a 32-bit instruction
_ISV: Final = 1 << 24
_CM: Final = 1 << 8
_S1PTW: Final = 1 << 7
_WNR: Final = 1 << 6


def exception_class(esr: int) -> int:
    """EC, bits 31 to 26."""
    return esr >> 26 & 0x3F


def fault_status(code: int) -> str:
    """DFSC or IFSC in words."""
    if (kind := _LEVELLED.get(code >> 2)) is not None:
        return f"{kind}, level {code & 3}"
    if 0x14 <= code <= 0x17:
        return f"external abort on a page table walk, level {code & 3}"
    return _STATUS.get(code, f"fault status {code:#x}")


def describe(esr: int) -> str:
    """One line: the class, and of an abort the fault, its direction and whether a syndrome is valid."""
    number = exception_class(esr)
    name = CLASSES.get(number, f"exception class {number:#x}")
    if number in _INSTRUCTION_ABORTS:
        return f"{name}: {fault_status(esr & 0x3F)}"
    if number not in _DATA_ABORTS:
        return name
    parts = [fault_status(esr & 0x3F), "write" if esr & _WNR else "read"]
    if esr & _CM:
        parts.append("cache maintenance")
    if esr & _S1PTW:
        parts.append("on a walk of the guest's page tables")
    parts.append("with a syndrome" if esr & _ISV else "without a syndrome: KVM cannot tell which register and size")
    return f"{name}: {', '.join(parts)}"


def is_undescribed_access(esr: int) -> bool:
    """A data abort for which nothing is mapped, whose syndrome is not valid: KVM cannot emulate the access."""
    return exception_class(esr) in _DATA_ABORTS and not esr & _ISV and esr >> 2 & 0xF == _TRANSLATION


def sentences(esr: int) -> tuple[str, ...]:
    """The fields of the syndrome one by one, for an abort that describes its access, or a system register."""
    number = exception_class(esr)
    if number in _DATA_ABORTS and esr & 0x3F == _ALIGNMENT:
        return (_UNALIGNED,)
    if number in _DATA_ABORTS and esr & _ISV:
        width = 8 << (esr >> 22 & 3)
        sign = ", sign-extended" if esr & _SSE else ""
        name = "X" if esr & _SF else "W"
        order = ", with acquire or release" if esr & _AR else ""
        return (f"{width} bits{sign}, register {name}{esr >> 16 & 0x1F}{order}",)
    if number == _SYSTEM_REGISTER:
        op0, op2, op1, crn, register, crm = (esr >> at & mask for at, mask in _SYSTEM_FIELDS)
        direction = "read" if esr & 1 else "write"
        return (f"{direction} of S{op0}_{op1}_C{crn}_C{crm}_{op2}, register X{register}",)
    return ()


_UNALIGNED: Final = (
    "the address is not a multiple of the access's size, in device memory or by an exclusive or atomic access;"
    " while the MMU is off all memory counts as device memory (compile early code with -mstrict-align)"
)
_TRANSLATION: Final = 0b0001
_ALIGNMENT: Final = 0x21
_SSE: Final = 1 << 21
_SF: Final = 1 << 15
_AR: Final = 1 << 14
_SYSTEM_REGISTER: Final = 0x18
# Op0, Op2, Op1, CRn, Rt, CRm: where each begins, and its mask (Arm ARM: ISS of a trapped MSR or MRS).
_SYSTEM_FIELDS: Final = ((20, 3), (17, 7), (14, 7), (10, 15), (5, 31), (1, 15))
