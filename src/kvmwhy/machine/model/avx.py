"""The moves that Unicorn cannot execute: VEX-encoded ones, and MOVNTDQA as 6.19 and 7.0 have it.

Just those that KVM's emulator knows since 6.19 (f0585a714a75, ebec25438f3d).
"""

from __future__ import annotations

from typing import NamedTuple

from kvmwhy.arch.x86.instruction import Instruction
from kvmwhy.machine.model.kernel import Kernel
from kvmwhy.machine.model.unicorn_state import Env, get_vector, set_vector

_STORES = {0x11, 0x29, 0x2B, 0x7F, 0xE7}


class Move(NamedTuple):
    register: int
    other: int | None  # a register in place of memory
    size: int
    store: bool


def move_of(instruction: Instruction, release: Kernel | None = None) -> Move | None:
    """The move, or None if it is none of these. ``release`` is given when KVM carries it out."""
    if instruction.encoding == "vex":
        return _vex(instruction, release)
    if instruction.mnemonic == "movntdqa" and _reversed(release):
        code = instruction.bytes
        rex = next((byte for byte in code if byte & 0xF0 == 0x40), 0) if 0x0F in code else 0
        return Move(code[code.index(0x38) + 2] >> 3 & 7 | (8 if rex & 4 else 0), None, 16, store=True)
    return None


def _reversed(release: Kernel | None) -> bool:
    return release is not None and (6, 19) <= release.version < (7, 1)


def _vex(instruction: Instruction, release: Kernel | None) -> Move | None:
    code = instruction.bytes
    at = next((n for n, byte in enumerate(code) if byte in (0xC4, 0xC5)), len(code))
    if code[at : at + 1] == b"\xc5":
        first, last, opcode_map, at = code[at + 1], code[at + 1], 1, at + 2
    else:
        first, last, opcode_map, at = code[at + 1], code[at + 2], code[at + 1] & 0x1F, at + 3
    opcode, modrm, pp = code[at], code[at + 1], last & 3
    plain = opcode_map == 1 and (
        (opcode in {0x10, 0x11, 0x28, 0x29, 0x2B} and pp in {0, 1})
        or (opcode in {0x6F, 0x7F} and pp in {1, 2})
        or (opcode == 0xE7 and pp == 1)
    )
    streaming = opcode_map == 2 and opcode == 0x2A and pp == 1
    if not (plain or streaming) or last & 0x78 != 0x78:
        return None
    register = modrm >> 3 & 7 | (0 if first & 0x80 else 8)
    other = None
    if modrm >= 0xC0:
        other = modrm & 7 | (8 if len(code) and code[at - 3] == 0xC4 and not first & 0x20 else 0)
    store = opcode in _STORES or (streaming and _reversed(release))
    return Move(register, other, 32 if last & 4 else 16, store)


def load(env: Env, move: Move, data: bytes) -> None:
    set_vector(env, move.register, data)


def stored(env: Env, move: Move) -> bytes:
    return get_vector(env, move.register, move.size)


def copy(env: Env, move: Move) -> None:
    """Between two registers."""
    assert move.other is not None  # noqa: S101 -- the caller's condition, stated for the type checker
    source, target = (move.register, move.other) if move.store else (move.other, move.register)
    set_vector(env, target, get_vector(env, source, move.size))
