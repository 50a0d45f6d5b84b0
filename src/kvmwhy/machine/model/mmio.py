"""What an emulated instruction does with memory, piece by piece, as KVM's emulator does it.

arch/x86/kvm/emulate.c reads source operands before destinations, and x86.c (emulator_read_write)
splits at page ends and into at most 8 bytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.instruction import Instruction
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.machine.model.address import linear_address
from kvmwhy.machine.model.unicorn_state import Env

FRAGMENT: Final = 8

# Their operand goes through a path that asks userspace for nothing: KVM tries for ever.
SPINS: Final = frozenset(("sgdt", "sidt", "fxsave", "fxrstor"))
# The operand is read, but what is done with it then goes through that same path.
READS_FIRST: Final = frozenset(("lgdt", "lidt"))
# SSE and AVX moves that check their alignment; KVM lets the non-temporal AVX stores pass.
_ALIGNED: Final = frozenset(("movaps", "movapd", "movdqa", "movntdq", "movntps", "movntpd", "movntdqa"))
_ALIGNED_VEX: Final = frozenset(("vmovaps", "vmovapd", "vmovdqa", "vmovntdqa", "vmovntdq"))
_BIT_STRINGS: Final = frozenset(("bt", "bts", "btr", "btc"))  # reach beyond their operand
_WRITES: Final = ("write", "cond-write", "read-write", "read-cond-write")
_READS: Final = ("read", "cond-read", "read-write", "read-cond-write")


_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
# PUSH and POP of a segment register: 2 bytes of the stack, whatever the step of the stack pointer.
_SEGMENT_STACK: Final = frozenset(
    bytes.fromhex(opcode) for opcode in ("06", "07", "0e", "16", "17", "1e", "1f", "0fa0", "0fa1", "0fa8", "0fa9")
)
_SELECTOR, _QUAD = 2, 8


class Piece(NamedTuple):
    linear: int
    size: int
    reads: bool
    writes: bool


def operands(instruction: Instruction, env: Env, mode: Mode) -> list[Piece]:
    """The memory operands in the order KVM reads them."""
    mnemonic = instruction.mnemonic or ""
    pieces = []
    for operand in instruction.memory:
        if operand.access == "none":
            continue
        linear = linear_address(operand, instruction, env, mode)
        if linear is None or not operand.size:
            continue
        if mnemonic in _BIT_STRINGS:
            linear += _bit_offset(instruction, operand.size, env)
        pieces.append(Piece(linear, operand.size, operand.access in _READS, operand.access in _WRITES))
    return pieces


def emulated_operands(instruction: Instruction, env: Env, mode: Mode) -> list[Piece]:
    """The same as KVM's emulator has them, where that is not what the CPU does."""
    pieces = operands(instruction, env, mode)
    if len(pieces) != 1:
        return pieces
    only, mnemonic = pieces[0], instruction.mnemonic or ""
    size = _operand_size(instruction, mode)
    if mnemonic in READS_FIRST:
        return [only._replace(size=size)]
    if mnemonic in {"sldt", "str"}:  # DstMem without Mov: read first, in the size of the operand
        return [only._replace(size=size, reads=True, writes=False), only]
    if mnemonic in {"push", "pop"} and _opcode(instruction.bytes, mode) in _SEGMENT_STACK and only.size != _QUAD:
        return [only._replace(size=_SELECTOR)]
    return pieces


def _operand_size(instruction: Instruction, mode: Mode) -> int:
    """2 or 4; no wider one is asked for."""
    prefixed = 0x66 in instruction.bytes[: _opcode_at(instruction.bytes, mode)]
    return 2 if prefixed != (mode.bitness == 16) else 4


def _opcode_at(code: bytes, mode: Mode) -> int:
    at = 0
    while at < len(code) and (code[at] in _PREFIXES or (mode.bitness == 64 and code[at] & 0xF0 == 0x40)):
        at += 1
    return at


def _opcode(code: bytes, mode: Mode) -> bytes:
    at = _opcode_at(code, mode)
    return code[at : at + (2 if code[at : at + 1] == b"\x0f" else 1)]


def _bit_offset(instruction: Instruction, size: int, env: Env) -> int:
    """How far from its operand BT with a bit number in a register reaches (fetch_bit_operand)."""
    code = instruction.bytes
    at = code.index(0x0F)
    if code[at + 1] == 0xBA:  # a number in the instruction stays inside the operand
        return 0
    extended = at > 0 and code[at - 1] & 0xF4 == 0x44
    value = env.regs[code[at + 2] >> 3 & 7 | (8 if extended else 0)] & (1 << 8 * size) - 1
    if value >> 8 * size - 1:
        value -= 1 << 8 * size
    return value // (8 * size) * size


def misaligned(instruction: Instruction, pieces: list[Piece]) -> bool:
    mnemonic = instruction.mnemonic or ""
    if mnemonic in _ALIGNED or mnemonic in _ALIGNED_VEX:
        return any(piece.linear % piece.size for piece in pieces if piece.size >= 16)
    return False


def fragments(gpa: int, size: int) -> list[tuple[int, int]]:
    return [(gpa + at, min(FRAGMENT, size - at)) for at in range(0, size, FRAGMENT)]
