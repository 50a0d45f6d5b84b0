"""Failures whose lines all have a collector's prefix and that follow each other: cut out and unwrapped in one go.

This is a short cut through ``blocks.cut`` and ``wrapped.unwrap``, which both take every line in hand. It takes what
those would certainly make the same of, a failure whose shape they have seen before, and leaves the rest to them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.fleet.blocks import AFTER, BEFORE
from kvmwhy.fleet.marks import EFER, END, HEADS, find
from kvmwhy.fleet.wrapped import LONGEST_PREFIX, Wrapped, digest_of, shape_of, take_off, time_ends, unwrap

_HEAD: Final = HEADS[0]
_DENSE: Final = 8  # announcements in a sample that make it worth trying
_SAMPLE: Final = 256 << 10
_MOST: Final = 20_000  # of each thing that is remembered
_HELD: Final = 32 << 20  # bytes of failures that are remembered


class Stamped(NamedTuple):
    """A failure with its prefixes, where it begins, the lines before it, and it unwrapped."""

    text: bytes
    offset: int
    before: bytes
    told: Wrapped


class _Form(NamedTuple):
    """Prefixes of one shape: where the time stands in them, and whom those without it name."""

    begin: int
    end: int
    who: dict[bytes, tuple[str, str]]


class Stamps:
    """What is known of prefixes and of failures behind them."""

    def __init__(self) -> None:
        self._forms: dict[bytes, _Form | None] = {}
        self._seen: dict[tuple[bytes, bytes], bytes] = {}  # the digests
        self._size = 0

    def cut(self, data: bytes, offset: int) -> tuple[list[Stamped], int]:
        """The failures at the beginning of ``data``, one behind the other, and where the last of them ends.

        ``data`` begins a line, and the failure before it has ended. Each is one announcement with one dump and its
        code bytes, and another announcement follows it: such failures are apart whatever stands far from them.
        """
        out: list[Stamped] = []
        done, at = 0, data.find(_HEAD)
        if at <= 0 or data.count(_HEAD, 0, _SAMPLE) < _DENSE:
            return out, 0
        while (following := data.find(_HEAD, at + 1)) >= 0:
            start = data.rfind(b"\n", done, at) + 1 or done
            code = data.find(END, at, following)
            end = data.find(b"\n", code, following) + 1 if code >= 0 else 0
            if not end or data.find(END, end, following) >= 0 or not _is_plain(data, done, start):
                break
            block = data[start:end]
            told = self._told(block, at - start)
            if told is None:
                break
            out.append(Stamped(block, offset + start, data[max(done, start - BEFORE) : start], told))
            done, at = end, following
        return out, done

    def _told(self, block: bytes, size: int) -> Wrapped | None:
        """What ``unwrap`` makes of the block, if that can be told from what it made of others."""
        if not 0 < size <= LONGEST_PREFIX or len(block) > AFTER:
            return None
        prefix = block[:size]
        shape = shape_of(prefix)
        if shape not in self._forms:
            if len(self._forms) >= _MOST:
                self._forms.clear()
            told = unwrap(block)
            if told.text is block or b"\t" in block.partition(b"\n")[0]:
                return None  # this one is odd; others with such prefixes need not be
            self._forms[shape] = _form(prefix, block, told)
        form = self._forms[shape]
        text = take_off(block, prefix, form.end) if form else None
        digest = text and (self._seen.get((shape, text)) or self._learn(block, shape, text))
        if not text or not digest or not form:
            return None
        begin, end, known = form
        name = prefix[:begin] + prefix[end:]
        who = known.get(name)
        if who is None:
            told = unwrap(block.partition(b"\n")[0])
            if len(known) >= _MOST:
                known.clear()
            who = known[name] = (told.host, told.writer)
        return Wrapped(text, who[0], who[1], prefix[begin:end].decode(), digest)

    def _learn(self, block: bytes, shape: bytes, text: bytes) -> bytes | None:
        """Look at a failure that was not seen behind such a prefix, and remember it if it is what ``cut`` takes.

        What ``unwrap`` makes of a first line depends on its prefix alone, unless there are tabs behind it.
        """
        if not _is_one(block) or not _is_one(text) or b"\t" in text.partition(b"\n")[0]:
            return None
        if self._size > _HELD or len(self._seen) >= _MOST:
            self._seen.clear()
            self._size = 0
        digest = self._seen[shape, text] = digest_of(text)
        self._size += len(text)
        return digest


def _is_plain(data: bytes, begin: int, end: int) -> bool:
    """Whether nothing between two failures is of a failure."""
    return begin == end or (end - begin <= AFTER and data.find(END, begin, end) < 0 and not find(data[begin:end]))


def _is_one(block: bytes) -> bool:
    """One announcement with one dump, that ends with code bytes and the block with them."""
    marks = find(block)
    code = block.find(END)
    alone = block.find(b"\n", code) == len(block) - 1 and block.find(END, code + 1) < 0
    return alone and [which for which, _, _ in marks] in ([0], [0, EFER]) and marks[-1][1] < code


def _form(prefix: bytes, block: bytes, told: Wrapped) -> _Form | None:
    """Where the time stands, if it stands there as it is told, and once; an empty place if there is no time.

    Nothing, if this is not all that ``unwrap`` takes off, or another prefix of this shape can be a mark: all marks with
    a digit have one of these in them.
    """
    end = time_ends(prefix, told.time)
    if b"efail-" in prefix or b"0x" in prefix or (told.time and not end) or told.text != take_off(block, prefix, end):
        return None
    return _Form(end - len(told.time.encode()), end, {})
