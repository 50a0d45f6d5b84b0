"""An instruction's form, of operands that were put right: see ``instruction_form``."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.arch.x86.capstone.memory import MASKED_MOVES
from kvmwhy.arch.x86.capstone.scan import LOCK
from kvmwhy.arch.x86.capstone.values import Branch, FarPointer, Immediate, Memory, Operand, Parsed, Register
from kvmwhy.arch.x86.instruction import memory_form

_NAMED: Final = re.compile(r"[cdefgs]s|[cd]r[0-9]{1,2}")  # what the instruction is about
_CLASSES: Final = ("xmm", "ymm", "zmm", "tmm", "mm", "st", "k", "bnd")
_BYTES: Final = frozenset({"al", "cl", "dl", "bl", "ah", "ch", "dh", "bh", "spl", "bpl", "sil", "dil"})
_PORTS: Final = frozenset({"in", "out"})  # AL, AX, EAX: no other can be
_BY_CL: Final = {0: frozenset({0xD2, 0xD3}), 1: frozenset({0xA5, 0xAD})}
# VSIB: the width of the addresses is in the name's last letter but one, of the family's: VPGATHERQD has 64 bits.
_WIDE_ADDRESSES: Final = re.compile(r"v(?:p?(?:gather|scatter)|gatherpf[01]|scatterpf[01])q")


def form_of(parsed: Parsed) -> str:
    scanned = parsed.scan
    words = []
    if LOCK in scanned.prefixes and scanned.legacy:
        words.append("lock")
    if parsed.string and scanned.repeat:
        words.append("repne" if scanned.repeat == 0xF2 else "rep")
    if scanned.encoding == "evex":
        words.append("{evex}")
    shown = [_operand(operand, number, parsed) for number, operand in enumerate(parsed.operands)]
    if parsed.operation in MASKED_MOVES:  # what DI leads to is an operand
        shown.insert(0, f"m{MASKED_MOVES[parsed.operation] * 8}")
    if shown and scanned.mask:
        shown[0] += "{k}{z}" if scanned.zeroing else "{k}"
    if parsed.rounding:
        shown.append("{sae}" if parsed.rounding == "sae" else "{er}")
    return " ".join((*words, parsed.operation, ",".join(shown))).rstrip()


def _operand(operand: Operand, number: int, parsed: Parsed) -> str:
    match operand:
        case Immediate():
            return "imm"
        case Branch():
            return "rel"
        case FarPointer():
            return "ptr"
        case Memory():
            return _memory(operand, parsed)
        case Register(name):
            return _register(name, number, parsed)


def _register(name: str, number: int, parsed: Parsed) -> str:
    scanned = parsed.scan
    if _NAMED.fullmatch(name) or parsed.operation in _PORTS or (name == "dx" and parsed.string):
        return name
    if name == "cl" and number and scanned.legacy and scanned.opcode in _BY_CL.get(scanned.number, ()):
        return name
    return next((kind for kind in _CLASSES if name.startswith(kind)), None) or f"r{register_width(name)}"


def register_width(name: str) -> int:
    """Of a general register, in bits."""
    if name in _BYTES or (name[-1] == "b" and name[1:-1].isdigit()):
        return 8
    if name[-1] == "w":
        return 16
    if name[0] == "e" or name[-1] == "d":
        return 32
    return 64 if name[0] == "r" else 16


def _memory(memory: Memory, parsed: Parsed) -> str:
    if memory.indexed is not None and memory.indexed[1:3] == "mm":
        return "vm64" if _WIDE_ADDRESSES.match(parsed.operation) else "vm32"
    if parsed.scan.encoding == "evex" and parsed.scan.broadcast:
        return f"m{memory.size * 8}bcst"
    return memory_form(memory.size)
