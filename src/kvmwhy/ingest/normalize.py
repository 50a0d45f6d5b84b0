"""From the bytes people paste to plain text: encodings, mail, markup and terminals undone.

Only what carries no meaning is removed; what was undone is named under ``repairs``. Every pattern
here is bounded or cannot overlap itself, so that no input takes more than linear time.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.mail import DECODED_BASE64, DECODED_QUOTED_PRINTABLE, undo_base64, undo_quoted_printable
from kvmwhy.ingest.posted_lines import restore

_PLAIN = bytes([9, 10, 13, *range(32, 127)])

# An OSC without an end stops at its line, so that it cannot swallow a log.
_ESCAPES = deferred(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_INVISIBLE = deferred(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2060\ufeff]")
_ENTITY = deferred(r"&(?:lt|gt|amp|quot|apos|nbsp|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
_JSON_ESCAPE = deferred(r"\\(?:u(00[0-7][0-9a-fA-F])|([nrt\"/]))")
_JSON = {"n": "\n", "r": "", "t": "\t", '"': '"', "/": "/"}
_BREAK = deferred(r"(?:<br ?/?>|</(?:p|div|tr|li|pre)>)(?:[ \t]{0,64}\n)?", re.IGNORECASE)
_MARKUP = deferred(r"</?(?:pre|code|br|p|div|span|li|ul|tt|b|i|font|td|tr)\b[^<>]{0,200}>", re.IGNORECASE)
_SOME_MARKUP = deferred("</|<br|<pre")
_BBCODE = deferred(
    r"\[/?(?:b|i|u|s|color|size|font|code|quote|pre|spoiler|url|left)(?:=[^\]\n]{0,80})?\]", re.IGNORECASE
)
_MOST_ESCAPED = 3  # web pages that quote web pages
_INLINE = ("span", "font", "code", "tt", "b>", "b ", "i>", "i ")


class Text(NamedTuple):
    text: str
    repairs: tuple[str, ...] = ()


def clean(data: bytes) -> Text:
    """Decode and undo everything, for a text of one writer. Lines stay lines, except where mail had folded them."""
    text = inner(outer(data))
    posted = restore(text.text)
    return Text("\n".join(posted.lines), (*text.repairs, *posted.repairs)) if posted else text


def line_ends(text: str) -> str:
    """A serial console ends its lines with CR CR LF, old Macs and progress bars with CR alone."""
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def outer(data: bytes) -> Text:
    """Undo what was done to a whole text: its encoding, mail, markup, the terminal's escapes."""
    repairs: list[str] = []
    text = _decode(data, repairs)
    if "\r" in text:
        text = line_ends(text)
    if data.translate(None, _PLAIN):
        text = _INVISIBLE.sub("", _ESCAPES.sub("", text)).replace("\xa0", " ")
    if (plain := undo_quoted_printable(text)) is not None:
        text = plain
        repairs.append(DECODED_QUOTED_PRINTABLE)
    if (plain := undo_base64(text)) is not None:
        text = plain
        repairs.append(DECODED_BASE64)
    if "&" in text and _ENTITY.search(text):
        import html  # its table of entities is large, and pasted web pages are rare

        for _ in range(_MOST_ESCAPED):
            text = _ENTITY.sub(lambda m: html.unescape(m[0]), text)
            if not _ENTITY.search(text):
                break
        text = _INVISIBLE.sub("", text).replace("\xa0", " ")
        repairs.append("the text held HTML entities; they were decoded")
    if "<" in text and _SOME_MARKUP.search(text):
        text = _MARKUP.sub(_without_markup, _BREAK.sub("\n", text))
    if ("/" in text and "[/" in text) or ("*" in text and "[*]" in text):
        text = _BBCODE.sub("", text)
    return Text(text, tuple(repairs))


def inner(text: Text) -> Text:
    """Undo the escapes of JSON strings that no collector's format accounts for."""
    if "\\" not in text.text or not _JSON_ESCAPE.search(text.text):
        return text
    plain = _JSON_ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _JSON[m[2]], text.text)
    plain = _INVISIBLE.sub("", _ESCAPES.sub("", plain))
    return Text(plain, (*text.repairs, "the text held JSON escapes; they were decoded"))


def _without_markup(tag: re.Match[str]) -> str:
    """A tag that colours a word is nothing; one that breaks a line is a space at least."""
    return "" if tag[0].lstrip("</").lower().startswith(_INLINE) else " "


def _decode(data: bytes, repairs: list[str]) -> str:
    head = data[:4096]
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", "replace")
    zeros = head.count(0)
    if zeros > len(head) // 3 and (head[1::2].count(0) == zeros or head[::2].count(0) == zeros):
        repairs.append("the text was UTF-16 without a mark; it was decoded")
        return data.decode("utf-16-le" if head[1::2].count(0) == zeros else "utf-16-be", "replace")
    return data.decode("utf-8", "replace")
