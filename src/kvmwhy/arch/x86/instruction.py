"""The first instruction in a run of bytes: its text and what memory it touches."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Access = Literal["read", "cond-read", "write", "cond-write", "read-write", "read-cond-write", "none"]
Encoding = Literal["legacy", "vex", "evex", "xop", "3dnow", "mvex"]
Syntax = Literal["intel", "att"]

MAX_LENGTH: Final = 15
_MOST_IN_BITS: Final = 64  # bytes
# completions of a torn instruction; what all of them agree on is certain enough to keep
FILLERS: Final = tuple(bytes([byte]) * MAX_LENGTH for byte in (0x00, 0x48, 0x90, 0xC1, 0xE8, 0xFA, 0xFF))


class MemoryOperand(msgspec.Struct, frozen=True, gc=False):
    """One piece of memory the instruction touches. Register names are lower-case, as written.

    ``displacement`` is unsigned, of ``address_size`` bits; for a RIP-relative operand it is the whole
    address. ``size`` is 0 where the instruction's bytes do not fix it (XSAVE). ``stack`` marks what
    PUSH, CALL, RET and the like touch through the stack pointer; ``implicit`` marks that and the
    operands of string instructions: memory not spelt out in ModRM.
    """

    segment: str
    base: str | None
    index: str | None
    scale: int
    displacement: int
    address_size: int
    size: int
    access: Access
    implicit: bool = False
    stack: bool = False
    rip_relative: bool = False


class Instruction(msgspec.Struct, frozen=True):
    """One decoded instruction.

    ``complete`` is false when the bytes ended before the instruction did, ``invalid`` when they are
    not an instruction at all; ``text`` is ``None`` in both cases.
    """

    address: int
    bytes: bytes
    text: str | None
    mnemonic: str | None
    length: int
    complete: bool
    invalid: bool
    encoding: Encoding
    stack: bool
    memory: tuple[MemoryOperand, ...]


def undecoded(code: bytes, address: int, length: int, *, torn: bool, mnemonic: str | None = None) -> Instruction:
    """Bytes that end before the instruction does, or that are none."""
    return Instruction(
        address=address,
        bytes=code[:length],
        text=None,
        mnemonic=mnemonic,
        length=length,
        complete=not torn,
        invalid=not torn,
        encoding="legacy",
        stack=False,
        memory=(),
    )


def decode_first(code: bytes, *, bitness: int, address: int, syntax: Syntax = "intel") -> Instruction | None:
    """The first instruction in ``code``, or ``None`` for no bytes. Looks at nothing past ``code``.

    ``address`` is the instruction pointer (an offset into CS), not a linear address: branch targets
    and RIP-relative operands are counted from it.
    """
    if not code:
        return None
    from kvmwhy.arch.x86.decoder import decoder

    return decoder().decode(code, bitness=bitness, address=address & 0xFFFF_FFFF_FFFF_FFFF, syntax=syntax)


def memory_form(size: int) -> str:
    """A memory operand of so many bytes, as the manuals write it: ``m64``; beyond 64 bytes ``m512byte``; 0: ``m``."""
    if size > _MOST_IN_BITS:
        return f"m{size}byte"
    return f"m{size * 8}" if size else "m"
