"""Instructions decoded by capstone, put right by tables of ours."""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.capstone import memory, text
from kvmwhy.arch.x86.capstone.parse import parse
from kvmwhy.arch.x86.capstone.scan import LOCK, scan
from kvmwhy.arch.x86.instruction import FILLERS, MAX_LENGTH, Instruction, Syntax, undecoded

# One-byte opcodes whose ModRM has to be read before they are known to be none.
_GROUPS: Final = frozenset({0x62, 0x82, 0x8C, 0x8D, 0x8E, 0x8F, 0xC4, 0xC5, 0xC6, 0xC7, *range(0xD8, 0xE0), 0xFE, 0xFF})


def decode(code: bytes, *, bitness: int, address: int, syntax: Syntax) -> Instruction:
    parsed = parse(code, bitness, address)
    if parsed is None:
        return _undecoded(code[:MAX_LENGTH], bitness, address)
    return Instruction(
        address=address,
        bytes=code[: parsed.length],
        text=(text.att if syntax == "att" else text.intel)(parsed),
        mnemonic=parsed.mnemonic,
        length=parsed.length,
        complete=True,
        invalid=False,
        encoding=parsed.scan.encoding,
        stack=memory.is_stack(parsed),
        memory=memory.operands(parsed),
    )


def form(code: bytes, bitness: int) -> str:
    from kvmwhy.arch.x86.capstone.form import form_of  # only signatures need it

    parsed = parse(code, bitness, 0)
    return form_of(parsed) if parsed is not None else "?"


def _undecoded(code: bytes, bitness: int, address: int) -> Instruction:
    """Torn, if there are bytes that would complete it."""
    completed = [parse((code + filler)[:MAX_LENGTH], bitness, address) for filler in FILLERS if len(code) < MAX_LENGTH]
    if any(parsed is not None and parsed.length > len(code) for parsed in completed):
        names = {parsed.mnemonic if parsed is not None else None for parsed in completed}
        mnemonic = names.pop() if len(names) == 1 else None
        return undecoded(code, address, len(code), torn=True, mnemonic=mnemonic)
    return undecoded(code, address, _length_of_none(code, bitness), torn=False)


def _length_of_none(code: bytes, bitness: int) -> int:
    """As far as a CPU reads before it knows that this is no instruction: with LOCK, all of it; else up to ModRM."""
    scanned = scan(code, bitness)
    if LOCK in scanned.prefixes:
        where = code.index(LOCK)
        parsed = parse(code[:where] + code[where + 1 :], bitness, 0)
        if parsed is not None:
            return parsed.length + 1
    has_modrm = scanned.number or not scanned.legacy or scanned.opcode in _GROUPS
    return min(scanned.at + 1 + bool(has_modrm), len(code))
