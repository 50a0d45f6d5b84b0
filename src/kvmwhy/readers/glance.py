"""Whether a short text can hold anything for a reader: a look that costs a hundredth of reading it.

Nearly all of a fleet's small files tell nothing. A plain text that holds no anchor, and at no line's end the beginning
of one, tells nothing either, whatever stands before its lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Final

from kvmwhy.ingest.encoding import ESCAPED
from kvmwhy.ingest.multi_search import Finder, finder
from kvmwhy.readers.registry import search

_FEW: Final = 8  # texts that are read before it pays to make the search
_LONG: Final = 16  # letters of an anchor that is known without its first, which a line end may tear off
_LEAST: Final = 4  # letters of a beginning
_PLAIN: Final = bytes([9, 10, 13, *range(32, 127)])
# What shows that letters may be written otherwise, or stand apart.
_OTHERWISE: Final = (
    *ESCAPED, "&#", "\\u00", "=\n", "base64", "BASE64", "</", "<b", "<i", "[/", "[*]", '"version"', '": [', '":[',
)  # fmt: skip
_SPACES: Final = (b"  ", b" \n", b"\t", b"\r")  # that may stand for a blank, or at a line's end

_asked = count()


def may_tell(data: bytes) -> bool:
    """Whether a reader may find something."""
    if next(_asked) < _FEW or data.translate(None, _PLAIN):
        return True
    if any(spaces in data for spaces in _SPACES):
        data = b"\n".join([b" ".join(line.split()) for line in data.splitlines()])
    return bool(_find()(data + b"\n"))


@cache
def _find() -> Finder:
    return finder([text.encode() for text in dict.fromkeys((*_OTHERWISE, *_parts()))], much=True)


def _parts() -> Iterator[str]:
    """Of each anchor what is there even if a line end tears it."""
    from kvmwhy.ingest.anchor_search import needles

    for anchor in search().anchors:
        text = " ".join(anchor.text.split())
        yield text[_LEAST - 1 :] if len(text) >= _LONG else text
        yield from (needle.text for needle in needles(text) if needle.text.endswith("\n") or not needle.start)
        yield from (f"{text[:size].rstrip()}\n" for size in range(_LEAST, len(text)))
