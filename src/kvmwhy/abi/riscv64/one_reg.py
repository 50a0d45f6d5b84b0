"""A vCPU's registers by the ids of KVM_GET_ONE_REG: arch/riscv/include/uapi/asm/kvm.h."""

from __future__ import annotations

from typing import Final

_RISCV_U64: Final = 0x8000_0000_0000_0000 | 0x0030_0000_0000_0000
_CONFIG, _CORE, _CSR = 0x01 << 24, 0x02 << 24, 0x03 << 24

# struct kvm_riscv_core: pc, then x1 to x31 by their names of the psABI, then the privilege mode (1: S, 0: U).
CORE: Final = (
    "pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
    "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6", "mode",
)  # fmt: skip
# struct kvm_riscv_csr
CSR: Final = ("sstatus", "sie", "stvec", "sscratch", "sepc", "scause", "stval", "sip", "satp", "scounteren")
# The integer registers in the order of their numbers in an instruction; x0 is no register of KVM's.
BY_NUMBER: Final = ("zero", *CORE[1:32])
REGISTERS: Final = {
    **{name: _RISCV_U64 | _CORE | n for n, name in enumerate(CORE)},
    **{name: _RISCV_U64 | _CSR | n for n, name in enumerate(CSR)},
    "isa": _RISCV_U64 | _CONFIG,
}

_CSRS: Final = (*CSR, "senvcfg")  # the last one came with Linux 6.7
_CONFIGS: Final = (
    "isa", "zicbom_block_size", "mvendorid", "marchid", "mimpid", "zicboz_block_size", "satp_mode",
)  # fmt: skip
_TIMER: Final = ("frequency", "time", "compare", "state")


def register_of(number: int) -> str | None:
    """The register of an id, for people; ``None``: not known."""
    low = number & 0xFFFF
    match number >> 24 & 0xFF:
        case 1:
            return _nth(_CONFIGS, low)
        case 2:
            return _nth(CORE, low)
        case 3:
            return _nth(_CSRS, low) if not number >> 16 & 0xFF else f"AIA or state-enable CSR {low}"
        case 4:
            return f"timer {_nth(_TIMER, low)}"
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
