"""One text, several writers: the lines of each VM by themselves, with the lines of the input they came from.

Lines without a writer's name continue what stands before them, as folded and pasted lines do.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

from kvmwhy.ingest.journald import Entry, cast_text, export_entries, flatten_pretty, is_cast, is_export
from kvmwhy.ingest.normalize import Text, inner, outer
from kvmwhy.ingest.wrapping import HINT, Peeled, can_be_wrapped

_NESTED: Final = 2  # a message of several lines may hold prefixed ones
_DECODED: Final = "the text held JSON escapes; they were decoded"
_TURNED: Final = "the lines were newest first; they were turned round"
_IN_TURN: Final = re.compile(r"^.{0,200}?\b([RE]AX=|[RE]IP=|GDT=|CR0=|EFER=)", re.MULTILINE)


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


class _Lines:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.numbers: list[int] = []
        self.times: list[str | None] = []
        self.glue = False
        self.decoded = False

    def add(self, number: int, said: Peeled) -> None:
        self.decoded = self.decoded or said.decoded
        pieces = said.text.removesuffix("\n").split("\n")
        if self.glue and self.text:
            self.text[-1] += pieces.pop(0)
        self.text += pieces
        self.numbers += [number] * len(pieces)
        self.times += [said.time] * len(pieces)
        self.glue = said.goes_on


def streams(data: bytes) -> list[Stream]:
    """The writers in order of appearance; a text without prefixes is one stream without a name."""
    if is_export(data):
        return _by_writer(list(export_entries(data)), (), cut=False)
    cleaned = outer(data)
    text = cleaned.text
    if is_cast(text):
        played = outer(cast_text(text).encode("utf-8", "replace")).text
        return [Stream(inner(Text(played, (*cleaned.repairs, "a terminal recording was played"))))]
    if not can_be_wrapped(text):
        return [Stream(_forward(inner(cleaned)))]
    from kvmwhy.ingest.log_prefix import peel

    text = flatten_pretty(text)
    entries: list[Entry] = []
    peeled = False
    cut = not text.endswith("\n")
    for number, line in enumerate(text.removesuffix("\n").split("\n")):
        said = peel(line) if HINT.match(line) else None
        peeled = peeled or said is not None
        entries.append(Entry(number, said or Peeled(line)))
    if not peeled:
        return [Stream(_forward(inner(cleaned)))]
    return _by_writer(entries, cleaned.repairs, cut=cut)


def _by_writer(entries: list[Entry], repairs: tuple[str, ...], *, cut: bool) -> list[Stream]:
    """``cut``: the last line has no end, and so may be a part of one."""
    by_writer: dict[tuple[str, str], _Lines] = {}
    who = ("", "")
    for number, said in entries:
        for part in _parts(said):
            who = part.who or who
            by_writer.setdefault(who, _Lines()).add(number, part)
    out = []
    for (host, writer), lines in by_writer.items():
        notes = (*repairs, _DECODED) if lines.decoded else repairs
        text = "\n".join(lines.text)
        if not (cut and (host, writer) == who):
            text += "\n"
            lines.add(lines.numbers[-1], Peeled(""))
        if lines.decoded:
            text = outer(text.encode("utf-8", "replace")).text
        same = text.count("\n") + 1 == len(lines.text)
        numbers, times = tuple(lines.numbers), tuple(lines.times)
        made = inner(Text(text, notes))
        if same and made.text.count("\n") + 1 == len(numbers) and _is_backwards(made.text):
            turned = "\n".join(reversed(made.text.split("\n")))
            made, numbers, times = Text(turned, (*notes, _TURNED)), numbers[::-1], times[::-1]
        out.append(Stream(made, host, writer, numbers, times))
    return out


def _parts(said: Peeled) -> list[Peeled]:
    """A message of several lines, each of which may have a prefix of its own."""
    if "\n" not in said.text.removesuffix("\n"):
        return [said]
    from kvmwhy.ingest.log_prefix import peel

    out = []
    for line in said.text.removesuffix("\n").split("\n"):
        nested = peel(line) if HINT.match(line) else None
        if nested:
            out.append(nested._replace(who=nested.who or said.who, time=nested.time or said.time))
        else:
            out.append(Peeled(line, said.who, said.time))
    out[-1] = out[-1]._replace(goes_on=said.goes_on)
    return out


def _forward(text: Text) -> Text:
    if not _is_backwards(text.text):
        return text
    return Text("\n".join(reversed(text.text.split("\n"))), (*text.repairs, _TURNED))


def _is_backwards(text: str) -> bool:
    """A log viewer that shows the newest line first turns a register dump upside down."""
    if not -1 < text.find("EFER=") < text.find("CR0=") < text.find("GDT="):
        return False
    order = {"X": 0, "I": 1, "G": 2, "C": 3, "E": 4}
    seen = [order["X" if m[1][1:] == "AX=" else "I" if m[1][1:] == "IP=" else m[1][0]] for m in _IN_TURN.finditer(text)]
    up = sum(b - a == 1 for a, b in pairwise(seen))
    down = sum(a - b == 1 for a, b in pairwise(seen))
    return down >= 3 and down > 2 * up
