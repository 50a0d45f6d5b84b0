"""``events/*/*/format`` and ``events/header_page``: where in its bytes an event has what.

Nothing here assumes an offset: fields are found by name, as the files of the traced kernel say.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple, Self

from kvmwhy.readers.trace.events import STORY, Fields

Buffer = bytes | bytearray | memoryview

_FIELD: Final = re.compile(
    r"^[ \t]{0,8}field:[ \t]?([^;\n]{1,200});[ \t]{0,4}offset:(\d{1,6});[ \t]{0,4}size:(\d{1,6});"
    r"(?:[ \t]{0,4}signed:(\d);)?",
    re.MULTILINE,
)
_NAME: Final = re.compile(r"^name: (\S{1,100})$", re.MULTILINE)
_ID: Final = re.compile(r"^ID: (\d{1,6})$", re.MULTILINE)
_DECLARED: Final = re.compile(r"(\w{1,100})(?:\[[^\]]{0,60}\])?$")
_INTEGERS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MOST_FIELDS: Final = 128
_MOST_TEXT: Final = 200  # characters of a string field
_PAGE: Final = (4096, (8, 8))
_LARGEST_PAGE: Final = 1 << 20


class Field(NamedTuple):
    name: str
    offset: int
    size: int
    read: Callable[[Buffer], int | str]


class Format:
    """One tracepoint: ``id`` is what an event's ``common_type`` says."""

    __slots__ = ("_by_name", "fields", "id", "name", "offsets", "size")

    def __init__(self, name: str, number: int, fields: Iterable[Field]) -> None:
        self.name = name
        self.id = number
        everything = tuple(fields)
        self.fields = tuple(field for field in everything if not field.name.startswith("common_"))
        self._by_name = {field.name: field for field in self.fields}
        self.offsets = {field.name: (field.offset, field.size) for field in everything}
        self.size = max((field.offset + field.size for field in everything), default=0)

    def decode(self, payload: Buffer) -> Fields:
        """All its fields but the common ones; those that a torn event lacks are left out."""
        out: Fields = {}
        for field in self.fields:
            if field.offset + field.size <= len(payload):
                out[field.name] = field.read(payload)
        if isinstance(insn := out.get("insn"), str) and isinstance(size := out.get("len"), int):
            out["insn"] = insn[: max(0, 3 * size - 1)]  # the rest of the window is no part of what was decoded
        return out

    def number(self, payload: Buffer, name: str) -> int | None:
        field = self._by_name.get(name)
        if field is None or field.offset + field.size > len(payload):
            return None
        value = field.read(payload)
        return value if isinstance(value, int) else None


class Formats:
    """The tracepoints of one kernel that a story needs, and how its ring buffer's pages begin.

    >>> formats = Formats.parse(text)  # doctest: +SKIP

    ``text`` is any number of format files and, if the pages are not of a 64-bit kernel with 4 KiB sub-buffers,
    ``header_page``, one behind the other in any order.
    """

    def __init__(
        self, formats: Iterable[Format] = (), *, page_size: int = 4096, commit: tuple[int, int] = (8, 8)
    ) -> None:
        self.by_id = {one.id: one for one in formats}
        self.by_name = {one.name: one for one in self.by_id.values()}
        self.page_size = page_size  # the whole sub-buffer, header and all
        self.commit = commit  # offset and size
        self.data = commit[0] + commit[1]  # offset of the first event

    @classmethod
    def parse(cls, text: str, *, wanted: frozenset[str] = STORY) -> Self:
        """Damaged files are left out: see ``missing``."""
        starts = [match.start() for match in _NAME.finditer(text)]
        head = text[: starts[0]] if starts else text
        formats = []
        for begin, end in pairwise([*starts, len(text)]):
            block = text[begin:end]
            if (name := _NAME.match(block)) and name[1] in wanted and (parsed := _format(name[1], block)):
                formats.append(parsed)
            if "field: u64 timestamp" in block:
                head += block
        page_size, commit = _header_page(head)
        return cls(formats, page_size=page_size, commit=commit)

    @property
    def missing(self) -> tuple[str, ...]:
        """What no failure can be told without."""
        return tuple(sorted({"kvm_emulate_insn", "kvm_userspace_exit"} - self.by_name.keys()))


def _format(name: str, block: str) -> Format | None:
    number = _ID.search(block)
    fields = list(_fields(block.partition("print fmt:")[0]))
    names = {field.name for field in fields}
    if number is None or not {"common_type", "common_pid"} <= names:
        return None
    return Format(name, int(number[1]), fields)


def _fields(block: str) -> Iterable[Field]:
    for match in list(_FIELD.finditer(block))[:_MOST_FIELDS]:
        declaration, offset, size = match[1].strip(), int(match[2]), int(match[3])
        if name := _DECLARED.search(declaration):
            yield Field(name[1], offset, size, _reader(declaration, offset, size, signed=match[4] == "1"))


def _reader(declaration: str, offset: int, size: int, *, signed: bool) -> Callable[[Buffer], int | str]:
    if declaration.startswith(("__data_loc", "__rel_loc")):
        base = offset + size if declaration.startswith("__rel_loc") else 0
        return lambda payload: _located(payload, offset, base)
    if "[" in declaration or size not in _INTEGERS:
        if declaration.startswith("char"):
            return lambda payload: _text(bytes(payload[offset : offset + size]))
        return lambda payload: bytes(payload[offset : offset + size]).hex(" ")
    letter = _INTEGERS[size]
    unpack = struct.Struct("<" + (letter.lower() if signed else letter)).unpack_from
    return lambda payload: unpack(payload, offset)[0]


def _located(payload: Buffer, offset: int, base: int) -> str:
    """A string elsewhere in the event: its offset in the low half, its size in the high half."""
    (where,) = struct.unpack_from("<I", payload, offset)
    start = base + (where & 0xFFFF)
    return _text(bytes(payload[start : start + (where >> 16)]))


def _text(data: bytes) -> str:
    return data[:_MOST_TEXT].split(b"\0")[0].decode("utf-8", "replace")


def _header_page(text: str) -> tuple[int, tuple[int, int]]:
    """Size of a page, and where its ``commit`` is; a 64-bit kernel's with 4 KiB pages where that is not said."""
    fields = {m[1].split()[-1]: (int(m[2]), int(m[3])) for m in _FIELD.finditer(text)}
    commit, data = fields.get("commit"), fields.get("data")
    if commit is None or data is None or commit[1] not in {4, 8}:
        return _PAGE
    size = data[0] + data[1]
    if not 64 <= size <= _LARGEST_PAGE or size % 4 or data[0] != sum(commit):
        return _PAGE
    return size, commit
