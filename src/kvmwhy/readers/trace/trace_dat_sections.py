"""The container ``trace.dat`` of trace-cmd, versions 6 and 7 (trace-cmd.dat.v6(5), trace-cmd.dat.v7(5)).

Only what leads to the events is read: how the ring buffer looks, the formats of KVM's tracepoints, and where the
pages of each CPU are. No offset or size in the file is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from kvmwhy.readers.trace.cpu_buffers import Packed, Pages, Plain
from kvmwhy.readers.trace.decompress import UnpackError, unpack
from kvmwhy.readers.trace.formats import Buffer, Formats

MAGIC: Final = b"\x17\x08\x44tracing"
_SYSTEMS: Final = {b"kvm", b"kvmmmu"}
_MOST_CPUS: Final = 8192
_MOST_SECTIONS: Final = 64  # chained options sections
_MOST_OPTIONS: Final = 1 << 16
_LARGEST_PAGE: Final = 1 << 20

# Options of version 7, and of version 6 those that it has.
_BUFFER: Final = 3
_TRACECLOCK: Final = 4
_CPUCOUNT: Final = 8
_HEADER_INFO: Final = 16
_EVENT_FORMATS: Final = 18
_TEXT: Final = 22


class Cpu(NamedTuple):
    number: int
    pages: Pages


class Recording(NamedTuple):
    """One ring buffer: the trace's own, or that of an instance."""

    name: str
    clock: str
    cpus: tuple[Cpu, ...]


class Container(NamedTuple):
    version: str
    formats: Formats
    recordings: tuple[Recording, ...]
    damage: tuple[str, ...]


class _Short(Exception):  # noqa: N818 -- no error of the program: the file ends
    pass


class _Reader:
    """Bytes from front to back. Raises _Short at their end."""

    def __init__(self, data: memoryview, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, size: int) -> memoryview:
        if not 0 <= size <= len(self.data) - self.at:
            raise _Short
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def string(self, most: int = 4096) -> str:
        window = bytes(self.data[self.at : self.at + most])
        end = window.find(b"\0")
        if end < 0:
            raise _Short
        self.at += end + 1
        return window[:end].decode("utf-8", "replace")


def open_container(data: Buffer) -> Container:
    """Read all but the events. What cannot be read is named under ``damage``."""
    reader = _Reader(memoryview(data))
    damage: list[str] = []
    parts = _Parts()
    version = "?"
    try:
        reader.take(len(MAGIC))
        version = reader.string(16)
        big_endian, _long = reader.number(1), reader.number(1)
        parts.page_size = reader.number(4)
        if big_endian == 1:
            damage.append("the file is of a big-endian machine: KVM on x86 has none")
        elif version == "6":
            _version_6(reader, parts)
        elif version == "7":
            _version_7(reader, parts, damage)
        else:
            damage.append(f"the file has version {version}; 6 and 7 are known")
    except _Short:
        damage.append("the file is cut off")
    except UnpackError as error:
        damage.append(str(error))
    formats = Formats.parse(parts.text)
    recordings = tuple(buffer.recording(reader.data, formats.page_size, damage) for buffer in parts.buffers)
    return Container(version, formats, recordings, tuple(dict.fromkeys(damage)))


class _Buffer(NamedTuple):
    """Where the pages of a recording are said to be."""

    name: str
    clock: str
    page_size: int
    cpus: tuple[tuple[int, int, int], ...]  # number, offset, size
    how: str | None  # the compression of its chunks

    def recording(self, data: memoryview, page_size: int, damage: list[str]) -> Recording:
        size = self.page_size if 64 <= self.page_size <= _LARGEST_PAGE and self.page_size % 4 == 0 else page_size
        cpus = []
        for number, offset, length in self.cpus:
            if offset + length > len(data):
                damage.append("the file is cut off")
            # The count of chunks is not part of the size (measured, trace-cmd 3.1.6).
            part = data[offset : offset + length + (4 if self.how else 0)]
            pages: Pages = Plain(part, size) if self.how is None else Packed(part, size, self.how)
            if length:
                cpus.append(Cpu(number, pages))
        return Recording(self.name, self.clock, tuple(cpus))


class _Parts:
    """What is gathered while the file is read."""

    def __init__(self) -> None:
        self.page_size = 4096
        self.header = ""
        self.formats: list[str] = []
        self.clock = ""
        self.buffers: list[_Buffer] = []

    @property
    def text(self) -> str:
        return "\n".join((self.header, *self.formats))


# -- the sections that both versions have, in the same form ----------------------------------------


def _header_info(reader: _Reader, parts: _Parts) -> None:
    if bytes(reader.take(12)) != b"header_page\0":
        raise _Short
    parts.header = _decode(reader.take(reader.number(8)))
    reader.take(13)
    reader.take(reader.number(8))


def _event_formats(reader: _Reader, parts: _Parts) -> None:
    for _ in range(reader.number(4)):
        system = reader.string().encode()
        for _ in range(reader.number(4)):
            text = reader.take(reader.number(8))
            if system in _SYSTEMS:
                parts.formats.append(_decode(text[: 1 << 16]))


def _decode(data: memoryview) -> str:
    return bytes(data).decode("utf-8", "replace")


def _chosen(clock: str) -> str:
    """``[local] global counter``: the one in brackets; a bare name is itself."""
    return clock.partition("[")[2].partition("]")[0] or clock.strip().strip("\0")


# -- version 6: everything in one order ------------------------------------------------------------


def _version_6(reader: _Reader, parts: _Parts) -> None:
    _header_info(reader, parts)
    for _ in range(reader.number(4)):  # of the tracers, which no failure needs
        reader.take(reader.number(8))
    _event_formats(reader, parts)
    reader.take(reader.number(4))  # kallsyms
    reader.take(reader.number(4))  # printk formats
    reader.take(reader.number(8))  # command lines
    count = reader.number(4)
    kind = bytes(reader.take(10))
    instances: list[tuple[int, str]] = []
    if kind.startswith(b"options"):
        for number, option in _options(reader, ends_with_number=True):
            if number == _TRACECLOCK:
                parts.clock = _chosen(_decode(option))
            elif number == _CPUCOUNT and len(option) >= 4:
                count = int.from_bytes(option[:4], "little")
            elif number == _BUFFER and len(option) > 8:
                instances.append((int.from_bytes(option[:8], "little"), _decode(option[8:]).partition("\0")[0]))
        kind = bytes(reader.take(10))
    if not kind.startswith(b"flyrecord"):
        return
    _version_6_buffer(reader, parts, "", count)
    for offset, name in instances:
        if offset < len(reader.data):
            inside = _Reader(reader.data, offset)
            if bytes(inside.take(10)).startswith(b"flyrecord"):
                _version_6_buffer(inside, parts, name, count)


def _version_6_buffer(reader: _Reader, parts: _Parts, name: str, count: int) -> None:
    cpus = tuple((n, reader.number(8), reader.number(8)) for n in range(min(count, _MOST_CPUS)))
    parts.buffers.append(_Buffer(name, parts.clock, parts.page_size, cpus, None))


# -- version 7: sections, found by way of options --------------------------------------------------


def _version_7(reader: _Reader, parts: _Parts, damage: list[str]) -> None:
    how = reader.string(64)
    reader.string(64)  # the version of the compression
    offset = reader.number(8)
    buffers: list[memoryview] = []
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MOST_SECTIONS:
        seen.add(offset)
        options = _Reader(_section(reader.data, offset, how))
        offset = 0
        for number, option in _options(options, ends_with_number=False):
            where = int.from_bytes(option[:8], "little") if len(option) >= 8 else 0
            if number == 0:
                offset = where
            elif number == _TRACECLOCK:
                parts.clock = _chosen(_decode(option))
            elif number == _BUFFER:
                buffers.append(option)
            elif number in {_HEADER_INFO, _EVENT_FORMATS}:
                damage += _metadata(reader.data, where, how, number, parts)
            elif number == _TEXT:
                damage.append("the file holds a latency trace as text: see trace-cmd report")
    for option in buffers[:_MOST_SECTIONS]:
        _version_7_buffer(reader.data, option, how, parts)


def _metadata(data: memoryview, offset: int, how: str, number: int, parts: _Parts) -> list[str]:
    """Read one section into ``parts``; return what is damaged."""
    try:
        section = _Reader(_section(data, offset, how))
        (_header_info if number == _HEADER_INFO else _event_formats)(section, parts)
    except UnpackError as error:
        return [str(error)]
    return []


def _section(data: memoryview, offset: int, how: str) -> memoryview:
    """What a section holds. Raises _Short, UnpackError."""
    reader = _Reader(data, min(offset, len(data)))
    reader.take(2)
    flags = reader.number(2)
    reader.take(4)
    size = reader.number(8)
    if not flags & 1:
        return reader.take(size)
    packed, whole = reader.number(4), reader.number(4)
    return memoryview(unpack(reader.take(packed), whole, how))


def _version_7_buffer(data: memoryview, option: memoryview, how: str, parts: _Parts) -> None:
    reader = _Reader(option)
    offset = reader.number(8)
    name, clock = reader.string(), reader.string()
    page_size, count = reader.number(4), reader.number(4)
    cpus = []
    for _ in range(min(count, _MOST_CPUS)):
        number = reader.number(4)
        cpus.append((number, reader.number(8), reader.number(8)))
    head = _Reader(data, min(offset, len(data)))
    head.take(2)
    compressed = bool(head.number(2) & 1)
    parts.buffers.append(_Buffer(name, clock or parts.clock, page_size, tuple(cpus), how if compressed else None))


def _options(reader: _Reader, *, ends_with_number: bool) -> Iterator[tuple[int, memoryview]]:
    """Version 6 ends them with a bare 0; in version 7 that is an option like any other, and the last."""
    for _ in range(_MOST_OPTIONS):
        number = reader.number(2)
        if number == 0 and ends_with_number:
            return
        yield number, reader.take(reader.number(4))
        if number == 0:
            return
