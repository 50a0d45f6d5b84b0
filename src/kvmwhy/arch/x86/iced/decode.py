"""Instructions decoded by iced-x86."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec

from kvmwhy.arch.x86.instruction import (
    FILLERS,
    MAX_LENGTH,
    Access,
    Encoding,
    Instruction,
    MemoryOperand,
    Syntax,
    undecoded,
)

if TYPE_CHECKING:
    import iced_x86


@contextmanager
def _bare(name: str) -> Iterator[None]:
    """Submodules of the package without those that it imports itself: of iced_x86, forty modules of names.

    That takes a tenth of a cold start. Whoever imports the package afterwards gets it whole.
    """
    spec = None if name in sys.modules else PathFinder.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        yield
        return
    sys.modules[name] = package = ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    try:
        yield
    finally:
        del sys.modules[name]


with _bare("iced_x86"):
    from iced_x86 import FormatMnemonicOptions, FormatterSyntax, MemorySize, Register
    from iced_x86._iced_x86_py import Decoder, Formatter, InstructionInfoFactory, MemorySizeExt

# indexed by iced_x86.OpAccess, EncodingKind and CodeSize; a test holds them to the library's values
_ACCESS: tuple[Access, ...] = (
    "none",
    "read",
    "cond-read",
    "write",
    "cond-write",
    "read-write",
    "read-cond-write",
    "none",
)
_ENCODING: tuple[Encoding, ...] = ("legacy", "vex", "evex", "xop", "3dnow", "mvex")
_ADDRESS_SIZE = (0, 16, 32, 64)

_FAR_BRANCHES = (4, 5)  # OpKind.FAR_BRANCH16, FAR_BRANCH32
_MEMORY = 24  # OpKind.MEMORY: an operand spelt out in ModRM, or an absolute offset
_NO_MORE_BYTES = 2  # DecoderError.NO_MORE_BYTES


class _Iced(msgspec.Struct, frozen=True):
    decoder: type[iced_x86.Decoder]
    intel: iced_x86.Formatter
    masm: iced_x86.Formatter
    att: iced_x86.Formatter
    info: iced_x86.InstructionInfoFactory
    no_prefixes: iced_x86.FormatMnemonicOptions_
    registers: tuple[str | None, ...]
    sizes: tuple[int, ...]


@cache
def _iced() -> _Iced:
    def formatter(syntax: iced_x86.FormatterSyntax_) -> iced_x86.Formatter:
        styled = Formatter(syntax)
        styled.hex_prefix = "0x"
        styled.hex_suffix = ""
        styled.uppercase_hex = False
        styled.add_leading_zero_to_hex_numbers = False
        styled.branch_leading_zeros = False
        styled.show_branch_size = False
        styled.masm_add_ds_prefix32 = False
        return styled

    names = {number: name for name, number in vars(Register).items() if name.isupper()}
    size = MemorySizeExt.size
    sizes = {number: size(number) for name, number in vars(MemorySize).items() if name.isupper()}
    return _Iced(
        decoder=Decoder,
        intel=formatter(FormatterSyntax.INTEL),
        masm=formatter(FormatterSyntax.MASM),
        att=formatter(FormatterSyntax.GAS),
        info=InstructionInfoFactory(),
        no_prefixes=FormatMnemonicOptions.NO_PREFIXES,
        registers=tuple(
            names[number].lower() if number and number in names else None for number in range(max(names) + 1)
        ),
        sizes=tuple(sizes.get(number, 0) for number in range(max(sizes) + 1)),
    )


def decode(code: bytes, *, bitness: int, address: int, syntax: Syntax) -> Instruction:
    iced = _iced()
    decoder = iced.decoder(bitness, code[:MAX_LENGTH], ip=address)
    instruction = decoder.decode()
    length = instruction.len
    if instruction.is_invalid:
        torn = decoder.last_error == _NO_MORE_BYTES
        mnemonic = _mnemonic_of_torn(iced, code, bitness, address) if torn else None
        return undecoded(code, address, length, torn=torn, mnemonic=mnemonic)
    stack = instruction.is_stack_instruction
    return Instruction(
        address=address,
        bytes=code[:length],
        text=_text(iced, instruction, syntax),
        mnemonic=iced.masm.format_mnemonic(instruction, iced.no_prefixes),
        length=length,
        complete=True,
        invalid=False,
        encoding=_ENCODING[instruction.encoding],
        stack=stack,
        memory=_memory(iced, instruction, stack, bitness),
    )


def text_of(instruction: iced_x86.Instruction) -> str:
    """A valid instruction of iced's in Intel's syntax, as all of kvmwhy writes it."""
    return _text(_iced(), instruction, "intel")


def _text(iced: _Iced, instruction: iced_x86.Instruction, syntax: Syntax) -> str:
    if syntax == "att":
        return iced.att.format(instruction)
    text = iced.intel.format(instruction)
    # where Intel's own syntax is unusual, the assemblers' common one: `fld dword ptr [eax]`,
    # `jmp 0xf000:0xe05b`, `retf`, `prefetchw [rax]`
    if instruction.op0_kind in _FAR_BRANCHES or " st," in text or "prefetch_" in text or text.startswith("ret far"):
        return iced.masm.format(instruction)
    return text


def _memory(iced: _Iced, instruction: iced_x86.Instruction, stack: bool, bitness: int) -> tuple[MemoryOperand, ...]:
    spelt_out = any(instruction.op_kind(number) == _MEMORY for number in range(instruction.op_count))
    used = iced.info.info(instruction).used_memory()
    if not used:
        return (_untouched(iced, instruction, bitness),) if spelt_out else ()
    registers = iced.registers
    out = []
    for number, access in enumerate(used):
        implicit = number > 0 or not spelt_out
        segment = registers[access.segment] or "ds"
        address_size = _ADDRESS_SIZE[access.address_size] or bitness
        out.append(
            MemoryOperand(
                segment=segment,
                base=registers[access.base],
                index=registers[access.index],
                scale=access.scale,
                displacement=access.displacement & (1 << address_size) - 1,
                address_size=address_size,
                size=iced.sizes[access.memory_size] or iced.sizes[instruction.memory_size],
                access=_ACCESS[access.access],
                implicit=implicit,
                stack=stack and implicit and segment == "ss",
                rip_relative=not implicit and instruction.is_ip_rel_memory_operand,
            )
        )
    return tuple(out)


def _untouched(iced: _Iced, instruction: iced_x86.Instruction, bitness: int) -> MemoryOperand:
    """The operand of LEA, NOP, PREFETCH, INVLPG: an address, not an access."""
    base = iced.registers[instruction.memory_base]
    index = iced.registers[instruction.memory_index]
    rip_relative = instruction.is_ip_rel_memory_operand
    address_size = _register_width(base or index) or bitness
    return MemoryOperand(
        segment=iced.registers[instruction.memory_segment] or "ds",
        base=None if rip_relative else base,
        index=index,
        scale=instruction.memory_index_scale,
        displacement=instruction.memory_displacement & (1 << address_size) - 1,
        address_size=address_size,
        size=iced.sizes[instruction.memory_size],
        access="none",
        rip_relative=rip_relative,
    )


def _register_width(name: str | None) -> int | None:
    if name is None:
        return None
    if name[0] == "e" or name[-1] == "d":
        return 32
    if name[0] == "r":
        return 64
    return 16 if len(name) == 2 else None


def _mnemonic_of_torn(iced: _Iced, code: bytes, bitness: int, address: int) -> str | None:
    """The mnemonic every way to complete the bytes agrees on, or ``None``."""
    seen = set()
    for filler in FILLERS:
        instruction = iced.decoder(bitness, (code + filler)[:MAX_LENGTH], ip=address).decode()
        if instruction.is_invalid:
            return None
        seen.add(iced.masm.format_mnemonic(instruction, iced.no_prefixes))
    return seen.pop() if len(seen) == 1 else None


def form(code: bytes, bitness: int) -> str:
    from kvmwhy.arch.x86.iced.form import form as by_tables  # only signatures need it

    return by_tables(code, bitness)
