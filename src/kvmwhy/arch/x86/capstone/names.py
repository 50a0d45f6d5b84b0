"""Names and operands as the manuals have them, where capstone's are others."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.arch.x86.capstone.scan import ADDRESS_SIZE, LOCK, OPERAND_SIZE, REP, REPNE, Scan
from kvmwhy.arch.x86.capstone.values import Immediate, Memory, Operand, Parsed, Register, general, low_half, word_set

_RENAMED: Final = {
    "lcall": "call",
    "ljmp": "jmp",
    "movabs": "mov",
    "fcompi": "fcomip",
    "fucompi": "fucomip",
    "feni8087_nop": "fneni",
    "fdisi8087_nop": "fndisi",
    "fsetpm": "fnsetpm",
    "retfq": "retf",
}
# EVEX.W chooses the width of elements in these; capstone has the narrow name for both.
_WIDENED: Final = {
    "vmovdqa32": "vmovdqa64",
    "vmovdqu32": "vmovdqu64",
    **{
        f"v{name}{kind}32x{count}": f"v{name}{kind}64x{count // 2}"
        for name in ("broadcast", "insert", "extract", "shuf")
        for kind in "fi"
        for count in (4, 8)
    },
}
# A comparison whose predicate, an immediate, is in the name.
_PREDICATED: Final = re.compile(r"(v?cmp)[a-z]{2,5}(?:_[a-z]{1,3})?([ps][sdh])|(vpcmp|vpcom)[a-z]{2,5}?(u?[bwdq])")
_PREDICATES: Final = frozenset({0xC2, 0x1E, 0x1F, 0x3E, 0x3F})
_DATA: Final = {16: "data32", 32: "data16", 64: "data16"}
_ADDRESS: Final = {16: "addr32", 32: "addr16", 64: "addr32"}
_BRANCHES: Final = frozenset({0xE0, 0xE1, 0xE2, 0xE3, 0xE8, 0xE9, 0xEB})
_LOOPS: Final = frozenset({0xE0, 0xE1, 0xE2})
_TRANSACTIONAL: Final = frozenset({0x88, 0x89, 0xC6, 0xC7})  # moves to memory, which may release a lock
_WIDE_NAMES: Final = {
    "pcmpestrm": "pcmpestrm64",
    "pcmpestri": "pcmpestri64",
    "getsec": "getsecq",
    "vpcmpestrm": "vpcmpestrm64",
    "vpcmpestri": "vpcmpestri64",
}
# The general register of these has the size that REX.W asks for, and is written with 32 bits.
_WIDE_REGISTER: Final = word_set(
    "movmskps movmskpd vmovmskps vmovmskpd tpause umwait pinsrw vpinsrw pextrw vpextrw pmovmskb vpmovmskb pextrb "
    "vpextrb extractps vextractps pinsrb vpinsrb"
)
_SELECTORS: Final = frozenset({"lldt", "ltr", "verr", "verw", "lmsw"})
_THROUGH_RAX: Final = frozenset({"vmrun", "vmload", "vmsave", "invlpga"})
_WITH_ADDRESS: Final = frozenset({"clzero", "invlpgb", "pvalidate"})
_PREFETCHES: Final = ("vgatherpf", "vscatterpf")
_ADDRESS_WORD: Final = frozenset({"monitor", "monitorx"})


def put_right(parsed: Parsed) -> Parsed:
    name = parsed.mnemonic
    scanned = parsed.scan
    name = _RENAMED.get(name, name)
    if scanned.encoding == "evex" and scanned.wide:
        name = _WIDENED.get(name, name)
    if scanned.wide:
        name = _WIDE_NAMES.get(name, name)
    if name != parsed.mnemonic:
        parsed = parsed.named(name)
    parsed = parsed._replace(words=_words(parsed))
    if scanned.legacy and scanned.number == 0:
        return _one_byte(parsed)
    if scanned.legacy and scanned.number == 1:
        parsed = _two_bytes(parsed)
    elif name in _WIDE_REGISTER or scanned.encoding != "legacy":
        parsed = _vector(parsed)
    return _predicate(parsed)


# -- prefixes --------------------------------------------------------------------------------------------


def _words(parsed: Parsed) -> tuple[str, ...]:
    """Prefixes that mean something to this instruction, as they are written before it."""
    scanned = parsed.scan
    if not scanned.legacy:
        return ()
    words = []
    if LOCK in scanned.prefixes:
        if scanned.repeat:
            words.append("xacquire" if scanned.repeat == REPNE else "xrelease")
        words.append("lock")
    elif scanned.repeat and parsed.mnemonic == "xchg" and scanned.memory and scanned.opcode in {0x86, 0x87}:
        words.append("xacquire" if scanned.repeat == REPNE else "xrelease")
    elif scanned.number == 0:
        words += _one_byte_words(parsed)
    if scanned.number == 1 and (scanned.opcode or 0) & 0xF0 == 0x80:
        words += _branch_words(scanned)
    if scanned.number == 1 and parsed.mnemonic in _ADDRESS_WORD and ADDRESS_SIZE in scanned.prefixes:
        words.append(_ADDRESS[scanned.bitness])
    return tuple(words)


def _one_byte_words(parsed: Parsed) -> list[str]:
    scanned = parsed.scan
    opcode = scanned.opcode or 0
    if parsed.string and scanned.repeat:
        compares = opcode in {0xA6, 0xA7, 0xAE, 0xAF}
        return ["repne" if scanned.repeat == REPNE else "repe" if compares else "rep"]
    if opcode & 0xF0 == 0x70 or opcode in {0xE8, 0xE9}:
        return _branch_words(scanned)
    if opcode in {0xC2, 0xC3}:
        return {REP: ["rep"], REPNE: ["bnd"]}.get(scanned.repeat, [])
    if opcode == 0xFF and scanned.operation in {2, 4}:
        words = ["notrack"] if scanned.segment == "ds" else []
        return ["bnd", *words] if scanned.repeat == REPNE else words
    if opcode in _TRANSACTIONAL and scanned.repeat == REP and scanned.memory:
        return ["xrelease"]
    return []


def _branch_words(scanned: Scan) -> list[str]:
    conditional = scanned.number == 1 or (scanned.opcode or 0) & 0xF0 == 0x70
    words = []
    if conditional and scanned.segment in {"cs", "ds"}:
        words.append("hint-not-taken" if scanned.segment == "cs" else "hint-taken")
    if scanned.repeat == REPNE:
        words.append("bnd")
    return words


def _sized(parsed: Parsed) -> Parsed:
    """A push, a pop or a return of another size than the code's: with its prefix, and in MASM's name."""
    scanned = parsed.scan
    if OPERAND_SIZE not in scanned.prefixes or (scanned.wide and scanned.bitness == 64):
        return parsed
    letter = "d" if scanned.bitness == 16 else "w"
    name = parsed.mnemonic
    mnemonic = {"retd": "retnd"}.get(name + letter, name + letter)
    return parsed._replace(mnemonic=mnemonic, words=(*parsed.words, _DATA[scanned.bitness]))


# -- opcodes of one byte ---------------------------------------------------------------------------------


def _one_byte(parsed: Parsed) -> Parsed:
    scanned = parsed.scan
    opcode, size, operands = scanned.opcode or 0, scanned.operand_size, parsed.operands
    match opcode:
        case 0x06 | 0x07 | 0x0E | 0x16 | 0x17 | 0x1E | 0x1F | 0x68 | 0x6A | 0xC9:
            return _sized(parsed)
        case 0xC8 if len(operands) == 2:
            space, level = operands
            if isinstance(space, Immediate) and isinstance(level, Immediate):
                return _sized(
                    parsed._replace(operands=(Immediate(space.value & 0xFFFF), Immediate(level.value & 0xFF)))
                )
        case 0x60 | 0x61:
            return _all_registers(parsed, "pusha" if opcode == 0x60 else "popa")
        case 0x63:
            return _movsxd_or_arpl(parsed)
        case 0x69 | 0x6B if len(operands) == 3 and operands[0] == operands[1]:
            return parsed._replace(shown=operands[1:])
        case 0x8D if isinstance(operands[1], Memory):
            return parsed._replace(shown=(operands[0], operands[1]._replace(segment=None)))
        case 0x8E if isinstance(operands[1], Register):
            return parsed._replace(shown=(operands[0], Register(low_half(operands[1].name, 16))))
        case 0x90 if parsed.mnemonic == "nop" and (scanned.wide or OPERAND_SIZE in scanned.prefixes):
            return _exchange_with_itself(parsed)
        case 0x98:
            return parsed.named({16: "cbw", 32: "cwde", 64: "cdqe"}[size])
        case 0x99:
            return parsed.named({16: "cwd", 32: "cdq", 64: "cqo"}[size])
        case 0x9B:
            return parsed._replace(printed="fwait")
        case 0xA0 | 0xA1 | 0xA2 | 0xA3 if ADDRESS_SIZE in scanned.prefixes:
            return parsed._replace(words=(*parsed.words, _ADDRESS[scanned.bitness]))
        case 0xC0 | 0xC1 | 0xD0 | 0xD1 | 0xD2 | 0xD3 if scanned.operation == 6:
            return parsed.named("sal")._replace(printed="shl")
        case 0xC2 | 0xC3 if scanned.bitness != 64:
            return _sized(parsed)
        case 0xCA | 0xCB:
            return _far_return(parsed)
        case 0xCC:
            return parsed._replace(mnemonic="int")
        case 0xD7:
            return _translate(parsed)
        case 0xFF if parsed.far:
            name = "call" if scanned.operation == 3 else "jmp"
            return parsed.named(name)._replace(printed=f"{name} far")
        case _ if 0xD8 <= opcode <= 0xDF:
            return _x87(parsed)
        case _ if opcode & 0xF0 == 0x70 or opcode in _BRANCHES:
            return _branch(parsed)
        case _ if parsed.string:
            return _string(parsed)
        case _:
            pass
    return parsed


def _all_registers(parsed: Parsed, name: str) -> Parsed:
    """PUSHA and POPA: in 16-bit code the plain name is the 16-bit one, in 32-bit code MASM's is the 32-bit one."""
    wide = parsed.scan.operand_size == 32
    printed = name + "d" * wide
    mnemonic = printed if parsed.scan.bitness == 16 else name + "w" * (not wide)
    return parsed.named(printed)._replace(mnemonic=mnemonic)


def _movsxd_or_arpl(parsed: Parsed) -> Parsed:
    size, operands = parsed.scan.operand_size, parsed.operands
    if parsed.mnemonic == "movsxd":
        if size == 16 and isinstance(operands[1], Register):
            return parsed._replace(operands=(operands[0], Register(low_half(operands[1].name, 16))))
        return parsed
    if size == 32:  # written with 16 bits
        widened = tuple(
            Register(f"e{operand.name}") if isinstance(operand, Register) else operand for operand in operands
        )
        return parsed._replace(operands=widened, shown=operands)
    return parsed


def _exchange_with_itself(parsed: Parsed) -> Parsed:
    """NOP of another operand size than the code's: XCHG of the accumulator with itself."""
    register = Register(general(0, parsed.scan.operand_size))
    return parsed.named("xchg")._replace(operation="nop", shown=(register, register))


def _far_return(parsed: Parsed) -> Parsed:
    scanned = parsed.scan
    operands = tuple(
        Immediate(operand.value & 0xFFFF) if isinstance(operand, Immediate) else operand for operand in parsed.operands
    )
    parsed = parsed._replace(operands=operands)
    if scanned.bitness == 64 and scanned.wide:
        words = (*parsed.words, "data64")
        return parsed._replace(printed="ret far", mnemonic="retfq", operation="retf", words=words)
    if OPERAND_SIZE in scanned.prefixes:
        return _sized(parsed)._replace(printed="ret far")
    return parsed


def _translate(parsed: Parsed) -> Parsed:
    scanned = parsed.scan
    memory = Memory(scanned.segment, general(3, scanned.address_size), "al", 1, 0, 1)
    plain = not _overrides(scanned) and ADDRESS_SIZE not in scanned.prefixes
    return parsed._replace(
        mnemonic="xlatb" if plain else "xlat",
        printed="xlat",
        operation="xlatb",
        operands=(memory,),
        shown=(memory._replace(indexed=None, size=0),),
    )


def _branch(parsed: Parsed) -> Parsed:
    scanned = parsed.scan
    words, name = parsed.words, parsed.mnemonic
    if OPERAND_SIZE in scanned.prefixes and scanned.bitness != 64:
        words = (_DATA[scanned.bitness], *words)
    if scanned.number == 0 and scanned.opcode in _LOOPS and ADDRESS_SIZE in scanned.prefixes:
        words = (*words, _ADDRESS[scanned.bitness])
        name += "w" if scanned.bitness == 32 else "d"
    return parsed._replace(words=words, mnemonic=name)


def _overrides(scanned: Scan) -> bool:
    return scanned.segment_counts and scanned.segment != "ds"


def _string(parsed: Parsed) -> Parsed:
    """The text has memory and the port only, and ES of the destination only beside another segment's prefix."""
    scanned = parsed.scan
    shown: list[Operand] = []
    operands: list[Operand] = []
    for operand in parsed.operands:
        if isinstance(operand, Memory):
            destination = operand.base in {"di", "edi", "rdi"}
            memory = operand._replace(segment="es") if destination else operand
            operands.append(memory)
            seen = memory.segment if _overrides(scanned) else None
            shown.append(memory._replace(segment=seen, size=0))
        else:
            operands.append(operand)
            if operand == Register("dx"):
                shown.append(operand)
    name = parsed.mnemonic
    only_address = name.startswith(("stos", "ins"))
    plain = (only_address or not _overrides(scanned)) and ADDRESS_SIZE not in scanned.prefixes
    return parsed._replace(operands=tuple(operands), shown=tuple(shown), mnemonic=name if plain else name[:-1])


_COMPARES: Final = frozenset({"fcom", "fcomp", "fucom", "fucomp", "fxch"})
_STORES: Final = frozenset({"fst", "fstp", "fist", "fistp", "fisttp", "fbstp"})
_WITH_TOP: Final = frozenset({"fcomi", "fucomi", "fcomip", "fucomip"})


def _x87(parsed: Parsed) -> Parsed:
    """ST is an operand of everything that works on two registers of the stack."""
    scanned = parsed.scan
    opcode, name, number = scanned.opcode or 0, parsed.mnemonic, (scanned.modrm or 0) & 7
    top, other = Register("st"), Register(f"st({number})")
    if scanned.memory:
        return parsed._replace(shown=(*parsed.operands, top)) if name in _STORES else parsed
    if name in _COMPARES:
        return parsed._replace(operands=(top, other), shown=() if number == 1 else (other,))
    if opcode == 0xD8 or name in _WITH_TOP or name.startswith("fcmov"):
        return parsed._replace(operands=(top, other))
    if opcode in {0xDC, 0xDE} and name != "fcompp":
        return parsed._replace(operands=(other, top), shown=() if opcode == 0xDE and number == 1 else None)
    if name in {"fst", "fstp", "fstpnce"}:
        return parsed._replace(mnemonic=name.removesuffix("nce"), operands=(other,), shown=(other, top))
    if parsed.operands and not (opcode == 0xDF and scanned.operation == 4):
        return parsed._replace(operands=(other,))
    return parsed


# -- opcodes behind 0F -----------------------------------------------------------------------------------


def _two_bytes(parsed: Parsed) -> Parsed:
    scanned = parsed.scan
    opcode, name, operands = scanned.opcode or 0, parsed.mnemonic, parsed.operands
    if name in {"sgdt", "sidt", "lgdt", "lidt"}:
        if OPERAND_SIZE in scanned.prefixes and scanned.bitness != 64:
            return parsed._replace(mnemonic=name + ("d" if scanned.bitness == 16 else "w"))
        return parsed
    if name in _SELECTORS and operands and isinstance(operands[0], Register):
        number = ((scanned.modrm or 0) & 7) + (scanned.rex & 1) * 8
        wide = Register(general(number, scanned.operand_size))
        return parsed._replace(operands=(wide,), shown=(Register(low_half(wide.name, 16)),))
    if name in _THROUGH_RAX and opcode == 0x01:
        address = Register(general(0, scanned.address_size))
        return parsed._replace(operands=(), shown=(address, Register("ecx")) if name == "invlpga" else (address,))
    if opcode == 0x01 and name in _WITH_ADDRESS:
        return parsed._replace(operands=(), shown=(Register(general(0, scanned.address_size)),))
    if opcode == 0x01 and name == "skinit":
        return parsed._replace(operands=(), shown=(Register("eax"),))
    if name in {"lar", "lsl"} and scanned.wide and isinstance(operands[1], Register):
        number = ((scanned.modrm or 0) & 7) + (scanned.rex & 1) * 8
        return parsed._replace(operands=(operands[0], Register(general(number, 64))))
    if opcode in {0xA0, 0xA1, 0xA8, 0xA9}:
        return _sized(parsed)
    if opcode & 0xF0 == 0x80:
        return _branch(parsed)
    return _vector(parsed)


def _vector(parsed: Parsed) -> Parsed:
    if parsed.mnemonic.startswith(_PREFETCHES):  # capstone lists the mask
        return parsed._replace(operands=tuple(operand for operand in parsed.operands if isinstance(operand, Memory)))
    if parsed.mnemonic in _WIDE_REGISTER and parsed.scan.wide:
        general_names = {
            operand.name for operand in parsed.operands if isinstance(operand, Register) and _is_general(operand.name)
        }
        if general_names:
            widened = tuple(
                Register(_widened(operand.name))
                if isinstance(operand, Register) and operand.name in general_names
                else operand
                for operand in parsed.operands
            )
            narrow = tuple(
                Register(low_half(operand.name, 32))
                if isinstance(operand, Register) and operand.name in general_names
                else operand
                for operand in parsed.operands
            )
            return parsed._replace(operands=widened, shown=narrow)
    return parsed


def _is_general(name: str) -> bool:
    return name[0] in "er" and name != "es"


def _widened(name: str) -> str:
    return "r" + name[1:].rstrip("d") if name[1].isdigit() else "r" + name[-2:]


def _predicate(parsed: Parsed) -> Parsed:
    """A form has the comparison with its immediate; the text has the predicate in the name."""
    scanned = parsed.scan
    if scanned.encoding != "xop" and scanned.opcode not in _PREDICATES:
        return parsed
    predicated = _PREDICATED.fullmatch(parsed.mnemonic)
    if predicated is None or any(isinstance(operand, Immediate) for operand in parsed.operands):
        return parsed
    scalar, kind, vector, width = predicated.groups()
    return parsed._replace(
        operation=(scalar or vector) + (kind or width),
        shown=parsed.shown or parsed.operands,
        operands=(*parsed.operands, Immediate(0)),
    )
