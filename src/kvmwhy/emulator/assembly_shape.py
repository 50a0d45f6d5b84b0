"""The shape of an instruction's text in GNU's syntax: what is left if registers and numbers do not matter.

``ldr x4, [x0, #16]`` and ``LDR x1,[x30]`` have one shape, ``ldr x0, [x0, #16]!`` another.
"""

from __future__ import annotations

import re
from typing import Final

_COMMENT: Final = re.compile(r"\s{0,40}(?://|;|#\s).*")
_SPACES: Final = re.compile(r"\s{1,100}")
_AROUND_COMMA: Final = re.compile(r" ?, ?")

_SIMD_RANGE: Final = re.compile(r"\{\s?v(\d{1,2})\.(\w{1,3})\s?-\s?v(\d{1,2})\.\w{1,3}\s?\}")
_SIMD_LIST: Final = re.compile(r"\{\s?(v\d{1,2}\.\w{1,3}(?:,v\d{1,2}\.\w{1,3}){0,3})\s?\}")
_LANE: Final = re.compile(r"\}\[\d{1,2}\]")
_OFFSET: Final = re.compile(r"(\[\w{1,4}),#[-+\w]{1,20}\](?!!)")
_VECTOR_OFFSET: Final = re.compile(r",#-?\d{1,3},mul vl\]")
# STADD is LDADD that throws the old value away.
_STORE_ALIAS: Final = re.compile(r"^st((?:add|clr|eor|set|[su]max|[su]min)l?[bh]?)\b(?: (\w{1,3}))?")
_NUMBER: Final = re.compile(r"#[-+]?\w{1,20}")
_ARM_REGISTER: Final = re.compile(r"\b(?:([xwbhsdqvzp])\d{1,2}|([xw])zr|(w)?sp)\b")
_PREFETCH: Final = re.compile(r"^(r?prfu?m[bhwd]?|prf[bhwd]) (?:#?\w{1,12})(?=,)")
_LITERAL: Final = re.compile(r"^((?:ldr|ldrsw|prfm) \w{1,3}),(?!\[).{1,60}$")

_RISCV_NUMBER: Final = re.compile(r"(?<![\w.])-?(?:0x[0-9a-f]{1,16}|\d{1,20})(?![\w.])")
_RISCV_FLOAT: Final = re.compile(r"\bf(?:[ast]\d{1,2}|\d{1,2})\b")
_RISCV_VECTOR: Final = re.compile(r"\bv\d{1,2}\b(?!\.t)")
_RISCV_REGISTER: Final = re.compile(r"\b(?:x\d{1,2}|zero|ra|[sgt]p|fp|t[0-6]|s\d{1,2}|a[0-7])\b")


def shape(text: str, arch: str) -> str:
    """Of an instruction's text; a mnemonic alone is its own shape."""
    line = _SPACES.sub(" ", _COMMENT.sub("", text.lower())).strip()
    line = _AROUND_COMMA.sub(",", line)
    return _riscv(line) if arch == "riscv64" else _arm(line)


def _arm(line: str) -> str:
    if line.startswith("sys "):  # an operation without a name is told by its numbers
        return _ARM_REGISTER.sub("X", line)
    line = _STORE_ALIAS.sub(_loading, line)
    line = _PREFETCH.sub(r"\1 P", line)
    line = _SIMD_RANGE.sub(_counted_range, line)
    line = _SIMD_LIST.sub(_counted_list, line)
    line = _LANE.sub("}[#]", line)
    line = _LITERAL.sub(r"\1,=", line)
    line = _VECTOR_OFFSET.sub("]", line)
    line = _OFFSET.sub(r"\1]", line)
    line = _NUMBER.sub("#", line)
    return _ARM_REGISTER.sub(_class, line)


def _loading(match: re.Match[str]) -> str:
    register = match[2]
    return f"ld{match[1]} {register},{register}" if register else f"ld{match[1]}"


def _class(match: re.Match[str]) -> str:
    """An address is in X or SP alike."""
    return (match[1] or match[2] or match[3] or "x").upper()


def _counted_range(match: re.Match[str]) -> str:
    return f"{{{(int(match[3]) - int(match[1])) % 32 + 1} of {match[2]}}}"


def _counted_list(match: re.Match[str]) -> str:
    registers = match[1].split(",")
    return f"{{{len(registers)} of {registers[0].partition('.')[2]}}}"


def _riscv(line: str) -> str:
    mnemonic, _, operands = line.partition(" ")
    if not operands:
        return mnemonic
    operands = operands.replace(",(", ",0(") if not mnemonic.startswith("v") else operands
    operands = _RISCV_FLOAT.sub("F", operands)
    operands = _RISCV_VECTOR.sub("V", operands)
    operands = _RISCV_REGISTER.sub("X", operands)
    return f"{mnemonic} {_RISCV_NUMBER.sub('#', operands)}"
