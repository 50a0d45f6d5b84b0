"""A log as blocks with their counts: what is equal and stands close together is cut out once.

Where failures follow each other without end, the text is split at C speed and equal pieces are counted without being
looked at; everywhere else each block is cut out. The blocks are the same. Memory holds one step, the block that
waits for its end, and a bounded number of distinct pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from kvmwhy.fleet.blocks import AFTER, AHEAD, BEFORE, ENDS, KEEP, cut
from kvmwhy.fleet.marks import EFER, END, HEADS, LONGEST, find, is_header
from kvmwhy.fleet.stamped import Stamps
from kvmwhy.fleet.wrapped import Wrapped
from kvmwhy.ingest.multi_search import Found

STEP: Final = 1 << 20  # fits into a CPU's cache
REACH: Final = 1 << 20  # how far libvirt's header holds
_HELD: Final = 32 << 20  # bytes of distinct pieces
_MOST: Final = 20_000
_SAMPLE: Final = 64 << 10
_FORMS: Final = ("code", "efer", "efer small", "words")  # by what ends a dump: ENDS, or nothing
_WITH_CODE: Final = _FORMS[0]
_DENSE: Final = 16  # announcements in a sample that make it worth splitting
_HEAD: Final = HEADS[0]
_CUT: Final = b"\n" + _HEAD
_STAMP: Final = 64  # bytes of a time before libvirt's mark
_HEADER: Final = 2 * BEFORE

Header = tuple[int, bytes]
"""Where libvirt's mark stands, and the lines from there on."""


class Counted(NamedTuple):
    """A block, where it first began in the input, how often it was there, what stands before it, libvirt's header.

    ``told``: the block unwrapped, where that is known already.
    """

    text: bytes
    offset: int
    times: int = 1
    before: bytes = b""
    header: bytes = b""
    told: Wrapped | None = None


def counted(chunks: Iterable[bytes], *, offset: int = 0, header: Header | None = None) -> Iterator[Counted]:
    """Every block of an input that comes in pieces of any size.

    ``offset`` is where it begins, which is a line's beginning and in no block; ``header`` is the last before it.
    """
    same, stamps, headers = _Same(), Stamps(), _Headers(header)
    held, apart = b"", True  # apart: what comes next begins a line, and the block before it has ended
    for step in _steps(chunks, offset):
        if step.offset != offset + len(held):  # what was left out has no mark, nor has what was held
            held, offset, apart = b"", step.offset, False
        data = held + step.data if held else step.data
        near = headers.near(offset)
        if apart and not near and (end := same.add(data, offset)):
            data, offset = data[end:], offset + end
        elif apart and not near:
            stamped, end = stamps.cut(data, offset)
            for text, at, before, told in stamped:
                yield Counted(text, at, 1, before, b"", told)
            data, offset, apart = data[end:], offset + end, end > 0
        else:
            apart = False
        found = find(data)
        headers.see(data, found, offset)
        made = cut(data, found, last=step.last)
        for gap, start, end in made.blocks:
            at = offset + start
            yield Counted(data[start:end], at, 1, data[gap:start], headers.at(at))
        apart = made.rest == (made.blocks[-1].end if made.blocks else 0) and (apart or bool(made.blocks))
        held, offset = data[made.rest :], offset + made.rest
        if same.full:
            yield from same.take()
    yield from same.take()


class _Step(NamedTuple):
    data: bytes
    offset: int
    last: bool = False


def _steps(chunks: Iterable[bytes], offset: int) -> Iterator[_Step]:
    """What has marks, with at least KEEP bytes before and AHEAD behind it; then an empty step, the last."""
    tail, passes = b"", False
    for chunk in _gathered(chunks):
        marked = chunk.count(_HEAD, 0, _SAMPLE) >= _DENSE or bool(
            find(chunk) or find(tail[-LONGEST:] + chunk[:LONGEST])
        )
        if passes:
            yield _Step(chunk, offset)
        elif marked:
            yield _Step(tail + chunk, offset - len(tail))
        passes = marked
        offset += len(chunk)
        tail = chunk[-KEEP:] if len(chunk) >= KEEP else (tail + chunk)[-KEEP:]
    yield _Step(b"", offset, last=True)


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Chunks of at least STEP bytes, but for the last."""
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= STEP:
            yield held[0] if len(held) == 1 else b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


class _Headers:
    """What libvirt wrote last before a place: its version, the host, the guest's command line."""

    def __init__(self, first: Header | None) -> None:
        self.known = [first] if first else []

    def see(self, data: bytes, found: Found, offset: int) -> None:
        for which, at, _ in found:
            if is_header(which):
                place, text = offset + at, header_text(data, at)
                if self.known and self.known[-1][0] >= place:  # seen before; there may be more of it now
                    self.known = [k if k[0] != place or len(k[1]) >= len(text) else (place, text) for k in self.known]
                else:
                    self.known.append((place, text))
        behind = sum(at <= offset for at, _ in self.known)
        del self.known[: max(0, behind - 1)]

    def at(self, place: int) -> bytes:
        for at, text in reversed(self.known):
            if at <= place:
                return text if place - at <= REACH else b""
        return b""

    def near(self, offset: int) -> bool:
        return bool(self.known) and offset - self.known[-1][0] <= REACH


def header_text(data: bytes, at: int) -> bytes:
    """The lines from the one that has libvirt's mark at ``at`` on."""
    start = data.rfind(b"\n", max(0, at - _STAMP), at) + 1 or max(0, at - _STAMP)
    return data[start : at + _HEADER]


class _Same:
    """What stood behind equal first lines of failures, and was only counted so far."""

    def __init__(self) -> None:
        self.count: Counter[bytes] = Counter()
        self.offset: dict[bytes, int] = {}
        self.size = 0
        self.form: str | None = None

    @property
    def full(self) -> bool:
        return len(self.count) > _MOST or self.size > _HELD

    def add(self, data: bytes, offset: int) -> int:
        """Count the blocks at the beginning of ``data`` that follow each other; where they end, or 0.

        Each is one announcement at the beginning of a line, with one dump and its code bytes, or none has any: such
        blocks are apart whatever stands far from them.
        """
        if not data.startswith(_HEAD) or data.count(_CUT, 0, _SAMPLE) < _DENSE:
            return 0
        pieces = data.split(_CUT)
        pieces[0] = pieces[0][len(_HEAD) :]
        form = _form(_HEAD + pieces[0])
        end = len(data)
        while pieces and (end == len(data) or (form != _WITH_CODE and len(data) - end < AHEAD)):
            end -= len(pieces.pop()) + len(_HEAD) + 1  # there may be more of it, or of what decides about it
        if not pieces or form is None:
            return 0
        if self.form not in {None, form}:
            return 0
        if form != _WITH_CODE and any(data.find(mark, end) >= 0 for mark in ENDS[: _FORMS.index(form)]):
            return 0
        known = len(self.count)
        self.count.update(pieces)
        new = list(islice(reversed(self.count), len(self.count) - known))  # a dict is in the order of its making
        if any(_form(_HEAD + piece) != form for piece in new):
            self.count.subtract(pieces)
            for piece in new:
                del self.count[piece]
            return 0
        self.form = form
        if new:
            self._place(pieces, set(new), offset)
        return end + 1

    def _place(self, pieces: list[bytes], new: set[bytes], at: int) -> None:
        for piece in pieces:
            if piece in new:
                new.discard(piece)
                if piece not in self.offset:
                    self.offset[piece] = at
                    self.size += len(piece)
                if not new:
                    break
            at += len(_CUT) + len(piece)

    def take(self) -> Iterator[Counted]:
        """What was counted; then it is forgotten."""
        for piece, count in self.count.items():
            yield Counted(_HEAD + piece + b"\n", self.offset[piece], count)
        self.count.clear()
        self.offset.clear()
        self.size = 0
        self.form = None


def _form(block: bytes) -> str | None:
    """With what it ends, if it is one announcement and its dump."""
    marks = [which for which, _, _ in find(block)]
    if len(block) > AFTER or marks not in ([0], [0, EFER]):
        return None
    code = block.find(END)
    if code >= 0:
        alone = block.find(END, code + 1) < 0 and block.find(b"\n", code) < 0
        return _WITH_CODE if alone else None
    if block.endswith(b"\n"):
        return None
    return next(form for form, end in zip(_FORMS[1:], (*ENDS[1:], b""), strict=True) if end in block)
