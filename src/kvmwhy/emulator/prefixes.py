"""The prefixes of an instruction as KVM's decoder takes them."""

from __future__ import annotations

from msgspec import Struct

_LEGACY = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))
_MAX_LENGTH = 15


class Prefixes(Struct, frozen=True):
    """``end`` is the index of the first byte after them. ``repeat`` is the last of F2 and F3, or 0."""

    operand_size: bool
    repeat: int
    lock: bool
    rex: int
    end: int

    @property
    def mandatory(self) -> str:
        """The prefix as the table's ``prefix`` column has it; 66 goes first."""
        if self.operand_size:
            return "66"
        return f"{self.repeat:02x}" if self.repeat else "none"

    @property
    def conflict(self) -> bool:
        """66 together with F2 or F3: no row of a prefix-split opcode can be chosen."""
        return self.operand_size and self.repeat != 0

    @property
    def rex_w(self) -> bool:
        return bool(self.rex & 8)


def read_prefixes(code: bytes, *, long: bool) -> Prefixes:
    """``long``: 64-bit mode, where 40 to 4f are REX prefixes."""
    operand_size, repeat, lock, rex = False, 0, False, 0
    end = 0
    for byte in code[:_MAX_LENGTH]:
        if byte in _LEGACY:
            rex = 0  # a legacy prefix after REX cancels it
            if byte == 0x66:
                operand_size = True
            elif byte in (0xF2, 0xF3):
                repeat = byte
            elif byte == 0xF0:
                lock = True
        elif long and byte & 0xF0 == 0x40:
            rex = byte
        else:
            break
        end += 1
    return Prefixes(operand_size, repeat, lock, rex, end)
