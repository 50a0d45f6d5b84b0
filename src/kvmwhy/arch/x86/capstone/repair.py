"""What to ask capstone so that it answers rightly, and what it takes for an instruction that is none."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.capstone.scan import ADDRESS_SIZE, LOCK, MANDATORY, OPERAND_SIZE, REP, REPNE, Scan
from kvmwhy.arch.x86.capstone.stand_in import StandIn, stand_in
from kvmwhy.arch.x86.capstone.values import Memory, Parsed, Register, word_set
from kvmwhy.arch.x86.capstone.vector_stand_in import VectorStandIn, vector_stand_in


class Question(NamedTuple):
    """The bytes and the mode to decode them in, and what to make of the answer."""

    code: bytes
    bitness: int
    longer: int = 0  # by how many bytes the answer's length is too long
    stand_in: StandIn | VectorStandIn | None = None


# Opcodes behind 0F whose 66 chooses the instruction, not the size of its operand. In 16-bit code capstone takes it for
# the size all the same: they are asked for in 32-bit code, with the other size of addresses.
_CHOSEN: Final = frozenset(
    {*range(0x10, 0x18), *range(0x28, 0x30), *range(0x50, 0x80), 0xC2, 0xC4, 0xC5, 0xC6, *range(0xD0, 0xFF)}
)
_BY_SIZE: Final = frozenset({0xF0, 0xF1})  # behind 0F 38: MOVBE and CRC32
_FENCES: Final = frozenset({5, 6, 7})
_UNPREFIXED: Final = frozenset({0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xF9})  # behind 0F 38: SHA and MOVDIRI
_PADLOCK: Final = {0xA6: frozenset({0xC0, 0xC8, 0xD0}), 0xA7: frozenset({0xC8, 0xD0, 0xD8, 0xE0, 0xE8})}
# SSE and MMX behind 0F that F2 and F3 make no other instruction of.
_UNREPEATED: Final = frozenset(
    {0x13, 0x14, 0x15, 0x17, 0x28, 0x29, 0x2E, 0x2F, 0x50, 0x54, 0x55, 0x56, 0x57, *range(0x60, 0x6F)}
    | {0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0xC4, 0xC5, 0xC6, *range(0xD1, 0xD6), *range(0xD7, 0xE6)}
    | {*range(0xE7, 0xF0), *range(0xF1, 0xFF)}
)
_GROUP_15: Final = {REP: frozenset({4, 6}), REPNE: frozenset[int](), OPERAND_SIZE: frozenset({6, 7})}
# Behind 0F 01, with a register in ModRM: what a prefix before it makes of it is something else, or nothing.
_PREFIXED: Final = {
    OPERAND_SIZE: frozenset({0xCC, 0xCD, 0xCE, 0xCF}),
    REP: frozenset({0xC6, 0xCA, *range(0xE8, 0xF0), 0xFA, 0xFD, 0xFE, 0xFF}),
    REPNE: frozenset({0xC6, 0xCA, 0xE8, 0xE9, 0xFD, 0xFE, 0xFF}),
}
_ANY_PREFIX: Final = frozenset({*range(0xD8, 0xE0), 0xF9, 0xFB, 0xFC})  # AMD's: SVM, RDTSCP, CLZERO
_CONTROL: Final = frozenset({0, 2, 3, 4, 8})
_LOCKABLE: Final = word_set(
    "add adc and btc btr bts cmpxchg cmpxchg8b cmpxchg16b dec inc neg not or sbb sub xadd xchg xor"
)


def last_mandatory(scanned: Scan) -> int:
    """The prefix that chooses an opcode: F2 and F3 before 66. 0: none."""
    return scanned.repeat or (OPERAND_SIZE if OPERAND_SIZE in scanned.prefixes else 0)


def is_none(scanned: Scan) -> bool:
    """Bytes that capstone decodes though no CPU does."""
    if not scanned.legacy or scanned.modrm is None:
        return False
    opcode, modrm, prefix = scanned.opcode, scanned.modrm, last_mandatory(scanned)
    match scanned.number:
        case 0:
            return opcode == 0x8E and scanned.operation == 1
        case 1 if opcode in _PADLOCK:
            return modrm in _PADLOCK[opcode] and scanned.repeat != REP
        case 1 if opcode == 0x37:
            return bool(prefix)
        case 1 if opcode == 0x01 and modrm >= 0xC0 and prefix and scanned.operation not in {4, 6}:
            return modrm not in _PREFIXED[prefix] and modrm not in _ANY_PREFIX
        case 1 if scanned.repeat and opcode in _UNREPEATED:
            return True
        case 1 if opcode in {0x20, 0x22}:
            return scanned.operation + (scanned.rex & 4) * 2 not in _CONTROL
        case 1 if opcode in {0x21, 0x23}:
            return bool(scanned.rex & 4)
        case 1 if opcode == 0xC7 and scanned.memory and scanned.operation in {3, 4, 5}:
            return bool(prefix)
        case 1 if opcode == 0xAE and prefix and scanned.memory:
            return scanned.operation not in _GROUP_15[prefix]
        case 1 if opcode == 0xAE and prefix == OPERAND_SIZE:
            return scanned.operation in {5, 7}
        case 2 if opcode in _UNPREFIXED:
            return bool(prefix)
        case 2 if opcode in {0xF0, 0xF1}:
            return scanned.repeat == REP
        case 2 if opcode == 0xF6:
            return scanned.repeat == REPNE
        case _:
            return False


def checked(parsed: Parsed) -> Parsed | None:
    """LOCK is allowed before some operations that write memory; before all else it makes no instruction."""
    if LOCK in parsed.scan.prefixes:
        first = parsed.operands[0] if parsed.operands else None
        exchanges = parsed.operation == "xchg" and parsed.scan.memory
        if parsed.operation not in _LOCKABLE or not (isinstance(first, Memory) or exchanges):
            return None
    if parsed.scan.encoding == "vex" and parsed.operation.startswith(("vgather", "vpgather")):
        names = {operand.name[3:] for operand in parsed.operands if isinstance(operand, Register)}
        names |= {(operand.indexed or "")[3:] for operand in parsed.operands if isinstance(operand, Memory)}
        if len(names) < 3:
            return None  # destination, index and mask have to be three registers
    return parsed


def question(code: bytes, scanned: Scan) -> Question:
    """How to ask for the first instruction in ``code``."""
    at, opcode, bitness = scanned.at, scanned.opcode, scanned.bitness
    if (chosen := stand_in(scanned) or vector_stand_in(scanned)) is not None:
        return Question(chosen.encode(code, scanned), bitness, chosen.longer(scanned), chosen)
    if not scanned.legacy or opcode is None:
        return Question(code, bitness)
    prefixed = MANDATORY & scanned.prefixes
    if scanned.number == 0:
        if opcode == 0x90 and scanned.repeat and OPERAND_SIZE in scanned.prefixes:
            return Question(_without(code, OPERAND_SIZE), bitness, -1)  # PAUSE
        return Question(code, bitness)
    fence = scanned.number == 1 and opcode == 0xAE and not prefixed and scanned.operation in _FENCES
    if fence and scanned.modrm is not None and not scanned.memory:  # with any register in ModRM
        return Question(code[: at + 1] + bytes([scanned.modrm & 0xF8]) + code[at + 2 :], bitness)
    if bitness == 16 and OPERAND_SIZE in scanned.prefixes and _chosen_by_66(scanned, opcode):
        if ADDRESS_SIZE in scanned.prefixes:
            return Question(_without(code, ADDRESS_SIZE), 32, -1)
        return Question(bytes([ADDRESS_SIZE]) + code, 32, 1)
    return Question(code, bitness)


def _chosen_by_66(scanned: Scan, opcode: int) -> bool:
    if scanned.number == 1:
        return opcode in _CHOSEN or (opcode == 0xC7 and scanned.operation == 6 and scanned.memory)  # VMCLEAR
    return scanned.number == 3 or opcode not in _BY_SIZE


def _without(code: bytes, prefix: int) -> bytes:
    where = code.index(prefix)
    return code[:where] + code[where + 1 :]
