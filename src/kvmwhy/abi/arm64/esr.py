"""ESR, the exception syndrome: of an exit (ESR_EL2), or of an exception that the guest took itself (ESR_EL1).

Arm ARM DDI 0487, "ESR_EL2" and the ISS encodings there; names as in arch/arm64/include/asm/esr.h.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.arm64.sysreg import of_syndrome

CLASSES: Final = {
    0x00: "unknown reason",
    0x01: "WFI or WFE",
    0x03: "AArch32 coprocessor 15 access",
    0x04: "AArch32 coprocessor 15 access of 64 bits",
    0x05: "AArch32 coprocessor 14 access",
    0x06: "AArch32 LDC or STC",
    0x07: "SIMD or floating point",
    0x08: "AArch32 VMRS",
    0x09: "pointer authentication",
    0x0A: "64-byte load or store, or another instruction of its own class",
    0x0C: "AArch32 coprocessor 14 access of 64 bits",
    0x0D: "branch target",
    0x0E: "illegal execution state",
    0x11: "SVC in AArch32",
    0x12: "HVC in AArch32",
    0x13: "SMC in AArch32",
    0x14: "128-bit system register access",
    0x15: "SVC",
    0x16: "HVC",
    0x17: "SMC",
    0x18: "system register access",
    0x19: "SVE",
    0x1A: "ERET",
    0x1B: "TSTART",
    0x1C: "pointer authentication failure",
    0x1D: "SME",
    0x1E: "granule protection check",
    0x1F: "implementation defined at EL3",
    0x20: "instruction abort in the guest",
    0x21: "instruction abort at EL2",
    0x22: "PC alignment fault",
    0x24: "data abort in the guest",
    0x25: "data abort at EL2",
    0x26: "SP alignment fault",
    0x27: "memory copy or set",
    0x28: "floating point exception in AArch32",
    0x2C: "floating point exception",
    0x2D: "guarded control stack",
    0x2F: "SError",
    0x30: "breakpoint in the guest",
    0x31: "breakpoint at EL2",
    0x32: "software step in the guest",
    0x33: "software step at EL2",
    0x34: "watchpoint in the guest",
    0x35: "watchpoint at EL2",
    0x38: "BKPT in AArch32",
    0x3A: "vector catch in AArch32",
    0x3C: "BRK",
    0x3D: "profiling exception",
}
_INSTRUCTION_ABORTS: Final = {0x20, 0x21}
_DATA_ABORTS: Final = {0x24, 0x25}
_LEVELLED: Final = {0: "address size fault", 1: "translation fault", 2: "access flag fault", 3: "permission fault"}
_STATUS: Final = {
    0x10: "synchronous external abort",
    0x11: "tag check fault",
    0x18: "parity or ECC error",
    0x21: "alignment fault",
    0x29: "address size fault, level -1",
    0x2B: "translation fault, level -1",
    0x30: "TLB conflict",
    0x31: "unsupported atomic hardware update",
    0x34: "lockdown fault",
    0x35: "unsupported exclusive or atomic access",
}
IL: Final = 1 << 25  # a 32-bit instruction
_ISV: Final = 1 << 24
_EA: Final = 1 << 9
_CM: Final = 1 << 8
_S1PTW: Final = 1 << 7
_WNR: Final = 1 << 6
_MASK: Final = (1 << 37) - 1  # ISS2 included; a kernel before 6.2 stores the sign-extended 32 bits
_WFX: Final = ("WFI", "WFE", "WFIT", "WFET")
_IDS: Final = 1 << 24  # of SError: the rest is implementation defined
_SERROR_TYPES: Final = {0: "uncontainable", 1: "unrecoverable", 2: "restartable", 3: "recoverable", 6: "corrected"}
_IMMEDIATE: Final = frozenset({0x11, 0x12, 0x15, 0x16, 0x17, 0x38, 0x3C})  # ISS is the instruction's immediate
_BRK_USES: Final = {  # arch/arm64/include/asm/brk-imm.h
    0x004: "a kprobe", 0x005: "a uprobe", 0x006: "a kprobe's single step", 0x007: "a kretprobe",
    0x100: "a fault on purpose", 0x400: "kgdb's breakpoint", 0x401: "kgdb's compiled breakpoint",
    0x800: "BUG() or WARN()", 0x900: "KASAN's report", 0x5512: "a sanitizer's trap",
}  # fmt: skip
_CFI: Final = 0x8000  # and 0x8000 to 0x83ff: kCFI's check of an indirect call
_SVE_TRAPS: Final = {0: "SVE", 1: "an instruction that is illegal in streaming mode", 2: "SME", 3: "ZT0"}
_RETURNS: Final = {0: "ERET", 2: "ERETAA", 3: "ERETAB"}


def exception_class(esr: int) -> int:
    """EC, bits 31 to 26."""
    return esr >> 26 & 0x3F


def plain(esr: int) -> int:
    """Without the sign extension that kernels before 6.2 put into ESR_EL1."""
    return esr & 0xFFFFFFFF if esr >> 37 else esr & _MASK


def fault_status(code: int) -> str:
    """DFSC or IFSC in words."""
    if (kind := _LEVELLED.get(code >> 2)) is not None:
        return f"{kind}, level {code & 3}"
    if 0x14 <= code <= 0x17:
        return f"external abort on a page table walk, level {code & 3}"
    if 0x1C <= code <= 0x1F:
        return f"parity or ECC error on a page table walk, level {code & 3}"
    if code == 0x13:
        return "external abort on a page table walk, level -1"
    if 0x24 <= code <= 0x27:
        return f"granule protection fault on a page table walk, level {code & 3}"
    return "granule protection fault" if code == 0x28 else _STATUS.get(code, f"fault status {code:#x}")


def describe(esr: int) -> str:
    """One line: the class, and of an abort the fault, its direction and whether a syndrome is valid."""
    number = exception_class(esr)
    name = CLASSES.get(number, f"exception class {number:#x}")
    if number in _INSTRUCTION_ABORTS:
        walk = ", on a walk of the guest's page tables" if esr & _S1PTW else ""
        return f"{name}: {fault_status(esr & 0x3F)}{walk}"
    if number in _DATA_ABORTS:
        return f"{name}: {', '.join(_of_abort(esr))}"
    detail = _of_class(number, esr)
    return f"{name}: {detail}" if detail else name


def _of_abort(esr: int) -> list[str]:
    parts = [fault_status(esr & 0x3F), "write" if esr & _WNR else "read"]
    if esr & _CM:
        parts.append("cache maintenance")
    if esr & _S1PTW:
        parts.append("on a walk of the guest's page tables")
    if esr & _EA:
        parts.append("external abort type 1")
    parts.append("with a syndrome" if esr & _ISV else "without a syndrome: KVM cannot tell which register and size")
    return parts


def taken(esr: int) -> str:
    """An exception that the guest took at its own level: ESR_EL1's classes, without what concerns KVM alone."""
    esr = plain(esr)
    number = exception_class(esr)
    name = {0x20: "instruction abort from EL0", 0x21: "instruction abort", 0x24: "data abort from EL0"}.get(number)
    if number in _INSTRUCTION_ABORTS:
        return f"{name}: {fault_status(esr & 0x3F)}"
    if number in _DATA_ABORTS:
        return f"{name or 'data abort'}: {fault_status(esr & 0x3F)}, {'write' if esr & _WNR else 'read'}"
    if number == 0:
        return "undefined instruction"
    return describe(esr).replace(" in the guest", " from EL0").replace(" at EL2", "")


def _of_class(number: int, esr: int) -> str | None:
    """What the other classes say in their ISS."""
    iss = esr & 0x1FFFFFF
    match number:
        case 0x01:
            return _WFX[iss & 3]
        case 0x03 | 0x05:
            direction = "read" if iss & 1 else "write"
            return f"{direction}, c{iss >> 10 & 15}, {iss >> 14 & 7}, c{iss >> 1 & 15}, {iss >> 17 & 7}"
        case 0x0A:
            return {0: "ST64BV", 1: "ST64BV0", 2: "LD64B or ST64B"}.get(iss)
        case 0x18:
            return f"{'read' if iss & 1 else 'write'} of {of_syndrome(esr)}"
        case 0x19 | 0x1D:
            return _SVE_TRAPS.get(iss & 7) if number == 0x1D else None
        case 0x1A:
            return _RETURNS.get(iss & 3)
        case 0x1C:
            return f"{'data' if iss >> 1 & 1 else 'instruction'} key {'B' if iss & 1 else 'A'}"
        case 0x2F:
            return _serror(iss)
        case 0x3C:
            return f"{iss & 0xFFFF:#x}" + (f", {use}" if (use := _brk_use(iss & 0xFFFF)) else "")
        case _ if number in _IMMEDIATE:
            return f"immediate {iss & 0xFFFF:#x}" if iss & 0xFFFF else None
    return None


def _serror(iss: int) -> str:
    if iss & _IDS:
        return "its cause is implementation defined"
    if iss & 0x3F != 0x11:
        return "its cause is not categorised"
    return f"asynchronous external abort, {_SERROR_TYPES.get(iss >> 10 & 7, 'of an unknown kind')}"


def _brk_use(immediate: int) -> str | None:
    if immediate & ~0x3FF == _CFI:
        return "a check of an indirect call (kCFI)"
    return _BRK_USES.get(immediate)


def is_undescribed_access(esr: int) -> bool:
    """A data abort for which nothing is mapped, whose syndrome is not valid: KVM cannot emulate the access."""
    return exception_class(esr) in _DATA_ABORTS and not esr & _ISV and esr >> 2 & 0xF == _TRANSLATION


def is_external_abort(esr: int) -> bool:
    """As KVM puts it into the guest where it can do nothing else (inject_fault.c: inject_abt64)."""
    return exception_class(esr) in _DATA_ABORTS | _INSTRUCTION_ABORTS and esr & 0x3F == _EXTERNAL


def access_of_iss(iss: int) -> str:
    """Of KVM_EXIT_ARM_NISV and ARM_LDST64B: what kvm_vcpu_dabt_iss_nisv_sanitized leaves of the syndrome."""
    parts = ["write" if iss & _WNR else "read", fault_status(iss & 0x3F)]
    return ", ".join([*parts, "cache maintenance"] if iss & _CM else parts)


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
        direction = "read" if esr & 1 else "write"
        return (f"{direction} of {of_syndrome(esr)}, register X{esr >> 5 & 31}",)
    return ()


_UNALIGNED: Final = (
    "the address is not a multiple of the access's size, in device memory or by an exclusive or atomic access;"
    " while the MMU is off all memory counts as device memory (compile early code with -mstrict-align)"
)
_TRANSLATION: Final = 0b0001
_EXTERNAL: Final = 0x10
_ALIGNMENT: Final = 0x21
_SSE: Final = 1 << 21
_SF: Final = 1 << 15
_AR: Final = 1 << 14
_SYSTEM_REGISTER: Final = 0x18
