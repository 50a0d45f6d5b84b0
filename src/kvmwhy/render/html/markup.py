"""Text of a log made harmless and escaped, with the numbers and places in it that other parts of the page show too."""

from __future__ import annotations

import re
from collections.abc import Container
from html import escape
from typing import Final

from kvmwhy.diagnosis.answer import Proof
from kvmwhy.render.safe import safe

_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z_])(?:0x([0-9a-fA-F]{1,16})|([0-9a-f]{8,16}))(?![0-9A-Za-z_])")
_CODE: Final = re.compile(r"`([^`]{1,1000})`")  # a number and its markup are wholly within it or without
_LEAST: Final = 0x100  # smaller numbers are everywhere
_LONGEST: Final = 4000


def plain(text: str) -> str:
    """Escaped, with every character that does not print shown as one that does."""
    return escape(safe(text, _LONGEST))


def linked(text: str) -> str:
    """The same, with each number marked by its value: one that is pointed at lights up wherever it stands."""
    parts, at = [], 0
    text = safe(text, _LONGEST)
    for match in _NUMBER.finditer(text):
        value = int(match[1] or match[2], 16)
        parts.append(escape(text[at : match.start()]))
        parts.append(number(match[0], value))
        at = match.end()
    return "".join([*parts, escape(text[at:])])


def prose(text: str) -> str:
    """A sentence of ours: what stands in backticks is code."""
    return _CODE.sub(r"<code>\1</code>", linked(text))


def number(text: str, value: int) -> str:
    """One number as it was written."""
    if value < _LEAST:
        return escape(text)
    return f'<span class="n" tabindex="0" data-n="{value:x}">{escape(text)}</span>'


def proof(evidence: Proof, *, lines: range, words: int, registers: Container[str]) -> str:
    """A proof with links to where it was seen, as far as that is on the page."""
    text, at = prose(evidence.text), evidence.at
    if at is None:
        return text
    links = []
    if at.line is not None and at.line in lines:
        links.append(f'<a href="#L{at.line}">line {at.line}</a>')
    elif at.line is not None:
        links.append(f"line {at.line}")
    if at.word is not None and at.word < words:
        links.append(f'<a href="#w{at.word}">data[{at.word}]</a>')
    if at.register is not None and at.register in registers:
        links.append(f'<a href="#r-{plain(at.register)}">{plain(at.register.upper())}</a>')
    return f"{text} <small>({', '.join(links)})</small>" if links else text
