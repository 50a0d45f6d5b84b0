"""``--bytes`` on arm64 and riscv64: one instruction as a disassembler prints it, or as it lies in memory."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.arch.riscv64.forms import is_compressed

_EXAMPLES: Final = {"arm64": ("a9401003", "03 10 40 a9"), "riscv64": ("00052507", "07 25 05 00")}
_WORD: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,8})")
_BYTE: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,2})")


def word_of(text: str, arch: str) -> int:
    """Digits in one piece are the word that a disassembler prints; bytes with spaces or commas are in memory's order.

    Raises ValueError for what is neither, or has not the instruction's length.
    """
    parts = text.replace(",", " ").split()
    if len(parts) == 1 and (match := _WORD.fullmatch(parts[0])):
        word, length = int(match[1], 16), None
    elif all(matches := [_BYTE.fullmatch(part) for part in parts]) and parts:
        data = bytes(int(match[1], 16) for match in matches if match)
        word, length = int.from_bytes(data, "little"), len(data)
    else:
        raise ValueError(_refusal(text, arch))
    right = 2 if arch == "riscv64" and is_compressed(word) else 4
    if length not in {None, right} or word >> 8 * right:
        raise ValueError(_refusal(text, arch))
    return word


def code_of(word: int, arch: str) -> bytes:
    """The instruction as it lies in memory."""
    return word.to_bytes(2 if arch == "riscv64" and is_compressed(word) else 4, "little")


def _refusal(text: str, arch: str) -> str:
    word, data = _EXAMPLES[arch]
    return f"--bytes takes an instruction's word, such as {word}, or its bytes in memory, {data}, not {text!r}"
