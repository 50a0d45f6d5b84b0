"""What kind of instruction a word of RV64GC is, and whether KVM can carry out its access to a device.

KVM on riscv64 fetches the instruction and decodes it (arch/riscv/kvm/vcpu_insn.c: kvm_riscv_vcpu_mmio_load, _store):
loads and stores of integer registers, compressed ones too; for everything else KVM_RUN fails with EOPNOTSUPP, and with
EIO where the address is not a multiple of the access's size.
"""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal[
    "load", "store", "floating point load", "floating point store", "atomic", "vector load", "vector store", "jump",
    "system register", "hypervisor instruction", "return from a trap", "call", "breakpoint", "wait", "fence",
    "cache block operation", "undefined", "other",
]  # fmt: skip

# What the guest's kernel may not do: a virtual-instruction exception, for which KVM injects an illegal instruction.
REFUSED: Final = frozenset({"system register", "hypervisor instruction", "return from a trap", "cache block operation"})
_ACCESSES: Final = frozenset(
    {
        "load", "store", "floating point load", "floating point store", "atomic", "vector load", "vector store",
        "cache block operation",
    }
)  # fmt: skip
_HANDLED: Final = frozenset({"load", "store"})
_VECTOR_WIDTHS: Final = frozenset({0, 5, 6, 7})
_SYSTEM: Final[dict[int, Kind]] = {
    0x00000073: "call", 0x00100073: "breakpoint", 0x10500073: "wait", 0x10200073: "return from a trap",
    0x30200073: "return from a trap",
}  # fmt: skip


def kind_of(word: int) -> Kind:
    """By the encoding; a compressed instruction is a word of 16 bits."""
    if word & 3 != 3:
        return _compressed(word & 0xFFFF)
    funct3 = word >> 12 & 7
    match word & 0x7F:
        case 0x03:
            return "load" if funct3 != 7 else "undefined"
        case 0x23:
            return "store" if funct3 < 4 else "undefined"
        case 0x07:
            return "vector load" if funct3 in _VECTOR_WIDTHS else "floating point load"
        case 0x27:
            return "vector store" if funct3 in _VECTOR_WIDTHS else "floating point store"
        case 0x2F:
            return "atomic"
        case 0x67 | 0x6F:
            return "jump"
        case 0x0F:
            return "cache block operation" if funct3 == 2 else "fence"
        case 0x73:
            return _system(word, funct3)
    return "other"


def _system(word: int, funct3: int) -> Kind:
    if word in _SYSTEM:
        return _SYSTEM[word]
    if funct3 == 4:
        return "hypervisor instruction"  # HLV, HSV
    if funct3:
        return "system register"
    match word >> 25:
        case 0x09 | 0x0B:
            return "fence"
        case 0x11 | 0x31 | 0x13 | 0x33:
            return "hypervisor instruction"  # HFENCE, HINVAL
    return "other"


def _compressed(word: int) -> Kind:
    if not word:
        return "undefined"
    match word & 3, word >> 13:
        case 0, 1 | 5:
            return "floating point load" if word >> 13 == 1 else "floating point store"
        case 0, 2 | 3:
            return "load"
        case 0, 6 | 7:
            return "store"
        case 2, 1 | 5:
            return "floating point load" if word >> 13 == 1 else "floating point store"
        case 2, 2 | 3:
            return "load"
        case 2, 6 | 7:
            return "store"
        case 1, 5 | 6 | 7:
            return "jump"
        case 2, 4 if not word >> 2 & 31:
            return "jump" if word >> 7 & 31 else "breakpoint"
    return "other"


def has_mmio_handler(word: int) -> bool | None:
    """Whether KVM can hand its access outside RAM to the VMM; ``None``: it makes no access."""
    kind = kind_of(word)
    return kind in _HANDLED if kind in _ACCESSES else None
