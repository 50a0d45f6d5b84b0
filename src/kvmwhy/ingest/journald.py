"""Logs that are no lines: journald's export format and pretty JSON, asciinema's recordings.

Each is turned into lines with their writers, as ``streams`` wants them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.wrapping import Peeled

_EXPORT: Final = deferred(
    rb"(?:^|\n)(?:__CURSOR|__REALTIME_TIMESTAMP|_BOOT_ID|_HOSTNAME|PRIORITY)=[^\n]{0,300}\n[_A-Z0-9]{1,64}[=\n]"
)
_FIRST: Final = 64 << 10
_NAME: Final = deferred(rb"[_A-Z][_A-Z0-9]{0,63}")
_LENGTH: Final = 8
_MOST_FIELDS: Final = 1024

_CAST: Final = deferred(r"\s{0,16}\{[^\n]{0,400}\"version\" ?: ?[123]\b")
_CAST_EVENT: Final = deferred(r"\[ ?\d{1,9}(?:\.\d{0,20})?(?:e-?\d{1,3})?, ?\"")
_PRETTY: Final = deferred(r"^\{[ \t]*\n[ \t]{1,16}\"(?=[_A-Z@a-z])", re.MULTILINE)
_LONGEST_ENTRY: Final = 64 << 10
_MOST_BROKEN: Final = 64


class Entry(NamedTuple):
    """A line of the input, counted from 0, and what it says."""

    line: int
    said: Peeled


# -- journalctl -o export -------------------------------------------------------------------------


def is_export(data: bytes) -> bool:
    likely = data[:1] in {b"_", b"P"} or b"\n_" in data[:_FIRST] or b"\nPRIORITY=" in data[:_FIRST]
    return likely and _EXPORT.search(data, 0, _FIRST) is not None  # the pattern takes ten times as long


def export_entries(data: bytes) -> Iterator[Entry]:
    """Entries are separated by an empty line; a field is ``NAME=text``, or NAME, a length (u64 LE) and bytes."""
    fields: dict[str, Any] = {}
    at = line = first = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        name, is_text, value = data[at:end].partition(b"=")
        step = end + 1
        if not is_text and _NAME.fullmatch(name) and end + 1 + _LENGTH <= len(data):
            size = int.from_bytes(data[end + 1 : end + 1 + _LENGTH], "little")
            start = end + 1 + _LENGTH
            if start + size <= len(data):
                value, step = data[start : start + size], start + size + 1
        if at == end:
            yield from _entry(first, fields)
            fields, first = {}, line + 1
        elif _NAME.fullmatch(name) and len(fields) < _MOST_FIELDS:
            fields.setdefault(name.decode(), value.decode("utf-8", "replace"))
        line += data.count(b"\n", at, step)
        at = step
    yield from _entry(first, fields)


def _entry(line: int, fields: dict[str, Any]) -> Iterator[Entry]:
    from kvmwhy.ingest.log_prefix import of_fields

    if "MESSAGE" in fields and (peeled := of_fields(fields)):
        yield Entry(line, peeled)


# -- JSON over several lines ----------------------------------------------------------------------


def flatten_pretty(text: str) -> str:
    """``journalctl -o json-pretty``: each object on one line; the lines that it had stay, empty."""
    if "{" not in text:
        return text
    out: list[str] = []
    at = broken = 0
    for match in _PRETTY.finditer(text):
        start = match.start()
        if start < at:
            continue
        end = text.find("\n}", start, start + _LONGEST_ENTRY)
        if end < 0:
            broken += 1
            if broken > _MOST_BROKEN:
                break
            continue
        body = text[start : end + 2]
        try:
            fields = msgspec.json.decode(body.encode("utf-8", "surrogatepass"))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        out += (text[at:start], msgspec.json.encode(fields).decode(), "\n" * body.count("\n"))
        at = end + 2
    return "".join([*out, text[at:]]) if out else text


# -- asciinema ------------------------------------------------------------------------------------


def is_cast(text: str) -> bool:
    return _CAST.match(text) is not None


def cast_text(text: str) -> str:
    """What a recording wrote to the terminal. Version 1 is one object, 2 and 3 are one event a line."""
    try:
        whole = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        whole = None
    if isinstance(whole, dict):
        events = whole.get("stdout")
        return "".join(_output(event) for event in events) if isinstance(events, list) else ""
    out = []
    for line in text.splitlines():
        if _CAST_EVENT.match(line):
            try:
                out.append(_output(msgspec.json.decode(line.encode("utf-8", "surrogatepass"))))
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue
    return "".join(out)


def _output(event: Any) -> str:
    match event:
        case [_, "o", str(said)] | [_, str(said)]:
            return said
    return ""
