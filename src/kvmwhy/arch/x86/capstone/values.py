"""One instruction in terms that are ours: operands as they are encoded, and its three names."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.capstone.scan import Scan

ROUNDINGS: Final = ("rn-sae", "rd-sae", "ru-sae", "rz-sae")  # as EVEX.L'L numbers them


class Register(NamedTuple):
    name: str


class Immediate(NamedTuple):
    value: int  # unsigned, of the operand's size


class Branch(NamedTuple):
    target: int


class FarPointer(NamedTuple):
    selector: int
    offset: int


class Memory(NamedTuple):
    """A memory operand as it is encoded. ``size`` is 0 where the bytes do not fix it."""

    segment: str | None  # as a prefix has it
    base: str | None
    indexed: str | None
    scale: int
    displacement: int  # signed; of a RIP-relative operand the whole address
    size: int
    rip_relative: bool = False


Operand = Register | Immediate | Branch | FarPointer | Memory


class Parsed(NamedTuple):
    """One whole instruction.

    It has three names: ``mnemonic`` is MASM's, which has the size of a push in it; ``printed`` is what the text
    begins with, behind ``words``, which are prefixes; ``operation`` is the manual's, without predicate and size.
    """

    mnemonic: str
    printed: str
    operation: str
    words: tuple[str, ...]
    operands: tuple[Operand, ...]
    length: int
    scan: Scan
    rounding: str | None = None  # of ROUNDINGS, or sae
    shown: tuple[Operand, ...] | None = None  # the operands of the text, where they are others
    vectors: int = 32  # bits of each address of a vector of addresses

    def named(self, name: str) -> Parsed:
        return self._replace(mnemonic=name, printed=name, operation=name)

    def sized(self, size: int) -> Parsed:
        """With another size of the operand in memory."""
        return self._replace(
            operands=tuple(
                operand._replace(size=size) if isinstance(operand, Memory) else operand for operand in self.operands
            )
        )

    @property
    def string(self) -> bool:
        """MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS."""
        opcode = self.scan.opcode or 0
        return (
            self.scan.legacy
            and self.scan.number == 0
            and (0xA4 <= opcode <= 0xA7 or 0xAA <= opcode <= 0xAF or 0x6C <= opcode <= 0x6F)
        )

    @property
    def far(self) -> bool:
        scanned = self.scan
        opcode = scanned.opcode
        through_memory = opcode == 0xFF and scanned.operation in {3, 5}
        return scanned.legacy and scanned.number == 0 and (opcode in {0x9A, 0xEA, 0xCA, 0xCB} or through_memory)


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def low_half(name: str, bits: int) -> str:
    """The lowest 16 or 32 bits of a general register."""
    if name[1].isdigit():
        return name.rstrip("dw") + ("d" if bits == 32 else "w")
    word = name[-2:]
    return f"e{word}" if bits == 32 else word


def general(number: int, bits: int) -> str:
    """A general register by its number, of 16 to 64 bits."""
    if number >= 8:
        return f"r{number}" + {16: "w", 32: "d", 64: ""}[bits]
    return {16: "", 32: "e", 64: "r"}[bits] + ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")[number]
