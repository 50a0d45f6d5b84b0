"""Little-endian C structures, laid out by the rules of the x86-64 psABI: natural alignment.

A structure is written once, as ``"phys_addr:u64 data:u8[8] len:u32 is_write:u8"``; offsets follow
from it, so that none is typed by hand. A C program checks them against ``<linux/kvm.h>``.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# u8[8] is data, kept as bytes; u64[6] is six numbers.
Value = int | bytes | tuple[int, ...]

_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
_CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}


class Field(NamedTuple):
    name: str
    offset: int  # from the start of the page
    size: int  # of one element, in bytes
    length: int  # elements
    code: struct.Struct

    def read(self, page: bytes | memoryview) -> Value:
        values = self.code.unpack_from(page, self.offset)
        if self.length > 1 and self.size == 1:
            return bytes(values)
        return values if self.length > 1 else values[0]

    def write(self, page: bytearray, value: Value) -> None:
        """Put ``value`` in place. Short arrays leave the rest as it was, as the kernel does."""
        if isinstance(value, int):
            values: tuple[int, ...] = (value,)
        else:
            values = tuple(value)
        if len(values) > self.length:
            raise ValueError(f"{self.name} holds {self.length} values, not {len(values)}")
        limit = 1 << 8 * self.size
        for n, number in enumerate(values):
            if not 0 <= number < limit:
                raise ValueError(f"{self.name} is {8 * self.size} bits wide; {number:#x} does not fit")
            page[self.offset + n * self.size : self.offset + (n + 1) * self.size] = number.to_bytes(self.size, "little")


def lay_out(text: str, base: int) -> tuple[Field, ...]:
    """The fields of a structure that starts at ``base``."""
    fields = []
    offset = base
    for item in text.split():
        name, kind = item.split(":")
        kind, _, count = kind.partition("[")
        size, number = _SIZES[kind], int(count[:-1]) if count else 1
        offset = (offset + size - 1) // size * size
        if not name.startswith("pad"):
            fields.append(Field(name, offset, size, number, struct.Struct(f"<{number}{_CODES[kind]}")))
        offset += size * number
    return tuple(fields)
