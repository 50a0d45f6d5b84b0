"""An instruction's form, made from iced-x86's tables, not from its text, so that no formatter's taste is in it."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import iced_x86

from kvmwhy.arch.x86.instruction import MAX_LENGTH, memory_form


class _Tables(NamedTuple):
    mnemonics: dict[int, str]
    registers: dict[int, str]  # register number: its class, or its own name where there is but one way to write it
    named: frozenset[int]  # kinds of operand codes whose register is what the instruction is about
    vector_addresses: dict[int, str]  # kinds of operand codes of VSIB
    kinds: dict[int, str]  # of operands that are neither registers nor memory


@cache
def _tables() -> _Tables:
    def names(enum: object) -> dict[str, Any]:
        return {name: number for name, number in vars(enum).items() if name.isupper()}

    codes = names(iced_x86.OpCodeOperandKind)
    kinds = names(iced_x86.OpKind)
    return _Tables(
        mnemonics={number: name.lower() for name, number in names(iced_x86.Mnemonic).items()},
        registers={number: _class(number) for number in names(iced_x86.Register).values() if number},
        named=frozenset(
            codes[name] for name in ("ES", "CS", "SS", "DS", "FS", "GS", "SEG_REG", "CR_REG", "DR_REG", "CL", "DX")
        ),
        vector_addresses={
            number: "vm32" if "32" in name else "vm64" for name, number in codes.items() if "VSIB" in name
        },
        kinds={
            number: "rel" if name.startswith("NEAR") else "ptr" if name.startswith("FAR") else "imm"
            for name, number in kinds.items()
            if name.startswith(("NEAR", "FAR", "IMMEDIATE"))
        },
    )


def _class(register: Any) -> str:
    known = iced_x86.RegisterExt
    if known.is_gpr(register):
        return f"r{known.size(register) * 8}"
    for name in ("xmm", "ymm", "zmm", "tmm", "mm", "st", "k", "bnd"):
        if getattr(known, f"is_{name}")(register):
            return name
    return "reg"


def form(code: bytes, bitness: int) -> str:
    tables = _tables()
    instruction = iced_x86.Decoder(bitness, code[:MAX_LENGTH]).decode()
    named = instruction.op_code()
    prefixes = [
        name
        for name, there in (
            ("lock", instruction.has_lock_prefix),
            ("rep", instruction.has_rep_prefix and instruction.is_string_instruction),
            ("repne", instruction.has_repne_prefix and instruction.is_string_instruction),
            ("{evex}", named.encoding == iced_x86.EncodingKind.EVEX),
        )
        if there
    ]
    operands = [_operand(tables, instruction, named, number) for number in range(instruction.op_count)]
    if operands and instruction.op_mask:
        operands[0] += "{k}{z}" if instruction.zeroing_masking else "{k}"
    if instruction.rounding_control:
        operands.append("{er}")
    elif instruction.suppress_all_exceptions:
        operands.append("{sae}")
    name = tables.mnemonics.get(instruction.mnemonic, "?")
    return " ".join(filter(None, (*prefixes, name, ",".join(operands))))


def _operand(tables: _Tables, instruction: iced_x86.Instruction, named: iced_x86.OpCodeInfo, number: int) -> str:
    kind = instruction.op_kind(number)
    if kind != iced_x86.OpKind.REGISTER:
        return tables.kinds.get(kind) or _memory(tables, instruction, named, number)
    register = instruction.op_register(number)
    port = instruction.mnemonic in {iced_x86.Mnemonic.IN, iced_x86.Mnemonic.OUT}  # AL, AX, EAX: no other can be
    if port or named.op_kind(number) in tables.named:
        return _name(register)
    return tables.registers[register]


@cache
def _name(register: int) -> str:
    return next(name.lower() for name, number in vars(iced_x86.Register).items() if number == register)


def _memory(tables: _Tables, instruction: iced_x86.Instruction, named: iced_x86.OpCodeInfo, number: int) -> str:
    if vector := tables.vector_addresses.get(named.op_kind(number)):
        return vector
    size = iced_x86.MemorySizeExt
    if instruction.is_broadcast:
        return f"m{size.element_size(instruction.memory_size) * 8}bcst"
    return memory_form(size.size(instruction.memory_size))
