"""The format-ignorant dump: ``data[i] = 0x…``, one word a line, no word interpreted.

The idea is from the discussion of 2021-08: a VMM that knows no layout can still pass everything on,
and a later reader that does know gets every bit.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvmwhy.abi.internal_error import MAX_NDATA

_LINE = re.compile(r"\bdata\[\s*(\d{1,3})\s*\]\s*[=:]\s*(?:0x)?([0-9a-fA-F]{1,16})\b")
_HEAD = re.compile(r"\b(suberror|ndata|exit_reason)\s*[=:]\s*(0x[0-9a-fA-F]{1,8}|\d{1,10})\b", re.IGNORECASE)


class Dump(NamedTuple):
    suberror: int | None
    ndata: int | None
    data: tuple[int, ...]
    damage: tuple[str, ...] = ()
    apart: tuple[tuple[int, int], ...] = ()  # words behind a gap, with their index


def write_dump(suberror: int, data: tuple[int, ...]) -> str:
    """The dump as text: two lines of counts, then every word, 16 digits each."""
    lines = [f"suberror = {suberror}", f"ndata = {len(data)}"]
    lines += [f"data[{n}] = 0x{word:016x}" for n, word in enumerate(data)]
    return "\n".join(lines) + "\n"


def read_dump(text: str) -> Dump | None:
    """Read one back, from any order of lines; ``None`` if there is no such line.

    Words before the first gap are ``data``, those behind it are kept apart; a gap, a repeat that differs, or an index
    that no page can hold is named under ``damage``.
    """
    head: dict[str, int] = {}
    for name, value in _HEAD.findall(text):
        head.setdefault(name.lower(), int(value, 16 if value.startswith("0x") else 10))
    words: dict[int, int] = {}
    damage = []
    for index, value in _LINE.findall(text):
        n, word = int(index), int(value, 16)
        if n >= MAX_NDATA:
            damage.append(f"data[{n}] cannot exist: the page holds {MAX_NDATA} words")
        elif words.setdefault(n, word) != word:
            damage.append(f"data[{n}] is given twice, as {words[n]:#x} and as {word:#x}; the first is kept")
    if not words and "suberror" not in head:
        return None
    data: list[int] = []
    while len(data) in words:
        data.append(words[len(data)])
    apart = tuple(sorted((n, word) for n, word in words.items() if n > len(data)))
    if apart:
        damage.append(f"data[{len(data)}] is missing; the words behind the gap are shown by themselves")
    return Dump(head.get("suberror"), head.get("ndata"), tuple(data), tuple(damage), apart)
