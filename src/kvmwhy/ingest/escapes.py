"""Escapes of strings, as JSON and C have them."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.deferred_re import deferred

_ESCAPE: Final = deferred(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3})|(.))", re.DOTALL)
_LETTERS: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "", "f": "", "a": "", "v": ""}


def unescape(text: str) -> str:
    """Undo the escapes of JSON and of C."""
    if "\\" not in text:
        return text

    def character(match: re.Match[str]) -> str:
        if code := match[1] or match[2]:
            return chr(int(code, 16))
        return chr(int(match[3], 8) & 0xFF) if match[3] else _LETTERS.get(match[4], match[4])

    text = _ESCAPE.sub(character, text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # pairs become one character
