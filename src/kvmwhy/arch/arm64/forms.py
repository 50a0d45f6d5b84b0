"""A64's instructions that access memory or maintain caches, by the shapes of their encodings.

Arm ARM DDI 0487, C4.1 "A64 instruction set encoding": "Loads and Stores", "SVE encodings" (memory), and SYS with CRn 7
(IC, DC, AT). Operands that stand for others: x0 for the address, x2 for an index or a status of 0, x4 and x6 for data.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from kvmwhy.arch.forms import Group, Operand, all_forms, group_of

_RT: Final = Operand(4, 0, 4)
_RN: Final = Operand(9, 5, 0)
_RT2: Final = Operand(14, 10, 6)
_RS: Final = Operand(20, 16, 2)
_IMM9: Final = Operand(20, 12, 0)
_DATA: Final = (_RN, _RT)
_NONE: Final = 31  # as a register: none, XZR or SP; where it has to stand, another number is another instruction
_RS_OR_NONE: Final = _RS._replace(apart=(_NONE,))
_RT2_OR_NONE: Final = _RT2._replace(apart=(_NONE,))

GROUPS: Final = (
    # An odd register is undefined for a pair to be compared.
    Group(
        "compare and swap pair",
        "0. 001000 0 . 1 ..... . ..... ..... .....",
        (Operand(20, 16, 2, (3,)), Operand(14, 10, 6, (_NONE,)), _RN, Operand(4, 0, 4, (5,))),
    ),
    Group("exclusive or ordered", ".. 001000 . . . ..... . ..... ..... .....", (_RS_OR_NONE, _RT2_OR_NONE, *_DATA)),
    Group("unprivileged exclusive", ".. 001001 . . . ..... . ..... ..... .....", (_RS, _RT2_OR_NONE, *_DATA)),
    Group("SIMD structures", "0 . 0011000 . . ..... .... .. ..... .....", (_RS._replace(apart=(0,)), *_DATA)),
    Group("SIMD structures, post-indexed", "0 . 0011001 . . ..... .... .. ..... .....", (_RS_OR_NONE, *_DATA)),
    Group("SIMD structure", "0 . 0011010 . . ..... ... . .. ..... .....", (_RS._replace(apart=(0, 1)), *_DATA)),
    Group("SIMD structure, post-indexed", "0 . 0011011 . . ..... ... . .. ..... .....", (_RS_OR_NONE, *_DATA)),
    Group("literal", ".. 011 . 00 ................... .....", (Operand(23, 5, 0x7C000), _RT)),
    Group("memory tag", "11 011 0 01 .. 1 ......... .. ..... .....", (_IMM9._replace(apart=(1,)), *_DATA)),
    Group("ordered, unscaled", ".. 011 . 01 .. 0 ......... 00 ..... .....", (_IMM9, *_DATA)),
    Group("atomic of 128 bits", ".. 011 . 01 .. 1 ..... . ... 00 ..... .....", (_RS, *_DATA)),
    # [Rd]!, [Rs]!, Rn!: here the lowest field has an address, and the middle one the length.
    Group(
        "memory copy or set",
        ".. 011 . 01 .. 0 ..... .... 01 ..... .....",
        (Operand(20, 16, 1), Operand(9, 5, 5), Operand(4, 0, 0)),
    ),
    Group("ordered pair", ".. 011 . 01 .. 0 ..... .... 10 ..... .....", (Operand(20, 16, 6), *_DATA)),
    Group("ordered, not allocated", ".. 011 . 01 .. . ......... .. ..... .....", (_IMM9, *_DATA)),
    Group("pair", ".. 101 . 0 .. . ....... ..... ..... .....", (Operand(21, 15, 0), _RT2, *_DATA)),
    Group("unscaled, pre- or post-indexed, unprivileged", ".. 111 . 00 .. 0 ......... .. ..... .....", (_IMM9, *_DATA)),
    Group("atomic", ".. 111 . 00 .. 1 ..... . ... 00 ..... .....", (_RS_OR_NONE, *_DATA)),
    Group("register offset", ".. 111 . 00 .. 1 ..... ... . 10 ..... .....", (_RS, *_DATA)),
    Group("authenticated", ".. 111 . 00 .. 1 ......... .1 ..... .....", (_IMM9, *_DATA)),
    Group("unsigned offset", ".. 111 . 01 .. ............ ..... .....", (Operand(21, 10, 0), *_DATA)),
    # Bit 20 selects in some, and 31 is no register: both classes, and it, are forms of their own.
    Group(
        "SVE",
        "1 .. 0010 .... ..... ... ... ..... .....",
        (Operand(20, 16, 2, (16, _NONE)), Operand(12, 10, 0), *_DATA),
    ),
    Group("IC, DC, AT", "1101010100 0 01 ... 0111 .... ... .....", (Operand(4, 0, 0),)),
)  # fmt: skip


def form_of(word: int) -> int | None:
    """The form that stands for this word; ``None``: it is no such instruction."""
    group = group_of(GROUPS, word)
    return None if group is None else group.form(word)


@cache
def forms() -> tuple[int, ...]:
    """All, in the order of the groups."""
    return tuple(word for _, word in all_forms(GROUPS))
