"""Mail as it travels: quoted-printable and base64, of a whole text or of parts of it (RFC 2045, 6.7 and 6.8)."""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Sequence
from typing import Final

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.marker_prefix import learned, without_marks

_QUOTED_PRINTABLE: Final = deferred(r"=3D(?:[0-9A-Fa-f<? ]|=?\n)")
_DECLARED: Final = deferred(r"^[>| \t]{0,8}Content-Transfer-Encoding: *quoted-printable", re.IGNORECASE | re.MULTILINE)
_SOFT_BREAK: Final = deferred(r"=[ \t]{0,64}\n")
_BROKEN_LINE: Final = deferred(r"^[^\n]{70,75}=\n(?=[^\n])", re.MULTILINE)
_NO_ESCAPE: Final = deferred(r"=(?![0-9A-F]{2}|[ \t]{0,64}(?:\n|\Z))")
# In a mailbox with other mail in it, "RAX=00" is no escape: QEMU's digits are small, an escape's are not.
_HEX_PAIR: Final = deferred(r"=([0-9A-F][A-F]|[A-F][0-9]|(?:20|09)(?==?\n|\Z))")
_QUOTE: Final = deferred(r"[ \t]{0,8}[>|]")
_MOST_LOOKED_AT: Final = 2000

_BASE64: Final = deferred(
    r"(?:^Content-Transfer-Encoding: *base64[^\n]*\n(?:[^\n]+\n){0,16}\n)((?:[A-Za-z0-9+/]{1,76}={0,2}\n?)+)",
    re.IGNORECASE | re.MULTILINE,
)
# grep's "FILE:" or "FILE:123:" before a header: every line of that mail has it.
_NAMED_HEADER: Final = deferred(
    r"^([^\s:][^:\n]{0,200}[:-])(?:[0-9]{1,9}[:-])?Content-Transfer-Encoding: *base64", re.IGNORECASE | re.MULTILINE
)
_MOST_FILES: Final = 16
_NO_TEXT: Final = bytes(range(9)) + bytes(range(14, 32))

DECODED_QUOTED_PRINTABLE: Final = "the text was quoted-printable mail; it was decoded"
DECODED_BASE64: Final = "a part of the mail was base64; it was decoded"


def undo_quoted_printable(text: str) -> str | None:
    """The text decoded; ``None`` if it is not encoded, or was quoted or got prefixes after that."""
    if "=3D" not in text and "=\n" not in text:
        return None
    if not (_QUOTED_PRINTABLE.search(text) or _DECLARED.search(text) or _is_broken(text)):
        return None
    return None if _has_prefixes(text) else _decode(_SOFT_BREAK.sub("", text))


def undo_in_lines(lines: Sequence[str]) -> list[tuple[int, str]] | None:
    """The lines decoded, whose quoting is off now, each with the index of its first; ``None``: they are not encoded."""
    if not any(line.endswith("=") or "=3D" in line for line in lines):
        return None
    text = "\n".join(lines)
    if not (_QUOTED_PRINTABLE.search(text) or _is_broken(text)):
        return None
    from kvmwhy.ingest.line_starts import STAMPED

    broken, below = _at_breaks(lines)
    if not below or (all(map(STAMPED.match, below)) and any(map(STAMPED.match, broken))):
        return None
    out: list[tuple[int, list[str]]] = []
    goes_on = False
    for n, line in enumerate(lines):
        bare = line.rstrip(" \t")
        part = bare[:-1] if bare.endswith("=") else line
        if goes_on:
            out[-1][1].append(part)
        else:
            out.append((n, [part]))
        goes_on = part is not line
    return [(n, _decode("".join(parts))) for n, parts in out]


def _is_broken(text: str) -> bool:
    """Whether lines have soft breaks, in a text that has no other "=" but escapes."""
    return _BROKEN_LINE.search(text) is not None and _NO_ESCAPE.search(text) is None


def _decode(text: str) -> str:
    return _HEX_PAIR.sub(lambda m: chr(int(m[1], 16)), text)


def _has_prefixes(text: str) -> bool:
    """Whether the lines behind soft breaks begin as if the text had been quoted, numbered or logged afterwards."""
    from kvmwhy.ingest.line_starts import STAMPED

    lines = text.split("\n")
    broken, below = _at_breaks(lines)
    if not below:
        return False
    # "data[0]: 1" looks like a program's stamp: where lines were stamped, those that are broken have stamps, too.
    stamped = all(map(STAMPED.match, below)) and any(map(STAMPED.match, broken))
    if stamped or all(map(_QUOTE.match, below)) or without_marks(lines):
        return True
    prefix = learned(lines)
    return prefix is not None and all(map(prefix.match, below))


def _at_breaks(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The lines that end in a soft break, and those behind them."""
    places = [n for n, line in enumerate(lines[:-1]) if line.rstrip(" \t").endswith("=")][:_MOST_LOOKED_AT]
    return [lines[n] for n in places], [lines[n + 1] for n in places]


def undo_base64(text: str) -> str | None:
    """The text with each of its parts decoded that is declared to be base64, and is text."""
    if "base64" not in text and "BASE64" not in text:
        return None
    bare = _without_file_names(text)
    plain = _BASE64.sub(_decoded, bare)
    return None if plain == bare else plain


def _without_file_names(text: str) -> str:
    """Without grep's names of files before the lines of mails in which a part is declared to be base64."""
    names = {match[1] for match, _ in zip(_NAMED_HEADER.finditer(text), range(_MOST_FILES), strict=False)}
    for name in names:
        text = re.sub(rf"^{re.escape(name)}(?:[0-9]{{1,9}}[:-])?", "", text, flags=re.MULTILINE)
    return text


def _decoded(part: re.Match[str]) -> str:
    try:
        data = a2b_base64(part[1].encode())
    except ValueError:
        return part[0]
    if not data or len(data.translate(None, _NO_TEXT)) < len(data):
        return part[0]
    return part[0][: part.start(1) - part.start()] + data.decode("utf-8", "replace").replace("\r\n", "\n")
