"""How many bytes an operand in memory has, where capstone says another number or none."""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.capstone.values import Memory, Parsed, word_set

# Of the SDM's operand columns. 0: the bytes of the instruction do not fix it, or it is an address only.
_FIXED: Final = {
    **dict.fromkeys(
        word_set(
            "lea invlpg xsave xsave64 xrstor xrstor64 xsaveopt xsaveopt64 xrstors xrstors64 xsavec xsavec64 xsaves "
            "xsaves64"
        ),
        0,
    ),
    **dict.fromkeys(
        word_set(
            "prefetch prefetchw prefetchwt1 prefetchnta prefetcht0 prefetcht1 prefetcht2 prefetchit0 prefetchit1 "
            "cldemote clflush clflushopt clwb"
        ),
        1,
    ),
    **dict.fromkeys(word_set("fldcw fnstcw fnstsw sldt str lldt ltr verr verw smsw lmsw arpl lkgs"), 2),
    **dict.fromkeys(word_set("clrssbsy rstorssp vmptrld vmptrst vmclear vmxon movntsd comisd"), 8),
    **dict.fromkeys(word_set("fxsave fxsave64 fxrstor fxrstor64"), 512),
    **dict.fromkeys(word_set("movdir64b enqcmd enqcmds"), 64),
}
_DESCRIPTOR_TABLE: Final = frozenset({"sgdt", "sidt", "lgdt", "lidt"})
_ENVIRONMENT: Final = {"fldenv": (14, 28), "fnstenv": (14, 28), "frstor": (94, 108), "fnsave": (94, 108)}
_FAR_POINTERS: Final = frozenset({"lds", "les", "lss", "lfs", "lgs"})
# Of a general register's size: capstone loses 66 behind F2 and F3.
_BY_OPERAND_SIZE: Final = frozenset(
    {0x0D, *range(0x18, 0x20), *range(0x40, 0x50), 0xA3, 0xA4, 0xA5, 0xAB, 0xAC, 0xAD, 0xAF, 0xB1, 0xB3, 0xB8, 0xB9}
    | {0xBA, 0xBB, 0xBC, 0xBD, 0xC1, 0xFF}
)
_OWN: Final = frozenset({"nop", "reservednop", "ud0", "ud1"})


def put_right(parsed: Parsed) -> Parsed:
    if not any(isinstance(operand, Memory) for operand in parsed.operands):
        return parsed
    return parsed._replace(
        operands=tuple(
            operand._replace(size=_size(operand, parsed)) if isinstance(operand, Memory) else operand
            for operand in parsed.operands
        )
    )


def _size(memory: Memory, parsed: Parsed) -> int:
    """In bytes; of a vector of addresses (VSIB) one element's."""
    name, scanned = parsed.operation, parsed.scan
    if (fixed := _FIXED.get(name)) is not None:
        return fixed
    if name in _DESCRIPTOR_TABLE:
        return 10 if scanned.bitness == 64 else 6
    if environment := _ENVIRONMENT.get(name):
        return environment[scanned.operand_size != 16]
    if name in _FAR_POINTERS or parsed.far:
        return 2 + scanned.operand_size // 8
    if memory.indexed is not None and memory.indexed[1:3] == "mm":
        return 8 if scanned.wide else 4
    if scanned.legacy and scanned.number == 1 and scanned.opcode in _BY_OPERAND_SIZE:
        hint = scanned.opcode == 0x0D or 0x18 <= (scanned.opcode or 0) < 0x20
        if not hint or name in _OWN:
            return scanned.operand_size // 8
    if scanned.legacy and scanned.number == 2 and name == "movbe":
        return scanned.operand_size // 8
    if scanned.legacy and scanned.number == 0 and scanned.opcode == 0x63 and name == "movsxd":
        return 2 if scanned.operand_size == 16 else 4
    if scanned.legacy and scanned.number == 0 and name in {"push", "pop"} and scanned.wide:
        return 8
    return memory.size
