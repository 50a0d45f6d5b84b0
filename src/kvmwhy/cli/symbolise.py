"""``--symbols ELF[@OFFSET]``: function, file and line for RIP, and for return addresses on the stack."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

import msgspec

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.render.json import to_object
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.symbols.elf import SymbolsError, look
from kvmwhy.symbols.placed import Located, Placed, Window, parted

__all__ = ["Named", "Stack", "Symbols", "SymbolsError"]

_MOST_RETURNS: Final = 16
_LONG_MODE: Final = "long64"


class Stack(NamedTuple):
    """Bytes from a linear address on."""

    address: int
    data: bytes


class Named(NamedTuple):
    """What the files say of one failure: for a text, and for JSON."""

    lines: tuple[Line, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()


class Symbols:
    """The files that were given."""

    def __init__(self, files: tuple[Placed, ...]) -> None:
        self._files = files

    @classmethod
    def open(cls, given: Sequence[str]) -> Self:
        """Raises SymbolsError."""
        return cls(tuple(Placed.open(text) for text in given))

    @staticmethod
    def check(given: Sequence[str]) -> tuple[str, ...]:
        """For one who opens them later, from elsewhere. Raises SymbolsError."""
        absolute = []
        for text in given:
            path, offset = parted(text)
            look(path)
            absolute.append(os.path.abspath(path) + ("" if offset is None else f"@{offset:#x}"))
        return tuple(absolute)

    def __bool__(self) -> bool:
        return bool(self._files)

    def name(self, facts: Facts, stack: Stack | None = None) -> Named:
        """RIP and the stack of this failure, by each file that has them."""
        lines: list[Line] = []
        parts: list[dict[str, Any]] = []
        for file in self._files:
            offset, why = file.settled(facts.linear_rip, _window(facts))
            rip = None if offset is None or facts.linear_rip is None else file.locate(facts.linear_rip, offset)
            returns: list[Located] = []
            if offset is not None and stack is not None:
                word = 8 if facts.mode is not None and facts.mode.name == _LONG_MODE else 4
                places = file.returns(stack.data, stack.address, offset, word)
                returns = [place for place, _ in zip(places, range(_MOST_RETURNS), strict=False)]
            if offset is not None and rip is None and not returns:
                why = f"{why}; RIP is in none of its functions"
            lines += [Line(), Line(style="head", label=safe(f"In {file.elf.name}"), label_style="head")]
            lines.append(Line(safe(why), "plain", "place ", 2))
            lines += [Line(_words(rip), "plain", "RIP   ", 2)] if rip else []
            lines += [Line(_words(place), "plain", "stack ", 2) for place in returns]
            parts.append(
                {
                    "file": safe(file.elf.name),
                    "offset": None if offset is None else hex(offset),
                    "why": safe(why),
                    "rip": _part(rip) if rip else None,
                    "stack": [_part(place) for place in returns],
                }
            )
        return Named(tuple(lines), tuple(parts))

    def json(self, diagnosis: Diagnosis) -> bytes:
        """The failure as one line of JSON, with its names."""
        return msgspec.json.encode({**to_object(diagnosis), "symbols": self.name(diagnosis.facts).parts})


def _window(facts: Facts) -> Window | None:
    """The code at RIP, as far as it was seen: the VMM's window, else KVM's own bytes."""
    code = facts.failure.code
    if code is not None and code.rip_at is not None:
        begin, end = code.rip_at, code.rip_at
        while begin and code.window[begin - 1] is not None:
            begin -= 1
        while end < len(code.window) and code.window[end] is not None:
            end += 1
        seen = bytes(byte for byte in code.window[begin:end] if byte is not None)
        if seen:
            return Window(seen, code.rip_at - begin)
    fetched = facts.reading.failure.insn if facts.reading else None
    if not fetched and facts.failure.emulation:
        fetched = facts.failure.emulation.insn
    return Window(fetched, 0) if fetched else None


def _words(located: Located) -> str:
    where = f" ({located.line.file}:{located.line.number})" if located.line else ""
    at = f" at {located.at:#x}" if located.at is not None else ""
    return safe(f"{located.address:#x}{at}: {located.function.name}+{located.function.offset:#x}{where}")


def _part(located: Located) -> dict[str, Any]:
    return {
        "address": hex(located.address),
        "at": None if located.at is None else hex(located.at),
        "function": safe(located.function.name),
        "offset": hex(located.function.offset),
        "file": safe(located.line.file) if located.line else None,
        "line": located.line.number if located.line else None,
    }
