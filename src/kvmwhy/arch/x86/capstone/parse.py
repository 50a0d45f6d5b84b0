"""What capstone says about the bytes, in terms that are ours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import capstone

from kvmwhy.arch.x86.capstone import names, repair, sizes
from kvmwhy.arch.x86.capstone.scan import Scan, scan
from kvmwhy.arch.x86.capstone.values import ROUNDINGS, Branch, FarPointer, Immediate, Memory, Operand, Parsed, Register
from kvmwhy.arch.x86.instruction import MAX_LENGTH

_REGISTER, _IMMEDIATE = 1, 2  # X86_OP_REG, X86_OP_IMM; the third is memory
_NEAR = frozenset({*range(0x70, 0x80), 0xE0, 0xE1, 0xE2, 0xE3, 0xE8, 0xE9, 0xEB})


@cache
def _engine(bitness: int) -> capstone.Cs:
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bitness]
    engine = capstone.Cs(capstone.CS_ARCH_X86, mode)
    engine.detail = True
    return engine


def parse(code: bytes, bitness: int, address: int) -> Parsed | None:
    """The first instruction in ``code``, or ``None`` if that is no whole instruction."""
    code = code[:MAX_LENGTH]
    scanned = scan(code, bitness)
    if repair.is_none(scanned):
        return None
    question = repair.question(code, scanned)
    answer: Any = next(_engine(question.bitness).disasm(question.code, address, 1), None)
    if answer is None:
        return None
    length = answer.size - question.longer
    if not 0 < length <= len(code):
        return None
    name = answer.mnemonic.split()[-1]
    operands = tuple(_operands(answer, scanned, length))
    parsed = Parsed(name, name, name, (), operands, length, scanned, _rounding(answer, scanned))
    if question.stand_in is not None:
        parsed = question.stand_in.in_its_place(parsed)
    return repair.checked(sizes.put_right(names.put_right(parsed)))


def _rounding(answer: Any, scanned: Scan) -> str | None:
    if scanned.encoding != "evex" or not scanned.broadcast or scanned.memory:
        return None
    if answer.avx_rm:
        return ROUNDINGS[scanned.vector]
    return "sae" if answer.avx_sae else None


def _operands(answer: Any, scanned: Scan, length: int) -> Iterator[Operand]:
    operands = answer.operands
    if scanned.legacy and scanned.number == 0 and scanned.opcode in {0x9A, 0xEA}:
        if [operand.type for operand in operands] == [_IMMEDIATE, _IMMEDIATE]:
            offset = operands[1].imm & (1 << scanned.operand_size) - 1
            yield FarPointer(operands[0].imm & 0xFFFF, offset)
        return
    seen: set[str] = set()
    for operand in operands:
        if operand.type == _REGISTER:
            register = answer.reg_name(operand.reg)
            if seen and scanned.mask and register == f"k{scanned.mask}" and register not in seen:
                continue  # the mask, which is read from the bytes
            seen.add(register)
            yield Register(register)
        elif operand.type == _IMMEDIATE:
            yield _immediate(operand, scanned, length, answer)
        else:
            seen.add("")
            yield _memory(answer, operand, scanned, length)


def _immediate(operand: Any, scanned: Scan, length: int, answer: Any) -> Immediate | Branch:
    opcode = scanned.opcode or 0
    near = (
        opcode in _NEAR or (opcode == 0xC7 and scanned.modrm == 0xF8)
        if scanned.number == 0
        else scanned.number == 1 and opcode & 0xF0 == 0x80
    )
    if not (scanned.legacy and near):
        return Immediate(operand.imm & (1 << 8 * (operand.size or 8)) - 1)
    # Capstone cuts the target of a 32-bit branch in 16-bit code down to 16 bits.
    begin = scanned.at + (2 if opcode == 0xC7 else 1)
    relative = int.from_bytes(answer.bytes[begin:length], "little", signed=True)
    bits = 64 if scanned.bitness == 64 else scanned.operand_size
    return Branch(answer.address + length + relative & (1 << bits) - 1)


def _memory(answer: Any, operand: Any, scanned: Scan, length: int) -> Memory:
    memory = operand.mem
    base = answer.reg_name(memory.base) if memory.base else None
    index = answer.reg_name(memory.index) if memory.index else None
    displacement = memory.disp
    rip_relative = base in {"rip", "eip"}
    if rip_relative:
        displacement += answer.address + length
        base = None
    return Memory(
        segment=scanned.segment,
        base=base,
        indexed=None if index in {"riz", "eiz"} else index,
        scale=memory.scale,
        displacement=displacement,
        size=operand.size,
        rip_relative=rip_relative,
    )
