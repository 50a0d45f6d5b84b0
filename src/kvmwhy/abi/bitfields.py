"""Hexadecimal numbers and bit lists as every word's sentence spells them."""

from __future__ import annotations


def hx(value: int) -> str:
    """A word in hex, lower case; zero is a plain 0, as the kernel's ``%#x`` prints it."""
    return f"{value:#x}" if value else "0"


def named(name: str, phrase: str) -> str:
    """``HLT`` where name and phrase say the same, else ``NPF: an access …``."""
    return phrase if phrase.startswith(name) else f"{name}: {phrase}"


def names_of_bits(word: int, table: dict[int, str]) -> list[str]:
    """The meanings of the bits of ``word`` that are set, lowest bit first."""
    return [meaning for bit, meaning in table.items() if word >> bit & 1]


def unknown_bits(word: int, known: int) -> list[str]:
    """One remark naming the bits of ``word`` outside ``known``, or nothing."""
    rest = word & ~known
    return [f"bits {hx(rest)} have no known meaning here"] if rest else []
