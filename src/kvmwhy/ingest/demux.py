"""One text, several writers: the lines of each VM by themselves, with the lines of the input they came from.

Lines without a writer's name continue what stands before them, as folded and pasted lines do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.journald import Entry, cast_text, export_entries, flatten_pretty, is_cast, is_export
from kvmwhy.ingest.normalize import Text, inner, outer
from kvmwhy.ingest.posted_lines import restore
from kvmwhy.ingest.wrapping import HINT, Peeled, can_be_wrapped

_DECODED: Final = "the text held JSON escapes; they were decoded"
_TURNED: Final = "the lines were newest first; they were turned round"
_PLAYED: Final = "a terminal recording was played"
_IN_TURN: Final = deferred(r"^.{0,200}?\b([RE]AX=|[RE]IP=|GDT=|CR0=|EFER=)", re.MULTILINE)


class Stream(NamedTuple):
    """What one writer wrote. ``lines[n]`` is the line of the input, from 0, that the n-th line was."""

    text: Text
    host: str = ""
    writer: str = ""
    lines: tuple[int, ...] | None = None  # None: as they stand
    times: tuple[str | None, ...] = ()

    def line(self, number: int) -> int:
        """The input's line, from 0, of this text's."""
        if self.lines is None:
            return number
        return self.lines[min(number, len(self.lines) - 1)] if self.lines else 0

    def time(self, number: int) -> str | None:
        return self.times[number] if number < len(self.times) else None


class _Lines(NamedTuple):
    """Lines, each with the input's line, from 0, and its time."""

    text: list[str]
    numbers: list[int]
    times: list[str | None]
    repairs: tuple[str, ...] = ()

    def restored(self) -> _Lines:
        """Without quoting and marks, and joined where they were broken."""
        posted = restore("\n".join(self.text))
        if posted is None:
            return self
        numbers = [self.numbers[n] for n in posted.numbers]
        times = [self.times[n] for n in posted.numbers]
        return _Lines(posted.lines, numbers, times, (*self.repairs, *posted.repairs))

    def decoded(self, decode: Callable[[Text], Text]) -> _Lines:
        """Decoded as one text. Where that makes more lines of one, their numbers are as near as can be."""
        before = "\n".join(self.text)
        after = decode(Text(before, self.repairs))
        if after.text == before:
            return self
        lines = after.text.split("\n")
        numbers, times = self.numbers, self.times
        if len(lines) != len(numbers):
            places = [min(n, len(numbers) - 1) for n in range(len(lines))]
            numbers, times = [numbers[n] for n in places], [times[n] for n in places]
        return _Lines(lines, numbers, times, after.repairs)

    def forward(self) -> _Lines:
        if not _is_backwards("\n".join(self.text)):
            return self
        return _Lines(self.text[::-1], self.numbers[::-1], self.times[::-1], (*self.repairs, _TURNED))

    def stream(self, host: str = "", writer: str = "") -> Stream:
        text = Text("\n".join(self.text), tuple(dict.fromkeys(self.repairs)))
        return Stream(text, host, writer, tuple(self.numbers), tuple(self.times))


def streams(data: bytes) -> list[Stream]:
    """The writers in order of appearance; a text without prefixes is one stream without a name."""
    if is_export(data):
        return _by_writer(list(export_entries(data)), (), ends=True)
    cleaned = outer(data)
    if is_cast(cleaned.text):
        played = outer(cast_text(cleaned.text).encode("utf-8", "replace")).text
        cleaned = Text(played, (*cleaned.repairs, _PLAYED))
    text = flatten_pretty(cleaned.text)
    posted = restore(text)
    if posted is not None:
        numbered = _Lines(posted.lines, posted.numbers, [None] * len(posted.lines), (*cleaned.repairs, *posted.repairs))
    elif can_be_wrapped(text):
        lines = text.split("\n")
        numbered = _Lines(lines, list(range(len(lines))), [None] * len(lines), cleaned.repairs)
    else:
        return [_unnamed(cleaned)]
    entries = _peeled(numbered)
    if entries is None:
        return [numbered.decoded(inner).restored().forward().stream()]
    return _by_writer(entries, numbered.repairs, ends=cleaned.text.endswith("\n"))


def _unnamed(text: Text) -> Stream:
    """A text as people paste it most: whole, and as it was printed."""
    if "\\" not in text.text and not _is_backwards(text.text):
        return Stream(text)
    lines = text.text.split("\n")
    numbered = _Lines(lines, list(range(len(lines))), [None] * len(lines), text.repairs)
    return numbered.decoded(inner).restored().forward().stream()


def _peeled(lines: _Lines) -> list[Entry] | None:
    """Each line without its prefix; ``None`` if no line has one."""
    from kvmwhy.ingest.log_prefix import peel

    entries: list[Entry] = []
    any_peeled = False
    last = len(lines.text) - 1
    for n, line in enumerate(lines.text):
        if n == last and not line:  # behind the last line's end
            break
        peeled = peel(line) if HINT.match(line) else None
        any_peeled = any_peeled or peeled is not None
        entries.append(Entry(lines.numbers[n], peeled or Peeled(line)))
    return entries if any_peeled else None


class _Writer:
    """What one writer wrote, line by line."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.numbers: list[int] = []
        self.times: list[str | None] = []
        self.goes_on = False
        self.decoded = False

    def add(self, number: int, line: Peeled) -> None:
        self.decoded = self.decoded or line.decoded
        pieces = line.text.removesuffix("\n").split("\n")
        if self.goes_on and self.text:
            self.text[-1] += pieces.pop(0)
        self.text += pieces
        self.numbers += [number] * len(pieces)
        self.times += [line.time] * len(pieces)
        self.goes_on = line.goes_on


def _by_writer(entries: list[Entry], repairs: tuple[str, ...], *, ends: bool) -> list[Stream]:
    """``ends``: the last line has an end; else it may be a part of one."""
    by_writer: dict[tuple[str, str], _Writer] = {}
    who = ("", "")
    for number, line in entries:
        for part in _parts(line):
            who = part.who or who
            by_writer.setdefault(who, _Writer()).add(number, part)
    out = []
    for (host, name), writer in by_writer.items():
        if ends or (host, name) != who:
            writer.goes_on = False
            writer.add(writer.numbers[-1], Peeled(""))
        lines = _Lines(writer.text, writer.numbers, writer.times, repairs)
        if writer.decoded:
            lines = lines._replace(repairs=(*repairs, _DECODED)).decoded(_outer_again)
        out.append(lines.decoded(inner).restored().forward().stream(host, name))
    return out


def _outer_again(text: Text) -> Text:
    """What stood in strings of JSON may be coloured, or be of a web page."""
    plain = outer(text.text.encode("utf-8", "replace"))
    return Text(plain.text, (*text.repairs, *plain.repairs))


def _parts(peeled: Peeled) -> list[Peeled]:
    """A message of several lines, each of which may have a prefix of its own."""
    if "\n" not in peeled.text.removesuffix("\n"):
        return [peeled]
    from kvmwhy.ingest.log_prefix import peel

    out = []
    for line in peeled.text.removesuffix("\n").split("\n"):
        nested = peel(line) if HINT.match(line) else None
        if nested:
            out.append(nested._replace(who=nested.who or peeled.who, time=nested.time or peeled.time))
        else:
            out.append(Peeled(line, peeled.who, peeled.time))
    out[-1] = out[-1]._replace(goes_on=peeled.goes_on)
    return out


def _is_backwards(text: str) -> bool:
    """A log viewer that shows the newest line first turns a register dump upside down."""
    if not -1 < text.find("EFER=") < text.find("CR0=") < text.find("GDT="):
        return False
    order = {"X": 0, "I": 1, "G": 2, "C": 3, "E": 4}
    seen = [order["X" if m[1][1:] == "AX=" else "I" if m[1][1:] == "IP=" else m[1][0]] for m in _IN_TURN.finditer(text)]
    up = sum(b - a == 1 for a, b in pairwise(seen))
    down = sum(a - b == 1 for a, b in pairwise(seen))
    return down >= 3 and down > 2 * up
