"""From the bytes people paste to plain text: encodings, mail, markup and terminals undone.

Only what carries no meaning is removed; what was undone is named under ``repairs``.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_QUOTED_PRINTABLE = re.compile(r"=3D[0-9A-Fa-f<? ]")
_SOFT_BREAK = re.compile(r"=[ \t]*\n")
_HEX_PAIR = re.compile(r"=([0-9A-F]{2})")
_QUOTE = re.compile(r"^[ \t]*(?:[>|]+[ \t]?|\[\*\])+", re.MULTILINE)
_MARKUP = re.compile(r"</?(?:pre|code|br|p|div|span|li|ul|tt|b|i|font|td|tr)\b[^<>]{0,200}>", re.IGNORECASE)


_PLAIN = bytes([9, 10, 13, *range(32, 127)])


class Text(NamedTuple):
    text: str
    repairs: tuple[str, ...] = ()


def clean(data: bytes) -> Text:
    """Decode and undo. Lines stay lines, except where mail had folded them."""
    repairs: list[str] = []
    text = _decode(data, repairs)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if data.translate(None, _PLAIN):
        text = _CONTROL.sub("", _ESCAPES.sub("", text))
    if "=3D" in text and _QUOTED_PRINTABLE.search(text):
        text = _HEX_PAIR.sub(lambda m: chr(int(m[1], 16)), _SOFT_BREAK.sub("", text))
        repairs.append("the text was quoted-printable mail; it was decoded")
    if "&lt;" in text or "&gt;" in text or "&#" in text:
        text = html.unescape(text)
        text = _CONTROL.sub("", text)
        repairs.append("the text held HTML entities; they were decoded")
    if "</" in text or "<br" in text or "<pre" in text:
        text = _MARKUP.sub("", text)
    if ">" in text or "|" in text or "[*]" in text:
        text = _QUOTE.sub("", text)
    return Text(text, tuple(repairs))


def _decode(data: bytes, repairs: list[str]) -> str:
    head = data[:4096]
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", "replace")
    zeros = head.count(0)
    if zeros > len(head) // 3 and (head[1::2].count(0) == zeros or head[::2].count(0) == zeros):
        repairs.append("the text was UTF-16 without a mark; it was decoded")
        return data.decode("utf-16-le" if head[1::2].count(0) == zeros else "utf-16-be", "replace")
    return data.decode("utf-8", "replace")
