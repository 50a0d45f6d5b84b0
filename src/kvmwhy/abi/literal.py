"""Numbers as kernels and VMMs print them."""

from __future__ import annotations


def number(text: str) -> int:
    """Hexadecimal behind 0x, else decimal: leading zeros are padding, as nothing prints octal."""
    return int(text, 16 if text[:2] in {"0x", "0X"} else 10)
