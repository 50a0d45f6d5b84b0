"""An instruction's form: the operation with the kinds and sizes of its operands, as ``movups xmm,m128``.

What a compiler chooses freely is not in it: general and vector registers, addresses, displacements, immediates. What
the instruction is about stays: control, debug and segment registers, CL of a shift, the port in DX. Made from the
decoder's tables, not from its text, so that no formatter's taste is in it.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kvmwhy.arch.x86.instruction import MAX_LENGTH, Instruction

if TYPE_CHECKING:
    import iced_x86

_MOST_BYTES: Final = 64  # beyond, the manuals count bytes: m512byte


class _Tables(NamedTuple):
    mnemonics: dict[int, str]
    registers: dict[int, str]  # register number: its class, or its own name where there is but one way to write it
    named: frozenset[int]  # kinds of operand codes whose register is what the instruction is about
    vector_addresses: dict[int, str]  # kinds of operand codes of VSIB
    kinds: dict[int, str]  # of operands that are neither registers nor memory


@cache
def _tables() -> _Tables:
    import iced_x86

    def names(enum: object) -> dict[str, Any]:
        return {name: number for name, number in vars(enum).items() if name.isupper()}

    codes = names(iced_x86.OpCodeOperandKind)
    kinds = names(iced_x86.OpKind)
    return _Tables(
        mnemonics={number: name.lower() for name, number in names(iced_x86.Mnemonic).items()},
        registers={number: _class(number) for number in names(iced_x86.Register).values() if number},
        named=frozenset(
            codes[name] for name in ("ES", "CS", "SS", "DS", "FS", "GS", "SEG_REG", "CR_REG", "DR_REG", "CL", "DX")
        ),
        vector_addresses={
            number: "vm32" if "32" in name else "vm64" for name, number in codes.items() if "VSIB" in name
        },
        kinds={
            number: "rel" if name.startswith("NEAR") else "ptr" if name.startswith("FAR") else "imm"
            for name, number in kinds.items()
            if name.startswith(("NEAR", "FAR", "IMMEDIATE"))
        },
    )


def _class(register: Any) -> str:
    import iced_x86

    known = iced_x86.RegisterExt
    if known.is_gpr(register):
        return f"r{known.size(register) * 8}"
    for name in ("xmm", "ymm", "zmm", "tmm", "mm", "st", "k", "bnd"):
        if getattr(known, f"is_{name}")(register):
            return name
    return "reg"


def form_of(instruction: Instruction, *, bitness: int) -> str | None:
    """The form of a decoded instruction; of one that was cut off, what is sure of it; ``None`` of bytes that are none.

    ``bitness`` is that of the decoding. EVEX is named where it was used: what KVM can do with one encoding of VMOVUPS
    it need not be able to do with the other.
    """
    if instruction.text is None:
        return f"{instruction.mnemonic} (cut off)" if instruction.mnemonic else None
    return _form(instruction.bytes, bitness)


@lru_cache(maxsize=4096)  # pure, and asked the same again and again
def _form(code: bytes, bitness: int) -> str:
    import iced_x86

    tables = _tables()
    found = iced_x86.Decoder(bitness, code[:MAX_LENGTH]).decode()
    named = found.op_code()
    prefixes = [
        name
        for name, there in (
            ("lock", found.has_lock_prefix),
            ("rep", found.has_rep_prefix and found.is_string_instruction),
            ("repne", found.has_repne_prefix and found.is_string_instruction),
            ("{evex}", named.encoding == iced_x86.EncodingKind.EVEX),
        )
        if there
    ]
    operands = [_operand(tables, found, named, number) for number in range(found.op_count)]
    if operands and found.op_mask:
        operands[0] += "{k}{z}" if found.zeroing_masking else "{k}"
    if found.rounding_control:
        operands.append("{er}")
    elif found.suppress_all_exceptions:
        operands.append("{sae}")
    name = tables.mnemonics.get(found.mnemonic, "?")
    return " ".join(filter(None, (*prefixes, name, ",".join(operands))))


def _operand(tables: _Tables, found: iced_x86.Instruction, named: iced_x86.OpCodeInfo, number: int) -> str:
    import iced_x86

    kind = found.op_kind(number)
    if kind != iced_x86.OpKind.REGISTER:
        return tables.kinds.get(kind) or _memory(tables, found, named, number)
    register = found.op_register(number)
    port = found.mnemonic in {iced_x86.Mnemonic.IN, iced_x86.Mnemonic.OUT}  # AL, AX, EAX: no other can be
    if port or named.op_kind(number) in tables.named:
        return _name(register)
    return tables.registers[register]


@cache
def _name(register: int) -> str:
    import iced_x86

    return next(name.lower() for name, number in vars(iced_x86.Register).items() if number == register)


def _memory(tables: _Tables, found: iced_x86.Instruction, named: iced_x86.OpCodeInfo, number: int) -> str:
    import iced_x86

    if vector := tables.vector_addresses.get(named.op_kind(number)):
        return vector
    size = iced_x86.MemorySizeExt
    if found.is_broadcast:
        return f"m{size.element_size(found.memory_size) * 8}bcst"
    length = size.size(found.memory_size)
    if length > _MOST_BYTES:
        return f"m{length}byte"
    return f"m{length * 8}" if length else "m"
