"""The memory that an instruction touches, spelt out or not: where, how much, and whether it is read or written.

Capstone's own accesses are wrong or missing for whole families (AVX-512, x87, XSAVE) and it has no operands for the
stack, so they are decided here, by the operation and the operand's place, as the manuals have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from kvmwhy.arch.x86.capstone.scan import OPERAND_SIZE, Scan
from kvmwhy.arch.x86.capstone.values import Immediate, Memory, Parsed, Register, general, word_set
from kvmwhy.arch.x86.instruction import Access, MemoryOperand

# The operations whose first operand is read and written.
_READ_WRITE: Final = word_set(
    "aadd aand adc add and aor axor btc btr bts clrssbsy dec inc neg not or rcl rcr rol ror rstorssp sal sar sbb shl "
    "shld shr shrd sub xadd xchg xor xsave xsave64 xsaveopt xsaveopt64"
)
_COMPARES_AND_WRITES: Final = frozenset({"arpl", "cmpxchg", "cmpxchg16b", "cmpxchg8b"})
# Those whose first operand is written only.
_WRITES: Final = word_set(
    "extractps fbstp fist fistp fisttp fnsave fnstcw fnstenv fnstsw fst fstp fxsave fxsave64 kmovb kmovd kmovq kmovw "
    "pextrb pextrd pextrq pextrw pop sgdt sidt sldt smsw stmxcsr str sttilecfg tilestored vcvtps2ph vmptrst vmread "
    "vpextrb vpextrd vpextrq vpextrw vstmxcsr wrssd wrssq wrussd wrussq xsavec xsavec64 xsaves xsaves64"
)
_WRITE_FAMILIES: Final = (
    *("mov", "set", "vmov", "vcompress", "vextract", "vmaskmov", "vpcompress", "vpmaskmov", "vpmov"),
)
# An address, not an access.
_UNTOUCHED: Final = frozenset({"cldemote", "invlpg", "lea", "nop", "reservednop", "ud0", "ud1"})
_UNTOUCHED_FAMILIES: Final = ("prefetch", "vgatherpf", "vscatterpf")
_STRING_WRITES: Final = ("movs", "stos", "ins")
_STACK_POINTERS: Final = frozenset({"sp", "esp", "rsp"})
_STACK_BASES: Final = frozenset({"bp", "ebp", "rbp", "sp", "esp", "rsp"})
_STACK: Final = word_set(
    "call enter erets eretu iret iretd iretq leave pop popa popad popf popfd popfq push pusha pushad pushf pushfd "
    "pushfq ret retf uiret"
)
_SP, _BP, _DI = 4, 5, 7
_REPEATED: Final[dict[Access, Access]] = {"read": "cond-read", "write": "cond-write"}


def is_stack(parsed: Parsed) -> bool:
    return parsed.operation in _STACK


def operands(parsed: Parsed) -> tuple[MemoryOperand, ...]:
    spelt_out = tuple(
        _encoded(operand, parsed, _access(parsed, number))
        for number, operand in enumerate(parsed.operands)
        if isinstance(operand, Memory)
    )
    return (*spelt_out, *_implicit(parsed), *_stack(parsed))


def _encoded(memory: Memory, parsed: Parsed, access: Access) -> MemoryOperand:
    width = address_width(memory, parsed.scan)
    displacement = memory.displacement
    if parsed.operation == "pop" and memory.base in _STACK_POINTERS:  # counted from behind the pop (SDM vol. 2B, POP)
        displacement += stack_width(parsed) // 8
    return MemoryOperand(
        segment=memory.segment or ("ss" if memory.base in _STACK_BASES else "ds"),
        base=memory.base,
        index=memory.indexed,
        scale=memory.scale,
        displacement=displacement & (1 << width) - 1,
        address_size=width,
        size=memory.size,
        access=access,
        implicit=parsed.string,
        rip_relative=memory.rip_relative,
    )


def address_width(memory: Memory, scanned: Scan) -> int:
    """In bits: what the registers are, or else the code's."""
    for name in (memory.base, memory.indexed):
        if name is None or name[1:3] == "mm" or name == "al":
            continue
        if name[0] == "e" or name[-1] == "d":
            return 32
        return 64 if name[0] == "r" else 16
    return scanned.address_size


def _access(parsed: Parsed, number: int) -> Access:
    name = parsed.operation
    if parsed.string:
        access: Access = "write" if number == 0 and name.startswith(_STRING_WRITES) else "read"
        return _REPEATED[access] if parsed.scan.repeat else access
    if name in _UNTOUCHED or name.startswith(_UNTOUCHED_FAMILIES):
        return "none"
    if name == "lwpval":
        return "cond-read"
    if number == 0:
        if name in _READ_WRITE or (name.startswith("cmp") and name.endswith("xadd")):
            return "read-write"
        if name in _COMPARES_AND_WRITES:
            return "read-cond-write"
        if name.startswith(("vscatter", "vpscatter")):
            return "cond-write"
        if name in _WRITES or name.startswith(_WRITE_FAMILIES):
            return "write"
    elif name == "xchg":
        return "read-write"
    return "read"


# -- memory that ModRM does not spell out ----------------------------------------------------------------

MASKED_MOVES: Final = {"maskmovq": 8, "maskmovdqu": 16, "vmaskmovdqu": 16}
_DIRECT_STORES: Final = frozenset({"movdir64b", "enqcmd", "enqcmds"})


def _implicit(parsed: Parsed) -> Iterator[MemoryOperand]:
    scanned, name = parsed.scan, parsed.operation
    segment = scanned.segment or "ds"
    if size := MASKED_MOVES.get(name):
        yield _through(general(_DI, scanned.address_size), segment, size, "write", scanned.address_size)
    elif name in _DIRECT_STORES:
        if isinstance(parsed.operands[0], Register):
            yield _through(parsed.operands[0].name, "es", 64, "write", scanned.address_size)
    elif name == "umonitor" and isinstance(parsed.operands[0], Register):
        yield _through(parsed.operands[0].name, segment, 1, "read", scanned.address_size)
    elif name == "llwpcb" and isinstance(parsed.operands[0], Register):
        yield _through(parsed.operands[0].name, "ds", 0, "read", 64 if scanned.wide else 32)


def _through(base: str, segment: str, size: int, access: Access, width: int) -> MemoryOperand:
    return MemoryOperand(segment, base, None, 1, 0, width, size, access, implicit=True)


# -- the stack -------------------------------------------------------------------------------------------


def _stack(parsed: Parsed) -> Iterable[MemoryOperand]:
    """What PUSH, CALL, RET and the like touch, in the order in which they do."""
    name, bits = parsed.operation, parsed.scan.bitness
    if name not in _STACK:
        return ()
    width = stack_width(parsed) // 8
    match name:
        case "pusha" | "pushad":
            return _pushes(bits, width, 8)
        case "popa" | "popad":
            return _pops(bits, width, (0, 1, 2, 4, 5, 6, 7))  # SP's own value is skipped
        case "enter":
            return _enter(parsed, width)
        case "call":
            return _pushes(bits, width, 2 if parsed.far else 1)
        case "leave":
            return (_touched(_BP, 0, bits, width, "read"),)
        case "iret" | "iretd" | "iretq":
            return _pops(bits, width, range(5 if bits == 64 else 3))
        case "erets" | "eretu":
            return _pops(bits, 8, range(6))
        case "uiret":
            return _pops(bits, 8, range(3))
        case "retf":
            return _pops(bits, width, range(2))
        case _ if name.startswith("push"):
            return _pushes(bits, width, 1)
        case _:
            return _pops(bits, width, range(1))


def stack_width(parsed: Parsed) -> int:
    """In bits; near branches, pushes and pops have 64 in 64-bit code without asking."""
    scanned, name = parsed.scan, parsed.operation
    if scanned.bitness != 64 or scanned.wide:
        return scanned.operand_size
    if name in {"ret", "call"} and not parsed.far:
        return 64
    if OPERAND_SIZE in scanned.prefixes:
        return 16
    return 32 if parsed.far or name.startswith("iret") else 64


def _enter(parsed: Parsed, width: int) -> list[MemoryOperand]:
    """The frame pointer; with a level, the frame pointers of the levels outside, and the new one."""
    bits = parsed.scan.bitness
    level = parsed.operands[1].value & 31 if isinstance(parsed.operands[1], Immediate) else 0
    out = [_touched(_SP, -width, bits, width, "write")]
    for outer in range(1, level):
        out.append(_touched(_BP, -width * outer, bits, width, "read"))
        out.append(_touched(_SP, -width * (outer + 1), bits, width, "write"))
    if level:
        out.append(_touched(_SP, -width * (level + 1), bits, width, "write"))
    return out


def _pushes(bits: int, width: int, count: int) -> list[MemoryOperand]:
    return [_touched(_SP, -width * (number + 1), bits, width, "write") for number in range(count)]


def _pops(bits: int, width: int, places: Iterable[int]) -> list[MemoryOperand]:
    return [_touched(_SP, width * place, bits, width, "read") for place in places]


def _touched(base: int, displacement: int, bits: int, size: int, access: Access) -> MemoryOperand:
    return MemoryOperand(
        segment="ss",
        base=general(base, bits),
        index=None,
        scale=1,
        displacement=displacement & (1 << bits) - 1,
        address_size=bits,
        size=size,
        access=access,
        implicit=True,
        stack=True,
    )
