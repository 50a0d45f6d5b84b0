"""Where an ELF was loaded: told by the user, or by code of it that was seen. Never guessed.

Linux moves itself at boot (KASLR), firmware is loaded anywhere, and a kernel's first code may run at its physical
address. What the evidence has of the code at RIP is looked for in the file: found once, it says by how much the two are
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple, Self

from kvmwhy.symbols.elf import Elf, Function, Line

_ENOUGH: Final = 8  # bytes of code that are looked for: and found once
_SURE: Final = 16  # so many say it alone; fewer do if the file was moved by whole pages
_PAGE: Final = 4096
_LEAST_KNOWN: Final = 4  # bytes that confirm where a file is said to be
_U64: Final = (1 << 64) - 1
_WORD: Final = 8


class Located(NamedTuple):
    """An address in words."""

    address: int
    function: Function
    line: Line | None
    at: int | None = None  # of a word on the stack: where it was


class Window(NamedTuple):
    """Code that was seen: ``data[at]`` is the byte at RIP."""

    data: bytes
    at: int


def parted(text: str) -> tuple[str, int | None]:
    """``ELF[@OFFSET]`` in its parts: an @ that no number follows is the path's."""
    path, at, digits = text.rpartition("@")
    if at:
        with suppress(ValueError):
            return path, int(digits, 0)
    return text, None


class Placed:
    """An ELF and the offset between where it is linked to and where it runs; None: not known."""

    def __init__(self, elf: Elf, offset: int | None) -> None:
        self.elf = elf
        self.offset = offset
        self.why = "as given" if offset is not None else ""

    @classmethod
    def open(cls, text: str) -> Self:
        """``ELF[@OFFSET]``. Raises SymbolsError."""
        path, offset = parted(text)
        return cls(Elf(path), offset)

    def settled(self, rip: int | None, code: Window | None) -> tuple[int | None, str]:
        """The offset for this evidence, and why it is that; or None, and why it is not known."""
        if self.offset is not None:
            return self.offset, self._against(rip, code)
        if rip is None or code is None:
            return None, "the code at RIP is not shown, so that nothing tells where it was loaded: give ELF@OFFSET"
        for part in _parts(code):
            places = self.elf.places_of(part.data)
            offset = rip - part.at - places[0] if len(places) == 1 else None
            if offset is not None and (len(part.data) >= _SURE or offset % _PAGE == 0):
                where = "where it is linked to" if not offset else f"{offset:#x} from where it is linked to"
                return offset, f"{len(part.data)} bytes of code at RIP are in it once: it runs {where}"
        return None, "the code at RIP is not in it, or more than once: it is another file, or give ELF@OFFSET"

    def _against(self, rip: int | None, code: Window | None) -> str:
        if rip is None or code is None or self.offset is None:
            return "its offset is as given"
        shown = code.data[code.at :]
        mine = self.elf.bytes_at(rip - self.offset & _U64, len(shown))
        size = min(len(mine), len(shown))
        if size < _LEAST_KNOWN:
            return "its offset is as given"
        if mine[:size] == shown[:size]:
            return "its offset is as given, and the code at RIP is that of the file"
        return "its offset is as given, but the code at RIP is not that of the file"

    def locate(self, address: int, offset: int, *, is_return: bool = False, at: int | None = None) -> Located | None:
        """``is_return``: the address behind a call, whose line is asked for."""
        linked = address - offset & _U64
        function = self.elf.function(linked - 1 if is_return else linked)
        if function is None:
            return None
        if is_return:
            function = Function(function.name, function.offset + 1)
        return Located(address, function, self.elf.line(linked - 1 if is_return else linked), at)

    def returns(self, stack: bytes, base: int, offset: int, word: int = _WORD) -> Iterator[Located]:
        """The words on a stack that may be return addresses: behind a call instruction of the file."""
        for n in range(0, len(stack) - word + 1, word):
            value = int.from_bytes(stack[n : n + word], "little")
            linked = value - offset & _U64
            if self.elf.holds(linked) and self._is_behind_a_call(linked):
                place = self.locate(value, offset, is_return=True, at=base + n)
                if place:
                    yield place

    def _is_behind_a_call(self, linked: int) -> bool:
        """E8 rel32, or FF /2 in its forms (SDM vol. 2A, CALL)."""
        before = self.elf.bytes_at(linked - 7, 7)
        if len(before) < 7:
            return len(before) >= 5 and before[-5] == 0xE8
        if before[-5] == 0xE8:
            return True
        return any(before[-size] == 0xFF and before[-size + 1] >> 3 & 7 == 2 for size in (2, 3, 4, 6, 7))

    def close(self) -> None:
        self.elf.close()


def _parts(code: Window) -> Iterator[Window]:
    """From all that is seen to a few bytes behind RIP: a patched instruction spoils only some of it."""
    data, at = code
    for begin, end in ((0, len(data)), (at, len(data)), (0, at), (at, at + 16), (at, at + 10), (at - 10, at + 6)):
        part = data[max(0, begin) : end]
        if len(part) >= _ENOUGH and len(set(part)) > 2:
            yield Window(part, at - max(0, begin))
