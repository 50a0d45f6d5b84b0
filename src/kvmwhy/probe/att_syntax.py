"""AT&T's way to write an instruction, turned into Intel's: operands in the other order, the size in the mnemonic.

Only what a look-up asks is kept: the mnemonic, the kinds of operands, the size in memory (GNU as, "i386-Mnemonics").
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Final

_LONGEST: Final = 200
_PREFIXES: Final = frozenset({"lock", "rep", "repe", "repz", "repne", "repnz", "bnd", "notrack", "data16", "addr32"})
_SIZES: Final = {"b": "byte", "w": "word", "l": "dword", "q": "qword"}
_X87: Final = {"s": "dword", "l": "qword", "t": "tbyte", "ll": "qword", "q": "qword"}
_INTEGERS: Final = {"s": "word", "l": "dword", "ll": "qword", "q": "qword"}  # of fild, fist, fiadd …
# Mnemonics that are other words in Intel's syntax.
_RENAMED: Final = {
    "cbtw": "cbw", "cwtl": "cwde", "cltq": "cdqe", "cwtd": "cwd", "cltd": "cdq", "cqto": "cqo", "movabs": "mov",
    "movabsq": "mov", "ljmp": "jmp", "lcall": "call", "lret": "retf",
}  # fmt: skip
_EXTENDED: Final = re.compile(r"mov([sz])([bwl])([wlq])")
_MEMORY: Final = re.compile(r"(?:%[c-gs]s:)?[-+\w.]{0,40}\([^()]{0,60}\)|%[c-gs]s:[-+\w.]{1,40}")


def is_att(text: str) -> bool:
    """Registers have a %, or an address is in round brackets."""
    return "[" not in text and ("%" in text or _MEMORY.search(text) is not None)


def to_intel(text: str, known: AbstractSet[str]) -> str:
    """The same in Intel's syntax. ``known`` are Intel's mnemonics: a suffix is one only if they lack the whole word."""
    words = text.lower()[:_LONGEST].split(None, 1)
    prefixes = []
    while len(words) > 1 and words[0] in _PREFIXES:
        prefixes.append(words[0])
        words = words[1].split(None, 1)
    if not words:
        return text
    operands = _split(words[1]) if len(words) > 1 else []
    name, size = _mnemonic(words[0], known)
    if words[0].startswith("movs") and not operands:
        name, size = words[0], ""
    shown = [_operand(operand, size) for operand in reversed(operands)]
    return " ".join([*prefixes, name, ", ".join(shown)]).strip()


def _mnemonic(word: str, known: AbstractSet[str]) -> tuple[str, str]:
    """Intel's mnemonic, and the size that the suffix gave."""
    if word in _RENAMED:
        return _RENAMED[word], ""
    if extended := _EXTENDED.fullmatch(word):
        sign, size = extended[1], extended[2]
        return ("movzx" if sign == "z" else "movsxd" if size == "l" else "movsx"), _SIZES[size]
    if word.startswith("f"):
        sizes = _INTEGERS if word.startswith("fi") else _X87
        for suffix in sorted(sizes, key=len, reverse=True):
            if word.endswith(suffix) and word[: -len(suffix)] in known:
                return word[: -len(suffix)], sizes[suffix]
    if word not in known and word[-1:] in _SIZES and word[:-1] in known:
        return word[:-1], _SIZES[word[-1]]
    return word, ""


def _split(text: str) -> list[str]:
    """Operands; commas within brackets part none."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text + ","):
        depth += (char == "(") - (char == ")")
        if char == "," and depth <= 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [part for part in parts if part]


def _operand(text: str, size: str) -> str:
    text = text.removeprefix("*")
    if text.startswith("$"):
        return text[1:]
    if _MEMORY.fullmatch(text) or re.fullmatch(r"[-+]?(?:0x)?[0-9a-f]{1,16}", text):
        return f"{size} ptr [rax]" if size else "[rax]"
    if text.startswith("%"):
        return re.sub(r"st\((\d)\)", r"st\1", text[1:])
    return text
