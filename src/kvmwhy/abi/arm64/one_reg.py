"""A vCPU's registers by the ids of KVM_GET_ONE_REG: arch/arm64/include/uapi/asm/kvm.h.

Core registers are numbered by their offset in ``struct kvm_regs``, in steps of four bytes; system registers by the
fields of the instruction that reads them.
"""

from __future__ import annotations

from typing import Final

_ARM64_U64: Final = 0x6000_0000_0000_0000 | 0x0030_0000_0000_0000
_CORE: Final = 0x0010 << 16
_SYSTEM: Final = 0x0013 << 16
# struct kvm_regs, in bytes: first those of CORE, of which the last is the first of five SPSRs; then the vectors.
_SPSR, _V, _FPSR, _FPCR = 0x120, 0x150, 0x350, 0x354

# Op0, Op1, CRn, CRm, Op2 (Arm ARM: "AArch64 System register encoding").
_SYSTEM_REGISTERS: Final = {
    "midr_el1": (3, 0, 0, 0, 0),
    "mpidr_el1": (3, 0, 0, 0, 5),
    "sctlr_el1": (3, 0, 1, 0, 0),
    "cpacr_el1": (3, 0, 1, 0, 2),
    "ttbr0_el1": (3, 0, 2, 0, 0),
    "ttbr1_el1": (3, 0, 2, 0, 1),
    "tcr_el1": (3, 0, 2, 0, 2),
    "esr_el1": (3, 0, 5, 2, 0),
    "far_el1": (3, 0, 6, 0, 0),
    "par_el1": (3, 0, 7, 4, 0),
    "mair_el1": (3, 0, 10, 2, 0),
    "vbar_el1": (3, 0, 12, 0, 0),
    "contextidr_el1": (3, 0, 13, 0, 1),
    "tpidr_el1": (3, 0, 13, 0, 4),
    "tpidr_el0": (3, 3, 13, 0, 2),
}


def core(offset: int) -> int:
    """The id of the core register at that offset of ``struct kvm_regs``, in bytes."""
    return _ARM64_U64 | _CORE | offset // 4


def system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """The id of a system register."""
    return _ARM64_U64 | _SYSTEM | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


# Names as QEMU and the kernel print them. ``sp`` is SP_EL0; a guest at EL1h has ``sp_el1`` for its stack.
CORE: Final = (*(f"x{n}" for n in range(31)), "sp", "pc", "pstate", "sp_el1", "elr_el1", "spsr_el1")
REGISTERS: Final = {
    **{name: core(8 * n) for n, name in enumerate(CORE)},
    **{name: system(*fields) for name, fields in _SYSTEM_REGISTERS.items()},
}

_PRINTED: Final = {"sp": "SP_EL0"}  # where the name is not that of the Arm ARM
_FIRMWARE: Final = {
    0: "the PSCI version", 1: "SMCCC_ARCH_WORKAROUND_1", 2: "SMCCC_ARCH_WORKAROUND_2", 3: "SMCCC_ARCH_WORKAROUND_3",
}  # fmt: skip


def register_of(number: int) -> str | None:
    """The register of an id, for people; ``None``: not known."""
    low = number & 0xFFFF
    match number >> 16 & 0xFFF:
        case 0x10:
            return _core_register(low * 4)
        case 0x11:
            return "CCSIDR_EL1"
        case 0x13:
            from kvmwhy.abi.arm64.sysreg import of_one_reg

            return str(of_one_reg(low))
        case 0x14:
            return _FIRMWARE.get(low, "a register of KVM's firmware interface")
        case 0x15:
            return "an SVE register"
        case 0x16:
            return "a bitmap of KVM's hypercalls"
    return None


def _core_register(offset: int) -> str | None:
    if offset < _V and offset % 8:
        return None
    if offset < _SPSR:
        name = CORE[offset // 8]
        return _PRINTED.get(name, name.upper())
    if offset < _V:
        return f"SPSR {(offset - _SPSR) // 8}"
    if offset < _FPSR:
        return f"V{(offset - _V) // 16}"
    return {_FPSR: "FPSR", _FPCR: "FPCR"}.get(offset)
