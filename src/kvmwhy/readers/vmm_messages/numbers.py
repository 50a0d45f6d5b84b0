"""Numbers as VMMs print them, without a base, without 0x, or signed."""

from __future__ import annotations

from typing import Final

_ALL_ONES: Final = 0xFFFF_FFFF_FFFF_FFFF
_INVALID_STATE: Final = 1 << 31  # VMX_EXIT_REASONS_FAILED_VMENTRY
_MOST_INSTRUCTION_ERROR: Final = 64


def integer(digits: str) -> int:
    """A number with or without 0x; a negative one is taken as its 64 bits."""
    digits = digits.lower()
    padded = digits[0] == "0" and len(digits) in {8, 16}  # %08x and %016x
    value = int(digits, 16) if padded or digits.startswith("0x") else int(digits)
    return value & _ALL_ONES


def hardware_reason(digits: str) -> int:
    """fail_entry.hardware_entry_failure_reason, which some print with %x and no 0x: 80000021 is no decimal number."""
    value = integer(digits)
    if digits.lower().startswith("0x") or _is_reason(value):
        return value
    as_hex = int(digits, 16)
    return as_hex if _is_reason(as_hex) else value


def _is_reason(value: int) -> bool:
    """A VM-instruction error, an exit reason with the entry-failure bit, or SVM's -1 at any width."""
    if value < _MOST_INSTRUCTION_ERROR or value in {0xFFFF, 0xFFFF_FFFF, _ALL_ONES}:
        return True
    return bool(value & _INVALID_STATE) and value & ~_INVALID_STATE < 1 << 16
