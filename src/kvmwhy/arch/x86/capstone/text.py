"""The instruction as text, in the manner of iced-x86's formatters: what our JSON has."""

from __future__ import annotations

from typing import Final

from kvmwhy.arch.x86.capstone.memory import address_width
from kvmwhy.arch.x86.capstone.values import Branch, FarPointer, Immediate, Memory, Operand, Parsed, Register, word_set

_KEYWORDS: Final = {
    1: "byte",
    2: "word",
    4: "dword",
    6: "fword",
    8: "qword",
    10: "tbyte",
    16: "xmmword",
    32: "ymmword",
    64: "zmmword",
    14: "fpuenv14",
    28: "fpuenv28",
    94: "fpustate94",
    108: "fpustate108",
}
_ENVIRONMENTS: Final = frozenset({14, 28, 94, 108})
# A register beside it does not tell the operand's size in these.
_SHOWN: Final = word_set(
    "bound crc32 cvtsi2sd cvtsi2ss movsx movzx vcvtpd2ph vcvtqq2ph vcvtsi2sd vcvtsi2sh vcvtsi2ss vcvtuqq2ph vcvtusi2sd "
    "vcvtusi2sh vcvtusi2ss vfpclasspd vfpclassph vfpclassps"
)
# Nor in these, unless the operand has 64 bytes: the destination is XMM for two sizes.
_SHOWN_IF_SHORT: Final = word_set(
    "vcvtdq2ph vcvtneps2bf16 vcvtpd2dq vcvtpd2ps vcvtpd2udq vcvtps2phx vcvtqq2ps vcvttpd2dq vcvttpd2udq vcvtudq2ph "
    "vcvtuqq2ps"
)
# One size only is possible.
_HIDDEN: Final = word_set(
    "aesdecwide128kl aesdecwide256kl aesencwide128kl aesencwide256kl cldemote clflush clflushopt clrssbsy clwb "
    "cmpxchg16b cmpxchg8b fldcw fnstcw fnstsw fxrstor fxrstor64 fxsave fxsave64 invlpg ldmxcsr ldtilecfg lgdt lidt "
    "lkgs lldt lmsw ltr nop reservednop rstorssp sgdt shld shrd sidt sldt smsw stmxcsr str sttilecfg verr verw "
    "vldmxcsr vmclear vmptrld vmptrst vmxon vstmxcsr xlatb xrstor xrstor64 xrstors xrstors64 xsave xsave64 xsavec "
    "xsavec64 xsaveopt xsaveopt64 xsaves xsaves64"
)
_HIDDEN_FAMILIES: Final = ("prefetch", "set", "vgatherpf", "vscatterpf")
# With a mask as an operand of its own.
_MASK_OPERAND: Final = ("vgather", "vpgather", "vscatter", "vpscatter")


def number(value: int) -> str:
    return str(value) if value < 10 else f"{value:#x}"


def shows_size(memory: Memory, parsed: Parsed) -> bool:
    """Whether the operand's size has to be written, as nothing else tells it."""
    name, scanned = parsed.operation, parsed.scan
    if memory.size in _ENVIRONMENTS:
        return (memory.size in {14, 94}) == (scanned.bitness != 16)
    if name in _SHOWN:
        return True
    if name in _SHOWN_IF_SHORT:
        return memory.size < 64
    if name in _HIDDEN or name.startswith(_HIDDEN_FAMILIES):
        return False
    if scanned.legacy and scanned.number == 0 and 0xD8 <= (scanned.opcode or 0) <= 0xDF:
        return True
    counts = scanned.legacy and scanned.number == 0 and scanned.opcode in {0xD2, 0xD3}  # by CL
    return counts or not any(isinstance(operand, Register) for operand in parsed.operands)


def _broadcasts(memory: Memory, parsed: Parsed) -> str:
    if not (parsed.scan.encoding == "evex" and parsed.scan.broadcast and memory.size):
        return ""
    return f"{{1to{(16 << parsed.scan.vector) // memory.size}}}"


def _masks(parsed: Parsed) -> str:
    scanned = parsed.scan
    if not scanned.mask:
        return ""
    return f"{{k{scanned.mask}}}" + "{z}" * scanned.zeroing


def intel(parsed: Parsed) -> str:
    shown = [_intel(operand, parsed) for operand in _shown(parsed)]
    if shown and parsed.scan.mask and parsed.operation.startswith(_MASK_OPERAND):
        shown.insert(1, f"k{parsed.scan.mask}")
    elif shown:
        shown[0] += _masks(parsed)
    if shown and parsed.rounding:
        shown[0] += "{" + parsed.rounding.replace("rn-", "rne-") + "}"
    return " ".join((*parsed.words, parsed.printed, ",".join(shown))).rstrip()


def _shown(parsed: Parsed) -> tuple[Operand, ...]:
    """The operands of the text, with the sizes of those that were put right."""
    if parsed.shown is None:
        return parsed.operands
    sizes = [operand.size for operand in parsed.operands if isinstance(operand, Memory)]
    out = []
    for operand in parsed.shown:
        if isinstance(operand, Memory) and operand.size and sizes:
            operand = operand._replace(size=sizes[0])  # noqa: PLW2901 -- the same operand
        out.append(operand)
    return tuple(out)


def _intel(operand: Operand, parsed: Parsed) -> str:
    match operand:
        case Register(name):
            return name
        case Immediate(value) | Branch(value):
            return number(value)
        case FarPointer(selector, offset):
            return f"{number(selector)}:{number(offset)}"
        case Memory():
            return _intel_memory(operand, parsed)


def _segment(memory: Memory, parsed: Parsed) -> str:
    """A segment that has an effect and is not the one without a prefix."""
    name = memory.segment
    if name is None or (parsed.scan.bitness == 64 and name in {"cs", "ds", "ss"}):
        return ""
    if parsed.scan.bitness == 64 and name == "es" and not parsed.string:
        return ""
    default = "ss" if memory.base in {"bp", "ebp", "sp", "esp"} else "ds"
    return "" if name == default else name


def _intel_memory(memory: Memory, parsed: Parsed) -> str:
    broadcast = _broadcasts(memory, parsed)
    size = f"{_KEYWORDS[memory.size]} ptr " if memory.size and not broadcast and shows_size(memory, parsed) else ""
    segment = _segment(memory, parsed)
    inside = memory.base or ""
    if memory.indexed:
        scaled = memory.indexed if memory.scale == 1 and memory.base else f"{memory.indexed}*{memory.scale}"
        inside += f"+{scaled}" if inside else scaled
    if not inside:
        inside = number(_absolute(memory, parsed))
    elif memory.displacement:
        inside += ("-" if memory.displacement < 0 else "+") + number(abs(memory.displacement))
    return f"{size}{segment + ':' if segment else ''}[{inside}]{broadcast}"


def _absolute(memory: Memory, parsed: Parsed) -> int:
    return memory.displacement & (1 << address_width(memory, parsed.scan)) - 1


# -- AT&T ------------------------------------------------------------------------------------------------

_SUFFIXES: Final = {1: "b", 2: "w", 4: "l", 8: "q"}
_FLOATS: Final = {4: "s", 8: "l", 10: "t"}
_INTEGERS: Final = {2: "s", 4: "l", 8: "ll"}
_CONVERSIONS: Final = {"cbw": "cbtw", "cwde": "cwtl", "cdqe": "cltq", "cwd": "cwtd", "cdq": "cltd", "cqo": "cqto"}
_STACK_SIZED: Final = frozenset({"push", "pop", "ret", "retf", "enter", "leave"})


def att(parsed: Parsed) -> str:
    operands = list(_shown(parsed))
    if parsed.string:
        operands = list(parsed.operands)
    if parsed.scan.legacy and 0xD8 <= (parsed.scan.opcode or 0) <= 0xDF and parsed.scan.memory:
        operands = list(parsed.operands)
    shown = [_att(operand, parsed) for operand in operands]
    if shown:
        shown[0] += _masks_att(parsed)
    shown.reverse()
    if parsed.rounding:
        shown.insert(0, "{" + parsed.rounding + "}")
    words = [word for word in parsed.words if not _in_suffix(word, parsed)]
    return " ".join((*words, _att_name(parsed), ",".join(shown))).rstrip()


def _in_suffix(word: str, parsed: Parsed) -> bool:
    return word.startswith("data") and parsed.operation in _STACK_SIZED


def _masks_att(parsed: Parsed) -> str:
    return _masks(parsed).replace("{k", "{%k")


def _att_name(parsed: Parsed) -> str:
    name, scanned = parsed.operation if parsed.printed.endswith(" far") else parsed.printed, parsed.scan
    if name in _CONVERSIONS:
        return _CONVERSIONS[name]
    memory = next((operand for operand in parsed.operands if isinstance(operand, Memory)), None)
    size = memory.size if memory else 0
    if scanned.legacy and scanned.number == 0 and 0xD8 <= (scanned.opcode or 0) <= 0xDF and memory is not None:
        integers = name.startswith("fi")
        return name + (_INTEGERS if integers else _FLOATS).get(size, "") if shows_size(memory, parsed) else name
    if name in {"movzx", "movsx"}:
        source = size or _width_of(parsed.operands[1])
        return f"mov{name[3]}{_SUFFIXES[source]}{_SUFFIXES[_width_of(parsed.operands[0])]}"
    if any(word.startswith("data") for word in parsed.words) and parsed.operation in _STACK_SIZED:
        return parsed.operation + ("l" if scanned.bitness == 16 else "w")
    if memory is not None and not parsed.string and size in _SUFFIXES and shows_size(memory, parsed):
        return name + _SUFFIXES[size]
    return name


def _width_of(operand: Operand) -> int:
    from kvmwhy.arch.x86.capstone.form import register_width

    return register_width(operand.name) // 8 if isinstance(operand, Register) else 0


def _att(operand: Operand, parsed: Parsed) -> str:
    through = "*" if parsed.operation in {"call", "jmp"} else ""
    match operand:
        case Register(name):
            return f"{through}%{name}"
        case Immediate(value):
            return f"${number(value)}"
        case Branch(value):
            return number(value)
        case FarPointer(selector, offset):
            return f"${number(selector)},${number(offset)}"
        case Memory():
            return through + _att_memory(operand, parsed)


def _att_memory(memory: Memory, parsed: Parsed) -> str:
    segment = _segment(memory, parsed)
    inside = f"%{memory.base}" if memory.base else ""
    if memory.indexed:
        inside += f",%{memory.indexed}" + (f",{memory.scale}" if memory.scale != 1 else "")
    if not inside:
        address = number(_absolute(memory, parsed))
    else:
        displacement = memory.displacement
        address = ("-" * (displacement < 0) + number(abs(displacement)) if displacement else "") + f"({inside})"
    return (f"%{segment}:" if segment else "") + address + _broadcasts(memory, parsed)
