"""The ids of KVM_GET_ONE_REG and KVM_SET_ONE_REG: which register of which architecture.

include/uapi/linux/kvm.h has the architecture and the size; arch/arm64 and arch/riscv: include/uapi/asm/kvm.h the rest.
"""

from __future__ import annotations

from typing import Final, Literal

Arch = Literal["ppc64", "s390x", "arm64", "mips", "riscv64", "loongarch", "x86"]

_ARCHS: Final[dict[int, Arch]] = {
    0x10: "ppc64", 0x20: "x86", 0x40: "arm64", 0x50: "s390x", 0x60: "arm64", 0x70: "mips", 0x80: "riscv64",
    0x90: "loongarch",
}  # fmt: skip
_LEAST: Final = 1 << 48  # an id has its architecture in the top byte
# struct kvm_regs of arm64, in words of 32 bits.
_SP, _PC, _PSTATE, _SP_EL1, _ELR_EL1, _SPSR, _VREGS, _FPSR, _FPCR = 0x3E, 0x40, 0x42, 0x44, 0x46, 0x48, 0x54, 0xD4, 0xD5
_CORE: Final = {
    _SP: "SP_EL0", _PC: "PC", _PSTATE: "PSTATE", _SP_EL1: "SP_EL1", _ELR_EL1: "ELR_EL1", _FPSR: "FPSR", _FPCR: "FPCR",
}  # fmt: skip
_FIRMWARE: Final = {
    0: "the PSCI version", 1: "SMCCC_ARCH_WORKAROUND_1", 2: "SMCCC_ARCH_WORKAROUND_2", 3: "SMCCC_ARCH_WORKAROUND_3",
}  # fmt: skip
_RISCV_CORE: Final = (
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", *(f"a{n}" for n in range(8)),
    *(f"s{n}" for n in range(2, 12)), "t3", "t4", "t5", "t6", "mode",
)  # fmt: skip
_RISCV_CSRS: Final = (
    "sstatus", "sie", "stvec", "sscratch", "sepc", "scause", "stval", "sip", "satp", "scounteren", "senvcfg",
)  # fmt: skip
_RISCV_CONFIG: Final = (
    "isa", "zicbom_block_size", "mvendorid", "marchid", "mimpid", "zicboz_block_size", "satp_mode",
)  # fmt: skip
_RISCV_TIMER: Final = ("frequency", "time", "compare", "state")


def arch_of(number: int) -> Arch | None:
    """Whose register it is."""
    return _ARCHS.get(number >> 56) if number >= _LEAST else None


def register_of(number: int) -> str | None:
    """The register by name; ``None``: not known, or not an id."""
    match arch_of(number):
        case "arm64":
            return _arm64(number)
        case "riscv64":
            return _riscv64(number)
    return None


def _arm64(number: int) -> str | None:
    low = number & 0xFFFF
    match number >> 16 & 0xFFF:
        case 0x10:
            if low < _SP:
                return f"X{low >> 1}"
            if _SPSR <= low < _VREGS:
                return f"SPSR {(low - _SPSR) >> 1}"
            return f"V{(low - _VREGS) >> 2}" if _VREGS <= low < _FPSR else _CORE.get(low)
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


def _riscv64(number: int) -> str | None:
    low = number & 0xFFFF
    match number >> 24 & 0xFF:
        case 1:
            return _nth(_RISCV_CONFIG, low)
        case 2:
            return _nth(_RISCV_CORE, low)
        case 3:
            return _nth(_RISCV_CSRS, low) if not number >> 16 & 0xFF else f"AIA or state-enable CSR {low}"
        case 4:
            return f"timer {_nth(_RISCV_TIMER, low)}"
        case 5 | 6:
            return f"f{low}" if low < 32 else "fcsr"
        case 7:
            return f"ISA extension {low}"
        case 8:
            return f"SBI extension {low}"
        case 9:
            return f"vector register {low}"
    return None


def _nth(names: tuple[str, ...], number: int) -> str | None:
    return names[number] if number < len(names) else None
