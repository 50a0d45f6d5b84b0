"""Every encoding that iced-x86 knows, made to order: bytes whose memory operand is where a probe expects it.

Nothing is listed by hand: each of iced's opcodes is built from its ``OpCodeInfo`` and encoded. An operand in
memory is at [BX], [EBX] or [RBX]; of string instructions at SI or DI; of the others at the stack pointer.
iced-x86 has the encoder: where it is not installed, nothing can be built here, and ``text_of`` asks the other decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    import iced_x86

Mode = Literal["real16", "prot16", "prot32", "long64"]
Side = Literal["bx", "di", "sp"]  # which pointer leads to the operand: BX and SI, DI, or the stack pointer
Kind = Literal["iced", "lock", "rep", "repne", "grid", "group", "check"]

MODES: Final[tuple[Mode, ...]] = ("real16", "prot16", "prot32", "long64")
BITNESS: Final[dict[Mode, int]] = {"real16": 16, "prot16": 16, "prot32": 32, "long64": 64}
# What a relative branch counts from, and leads to: behind any instruction, within reach of one byte.
ORIGIN, TARGET = 0x100, 0x140
LANDING: Final = 0x1800  # where far branches lead to; see guest.py
CODE_SELECTOR: Final[dict[Mode, int]] = {"real16": 0, "prot16": 0x20, "prot32": 0x08, "long64": 0x18}
_OPERAND: Final = 0x401100  # its linear address, for what has it as a constant; 16-bit code has an offset


class Form(NamedTuple):
    """One encoding. ``text`` is Intel's syntax. ``defined``: CPUs that are made today may have it.

    ``accesses`` memory through ``side``; ``vector`` is where it goes if it is carried out and is a
    software interrupt. ``data`` names what the operand should hold, for ``data.py``.
    """

    mode: Mode
    code: bytes
    text: str
    kind: Kind = "iced"
    side: Side = "bx"
    memory: bool = True  # it has an operand in memory, spelt out or not
    defined: bool = True
    vector: int | None = None
    data: str = "pattern"
    size: int = 0  # the operand size in bits, where data depends on it
    steady: bool = True  # the same every time, so that two runs can be compared


class _Tables(NamedTuple):
    operands: dict[int, str]
    opcodes: dict[int, str]
    registers: dict[str, Any]
    kinds: dict[str, Any]


@cache
def _tables() -> _Tables:
    import iced_x86

    def named(of: object) -> dict[str, Any]:
        return {name: value for name, value in vars(of).items() if isinstance(value, int) and name.isupper()}

    return _Tables(
        operands={value: name for name, value in named(iced_x86.OpCodeOperandKind).items()},
        opcodes={value: name for name, value in named(iced_x86.Code).items()},
        registers=named(iced_x86.Register),
        kinds=named(iced_x86.OpKind),
    )


# -- one operand ---------------------------------------------------------------------------------------

# By what an operand's kind ends with: the register's number. RBX and the stack pointer stay free.
_NUMBER: Final = {"REG": 2, "VVVV": 1, "RM": 0, "MEM": 0, "MPX": 0, "IS4": 3, "IS5": 3, "OPCODE": 2}
_GPR: Final = {
    "R8": ("AL", "CL", "DL", "BL"),
    "R16": ("AX", "CX", "DX", "BX"),
    "R32": ("EAX", "ECX", "EDX", "EBX"),
    "R64": ("RAX", "RCX", "RDX", "RBX"),
}
_VECTOR: Final = {"XMM": "XMM{}", "YMM": "YMM{}", "ZMM": "ZMM{}", "MM": "MM{}", "K": "K{}", "TMM": "TMM{}"}
_SPECIAL: Final = {"BND": "BND{}", "CR": "CR2", "DR": "DR0", "TR": "TR3", "SEG": "FS", "STI": "ST1", "KP1": "K2"}
_FIXED: Final = {"AL", "AX", "EAX", "RAX", "CL", "DX", "ES", "CS", "SS", "DS", "FS", "GS", "ST0"}
_STRINGS: Final = {"SEG_RSI", "SEG_RDI", "ES_RDI"}
_IMMEDIATES: Final = {
    "IMM8": ("IMMEDIATE8", 5),
    "IMM8_CONST_1": ("IMMEDIATE8", 1),
    "IMM4_M2Z": ("IMMEDIATE8", 0),
    "IMM8SEX16": ("IMMEDIATE8TO16", 5),
    "IMM8SEX32": ("IMMEDIATE8TO32", 5),
    "IMM8SEX64": ("IMMEDIATE8TO64", 5),
    "IMM16": ("IMMEDIATE16", 0x10),
    "IMM32": ("IMMEDIATE32", 0x12345678),
    "IMM32SEX64": ("IMMEDIATE32TO64", 0x12345678),
    "IMM64": ("IMMEDIATE64", 0x1122334455667788),
}
_VECTORED: Final = {"INT1": 1, "INT3": 3, "INT_IMM8": 0x21, "INTO": 4}  # as this module encodes them
_PORT: Final = 0x80
_BIT_TESTS: Final = ("BT_", "BTS_", "BTR_", "BTC_")  # their register is an index into memory: AX is small
# Time, chance and counters; HLT, which is how a run ends; and what the manual calls undefined.
_UNSTEADY: Final = ("RDTSC", "RDRAND", "RDSEED", "RDPMC", "RDPRU", "HLT", "BSWAP_R16")
# They read no operand in the way that others do, or would not come back: no such variant is built.
_NOT_BUILT: Final = ("INVALID", "DECLARE", "ZERO_BYTES")


def _is_memory(kind: str) -> bool:
    return kind.startswith("MEM") or kind in {"SIBMEM", "SEG_RBX_AL"} or kind in _STRINGS


def _can_be_memory(kind: str) -> bool:
    return "_OR_MEM" in kind or _is_memory(kind)


def _register(kind: str, position: int) -> str:
    """The register of an operand of that kind; ``position`` keeps operands of one kind apart."""
    if kind in _FIXED:
        return kind
    family, _, rest = kind.partition("_")
    family = family.removesuffix("P3")
    number = _NUMBER[rest.rpartition("_")[2] or rest]
    if kind.endswith("REG_MEM"):  # its value is an address: DI, which leads to RAM
        return {"R16": "DI", "R32": "EDI", "R64": "RDI"}[family]
    if family in _GPR:
        return _GPR[family][number]
    if family in _VECTOR:
        number = number or (4 + position if family == "TMM" else 0)
        return _VECTOR[family].format(number if family != "K" or number else 4)
    return _SPECIAL[family].format(number)


def _instruction(code: Any, mode: Mode, *, memory: bool) -> iced_x86.Instruction | None:
    """That opcode with operands; with its register-or-memory operand in memory, if asked so."""
    import iced_x86

    tables, info = _tables(), iced_x86.OpCodeInfo(code)
    registers, kinds = tables.registers, tables.kinds
    bitness = BITNESS[mode]
    instruction = iced_x86.Instruction()
    instruction.code = code
    seen_immediate = False
    for number in range(info.op_count):
        kind = tables.operands[info.op_kind(number)]
        if (_is_memory(kind) and kind not in _STRINGS) or (memory and "_OR_MEM" in kind):
            _put_memory(instruction, number, kind, bitness)
        elif kind in _STRINGS:
            word = {16: "", 32: "E", 64: "R"}[bitness]
            instruction.set_op_kind(number, kinds["MEMORY_" + kind.replace("_R", "_" + word).replace("ES_", "ES")])
        elif kind in _IMMEDIATES:
            name, value = _IMMEDIATES[kind]
            if kind == "IMM8" and seen_immediate:
                name = "IMMEDIATE8_2ND"
            seen_immediate = True
            _put_immediate(instruction, number, kinds[name], _value(tables.opcodes[code], kind, value, number))
        elif kind.startswith(("BR", "XBEGIN")):
            instruction.set_op_kind(number, kinds[f"NEAR_BRANCH{_branch_bits(kind, info, bitness)}"])
            instruction.near_branch64 = TARGET
        elif kind.startswith("FARBR"):
            wide = kind == "FARBR4_2"
            instruction.set_op_kind(number, kinds["FAR_BRANCH32" if wide else "FAR_BRANCH16"])
            instruction.far_branch_selector = CODE_SELECTOR[mode]
            if wide:
                instruction.far_branch32 = LANDING
            else:
                instruction.far_branch16 = LANDING
        else:
            instruction.set_op_kind(number, kinds["REGISTER"])
            indexes = kind.endswith("_REG") and tables.opcodes[code].startswith(_BIT_TESTS)
            kind = kind.replace("_REG", "_RM") if indexes else kind.replace("_OR_MEM", "_RM")
            instruction.set_op_register(number, registers[_register(kind, number)])
    if info.require_op_mask_register:
        instruction.op_mask = registers["K1"]
    return instruction


def _branch_bits(kind: str, info: iced_x86.OpCodeInfo, bitness: int) -> int:
    if kind.startswith("XBEGIN"):
        return bitness if bitness == 64 else max(bitness, 8 * int(kind[-1]))
    return int(kind[2:].partition("_")[0]) if kind[2:4].isdigit() else info.operand_size or bitness


def _value(name: str, kind: str, value: int, number: int) -> int:
    """An immediate that lets the instruction succeed."""
    if name.startswith("ENTER") and number == 1:
        return 0
    if name.startswith("INT_"):
        return 0x21
    if name.startswith(("IN_", "OUT_")) and kind == "IMM8":
        return _PORT
    return value


def _put_immediate(instruction: iced_x86.Instruction, number: int, kind: Any, value: int) -> None:
    instruction.set_op_kind(number, kind)
    instruction.set_immediate_u64(number, value)


def _put_memory(instruction: iced_x86.Instruction, number: int, kind: str, bitness: int) -> None:
    registers = _tables().registers
    instruction.set_op_kind(number, _tables().kinds["MEMORY"])
    if kind == "MEM_OFFS":
        instruction.memory_displacement = 0x100 if bitness == 16 else _OPERAND
        instruction.memory_displ_size = bitness // 8
        instruction.memory_base = registers["NONE"]
        return
    bits = 32 if bitness == 16 and ("VSIB" in kind or kind in {"SIBMEM", "MEM_MPX", "MEM_MIB"}) else bitness
    instruction.memory_base = registers[{16: "BX", 32: "EBX", 64: "RBX"}[bits]]
    if "VSIB" in kind:
        instruction.memory_index = registers[f"{kind[-1]}MM5"]
    elif kind in {"SIBMEM", "MEM_MIB"}:
        instruction.memory_index = registers["RSI" if bits == 64 else "ESI"]
    elif kind == "SEG_RBX_AL":
        instruction.memory_index = registers["AL"]


# -- one opcode ----------------------------------------------------------------------------------------


def _in_mode(info: iced_x86.OpCodeInfo, mode: Mode) -> bool:
    bits = info.mode16 if BITNESS[mode] == 16 else info.mode32 if mode == "prot32" else info.mode64
    return bool(bits) and (mode != "real16" or bool(info.real_mode))


def _side(info: iced_x86.OpCodeInfo) -> Side:
    kinds = {_tables().operands[info.op_kind(number)] for number in range(info.op_count)}
    if kinds & {"ES_RDI", "SEG_RDI"}:
        return "di"
    return "sp" if info.is_stack_instruction and not any(map(_can_be_memory, kinds)) else "bx"


_NEAR: Final = ("CALL_RM", "JMP_RM")
_FAR: Final = ("CALL_M", "JMP_M")
_SEGMENT: Final = ("MOV_SREG", "VERR", "VERW", "LAR", "LSL")
_POINTER: Final = ("LES_", "LDS_", "LSS_", "LFS_", "LGS_")


def _data(name: str, side: Side) -> str:
    """What the operand holds, so that the instruction is not refused for its value."""
    if name.startswith(_NEAR):
        return "near"
    if name.startswith(_FAR):
        return "far"
    if name.startswith(_POINTER):
        return "pointer"
    if name.startswith((*_SEGMENT, "POPW_")) or (name.startswith("POP") and name[-2:] in _FIXED):
        return "selector"
    if name.startswith("LLDT"):
        return "zero"
    if name.startswith("LTR"):
        return "task"
    if name.startswith("LGDT"):
        return "gdt"
    if name.startswith("LIDT"):
        return "idt"
    if name.startswith("LMSW"):
        return "msw"
    if name.startswith(("RETF", "IRET")):
        return "far frame"
    return "frame" if side == "sp" else "pattern"


def _encoded(instruction: iced_x86.Instruction, bitness: int, option: Any) -> bytes | None:
    """Its bytes, if they decode to the same opcode again; whether for want of an encoding or not, else None."""
    import iced_x86

    encoder = iced_x86.Encoder(bitness)
    try:
        encoder.encode(instruction, ORIGIN)
    except ValueError:
        return None
    code: bytes = encoder.take_buffer()
    back = iced_x86.Decoder(bitness, code, options=option, ip=ORIGIN).decode()
    return code if back.code == instruction.code and back.len == len(code) else None


def _variants(code: Any, mode: Mode) -> Iterator[Form]:
    import iced_x86

    info = iced_x86.OpCodeInfo(code)
    name = _tables().opcodes[code]
    if not info.is_instruction or info.fwait or name.startswith(_NOT_BUILT) or not _in_mode(info, mode):
        return
    kinds = [_tables().operands[info.op_kind(number)] for number in range(info.op_count)]
    shapes = [True] if any(map(_can_be_memory, kinds)) else []
    if not any(map(_is_memory, kinds)):
        shapes.append(False)
    side = _side(info)
    vector = next((v for start, v in _VECTORED.items() if name.startswith(start)), None)
    for memory in shapes:
        instruction = _instruction(code, mode, memory=memory)
        if instruction is None:
            continue
        rest = {
            "side": side if memory or side == "sp" else "bx",
            "memory": memory or side == "sp",
            "defined": info.decoder_option == 0,
            "vector": vector,
            "data": _data(name, side),
            "size": info.operand_size or BITNESS[mode],
            "steady": not name.startswith(_UNSTEADY),
        }
        yield from _prefixed(instruction, mode, info, memory, rest)


def _prefixed(
    instruction: iced_x86.Instruction, mode: Mode, info: iced_x86.OpCodeInfo, memory: bool, rest: dict[str, Any]
) -> Iterator[Form]:
    """The plain one, and with LOCK, REP and REPNE where they mean something."""
    kinds: list[tuple[Kind, str]] = [("iced", "")]
    if memory and info.can_use_lock_prefix:
        kinds.append(("lock", "has_lock_prefix"))
    if info.can_use_rep_prefix:
        kinds.append(("rep", "has_rep_prefix"))
    if info.can_use_repne_prefix:
        kinds.append(("repne", "has_repne_prefix"))
    for kind, attribute in kinds:
        prefixed = instruction.copy()
        if attribute:
            setattr(prefixed, attribute, True)
        if (code := _encoded(prefixed, BITNESS[mode], info.decoder_option)) is not None:
            yield Form(mode, code, _text(code, mode, info.decoder_option), kind, **rest)


def _text(code: bytes, mode: Mode, option: Any = 0) -> str:
    import iced_x86

    from kvmwhy.arch.x86.iced import decode

    instruction = iced_x86.Decoder(BITNESS[mode], code, options=option, ip=ORIGIN).decode()
    return "(bad)" if instruction.is_invalid else decode.text_of(instruction)


def _known() -> Iterator[Form]:
    import iced_x86

    nothing = {iced_x86.Code.INVALID}
    for mode in MODES:
        for code in _tables().opcodes:
            if code not in nothing:
                yield from _variants(code, mode)


# -- whole maps, whether a CPU knows the opcode or not: 64-bit mode, the operand at [RBX] -----------------

_PREFIXES: Final = (b"", b"\x66", b"\xf3", b"\xf2")
# Prefixes, escapes, and what begins VEX, EVEX and REX2: no opcodes of map 0.
_NO_OPCODE: Final = frozenset((0x0F, 0x26, 0x2E, 0x36, 0x3E, *range(0x40, 0x50), 0x62, 0x64, 0x65, 0x66, 0x67)) | {
    *(0xC4, 0xC5, 0xD5, 0xF0, 0xF2, 0xF3)
}
_RM: Final = 3  # [RBX]


def _has_modrm(escape: bytes, opcode: int) -> bool:
    """Whether the address in ModRM makes an instruction longer."""
    import iced_x86

    lengths = {
        iced_x86.Decoder(64, (escape + bytes([opcode, modrm])).ljust(15, b"\0")).decode().len for modrm in (3, 0x83)
    }
    return len(lengths) == 2 or opcode in {0x8E, 0xC6, 0xC7, 0xFE, 0xFF}


def _grid() -> Iterator[tuple[Kind, bytes]]:
    """Each opcode of each map with each mandatory prefix; VEX with both lengths; each /reg of maps 0 and 0f."""
    maps = (
        (b"", [o for o in range(256) if o not in _NO_OPCODE]),
        (b"\x0f", [o for o in range(256) if o not in {0x38, 0x3A}]),
        (b"\x0f\x38", list(range(256))),
        (b"\x0f\x3a", list(range(256))),
    )
    for escape, opcodes in maps:
        for prefix in _PREFIXES:
            for opcode in opcodes:
                yield "grid", prefix + escape + bytes([opcode, _RM])
    for length in (0, 4):
        for number in (1, 2, 3):
            for pp in range(4):
                for opcode in range(256):
                    yield "grid", bytes([0xC4, 0xE0 | number, 0x78 | length | pp, opcode, _RM])
    for escape, opcodes in maps[:2]:
        for opcode in opcodes:
            for reg in range(1, 8) if _has_modrm(escape, opcode) else ():
                yield "group", escape + bytes([opcode, reg << 3 | _RM])
    for escape, opcodes in maps[1:3]:
        for prefix in (b"\x66\xf2", b"\x66\xf3"):
            for opcode in opcodes:
                yield "check", prefix + escape + bytes([opcode, _RM])


def form_of(code: bytes, mode: Mode, kind: Kind = "check") -> Form:
    """Any bytes as a form: the instruction that they are with HLT behind them, if they are one at all."""
    import iced_x86

    from kvmwhy.arch.x86.iced import decode

    instruction = iced_x86.Decoder(BITNESS[mode], code.ljust(15, b"\xf4"), ip=ORIGIN).decode()
    if instruction.is_invalid:
        return Form(mode, code, "(bad)", kind, defined=False)
    info, name = iced_x86.OpCodeInfo(instruction.code), _tables().opcodes[instruction.code]
    side = _side(info)
    return Form(
        *(mode, code, decode.text_of(instruction), kind, side),
        defined=False,
        data=_data(name, side),
        size=info.operand_size or BITNESS[mode],
        # QEMU's CPU takes the constant of RET, which here is above 7fff, for a signed one.
        steady=not name.startswith((*_UNSTEADY, "RETN")),
    )


class NoEncoderError(ValueError):
    """iced-x86 is not installed."""


def require_encoder() -> None:
    """Raises NoEncoderError."""
    try:
        import iced_x86  # noqa: F401 -- to see whether it is there
    except ImportError as error:
        raise NoEncoderError(
            "encodings are built with iced-x86, which is not installed: pip install iced-x86 "
            "(where it has no wheel, pip needs a Rust compiler)"
        ) from error


@cache
def all_forms() -> tuple[Form, ...]:
    """Every form, none twice, in an order that does not change."""
    seen: dict[tuple[Mode, bytes], Form] = {}
    for form in _known():
        seen.setdefault((form.mode, form.code), form)
    for kind, code in _grid():
        if ("long64", code) not in seen:
            seen["long64", code] = form_of(code, "long64", kind)
    return tuple(seen.values())


def text_of(code: bytes, mode: Mode) -> str:
    """The instruction in Intel's syntax; "(bad)" for what is none."""
    try:
        return _text(code, mode)
    except ImportError:
        from kvmwhy.arch.x86.instruction import decode_first

        instruction = decode_first(code, bitness=BITNESS[mode], address=ORIGIN)
        return instruction.text if instruction is not None and instruction.text is not None else "(bad)"
