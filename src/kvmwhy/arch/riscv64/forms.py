"""RISC-V's instructions that access memory or maintain caches, by the shapes of their encodings.

The unprivileged specification's opcode map (LOAD, LOAD-FP, MISC-MEM, STORE, STORE-FP, AMO), the vector extension's
loads and stores, Zicbom, Zicboz, Zicbop, Zcb, and the hypervisor extension's HLV and HSV. Operands that stand for
others: a0 and sp for the address, a2 and v8 for data, t0 for a stride, v2 for indices.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from kvmwhy.arch.forms import Group, Operand, all_forms, group_of

_RS1: Final = Operand(19, 15, 10)
_RD: Final = Operand(11, 7, 12)
_RS2: Final = Operand(24, 20, 12)
_VECTOR: Final = Operand(11, 7, 8)
_OFFSET: Final = Operand(31, 20, 0)
_STORE_OFFSET: Final = (Operand(31, 25, 0), Operand(11, 7, 0))
# Of 32 values that a unit-strided access could have: plain, whole registers, masks, fault-only-first; 1 for the rest.
_UNIT: Final = Operand(24, 20, 1, (0, 8, 11, 16))
# The number of the operation is where a load has its offset; there is none above 7.
_CACHE_OPERATION: Final = Operand(31, 20, 8, tuple(range(8)))
_PREFETCH: Final = Operand(24, 20, 2, (0, 1, 3))

WIDE: Final = (
    Group("load", "............ ..... ... ..... 0000011", (_OFFSET, _RS1, _RD)),
    *(
        Group("FP load", f"............ ..... {width:03b} ..... 0000111", (_OFFSET, _RS1, _RD))
        for width in (1, 2, 3, 4)
    ),
    Group("store", "....... ..... ..... ... ..... 0100011", (*_STORE_OFFSET, _RS2, _RS1)),
    *(
        Group("FP store", f"....... ..... ..... {width:03b} ..... 0100111", (*_STORE_OFFSET, _RS2, _RS1))
        for width in (1, 2, 3, 4)
    ),
    *(
        Group(f"vector {name}", f"... . {mop:02b} . ..... ..... ... ..... {opcode}", (operand, _RS1, _VECTOR))
        for name, opcode in (("load", "0000111"), ("store", "0100111"))
        for mop, operand in enumerate((_UNIT, Operand(24, 20, 2), Operand(24, 20, 5), Operand(24, 20, 2)))
    ),
    Group("atomic", "..... .. ..... ..... ... ..... 0101111", (_RS2._replace(apart=(0,)), _RS1, _RD)),
    Group("cache block", "............ ..... 010 ..... 0001111", (_CACHE_OPERATION, _RS1, Operand(11, 7, 0))),
    Group("prefetch", "....... ..... ..... 110 00000 0010011", (Operand(31, 25, 0), _PREFETCH, _RS1)),
    Group("for a guest's guest", "0110... ..... ..... 100 ..... 1110011", (_RS2._replace(apart=(0, 1, 3)), _RS1, _RD)),
)  # fmt: skip

_SHORT_RS1: Final = Operand(9, 7, 2)
_SHORT_RD: Final = Operand(4, 2, 4)
_SHORT_OFFSET: Final = (Operand(12, 10, 0), Operand(6, 5, 0))
# KVM takes bits 11 to 7 for a register that must not be x0, but here they are of the offset: 0 and 32 are not carried
# out (arch/riscv/kvm/vcpu_insn.c: kvm_riscv_vcpu_mmio_store, C_SWSP and C_SDSP).
_STACK_OFFSET: Final = Operand(12, 7, 0b001000, (0, 0b100000))
COMPRESSED: Final = (
    *(
        Group("compressed", f"{funct:03b} ... ... .. ... 00", (*_SHORT_OFFSET, _SHORT_RS1, _SHORT_RD))
        for funct in (1, 2, 3, 5, 6, 7)
    ),
    Group("compressed, of bytes", "100 ... ... .. ... 00", (_SHORT_RS1, _SHORT_RD)),
    *(
        Group("compressed, on the stack", f"{funct:03b} . ..... ..... 10", (Operand(12, 12, 0), _RD, Operand(6, 2, 0)))
        for funct in (1, 2, 3)
    ),
    *(
        Group("compressed, on the stack", f"{funct:03b} ...... ..... 10", (_STACK_OFFSET, Operand(6, 2, 12)))
        for funct in (5, 6, 7)
    ),
)  # fmt: skip


def is_compressed(word: int) -> bool:
    return word & 3 != 3


def form_of(word: int) -> int | None:
    """The form that stands for this word; ``None``: it is no such instruction."""
    if is_compressed(word):
        word &= 0xFFFF
    group = group_of(COMPRESSED if is_compressed(word) else WIDE, word)
    return None if group is None else group.form(word)


@cache
def forms() -> tuple[int, ...]:
    """All, in the order of the groups."""
    return tuple(word for groups in (WIDE, COMPRESSED) for _, word in all_forms(groups))
