"""An ELF with its functions, its code, and the lines of its source.

pyelftools reads headers and DWARF; the symbol table, which has some hundred thousand entries in a kernel, is read here.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NamedTuple, Self

_MOST_FILE: Final = 4 << 30
_MOST_TABLE: Final = 512 << 20  # bytes of a symbol table, or of its names
_MOST_CODE: Final = 256 << 20
_MOST_ROWS: Final = 4 << 20  # of a line table
_MOST_UNITS: Final = 50_000
_MOST_DEBUG: Final = 4 << 30  # bytes of debug sections, unpacked
_MOST_TIME: Final = 5.0  # seconds for one address, where no table says which unit it is of
_MOST_NAME: Final = 200
_MAGIC: Final = b"\x7fELF"
_FUNC: Final = 2
_NOTYPE: Final = 0
_EXECUTABLE: Final = 4  # SHF_EXECINSTR
_FAR: Final = 1 << 20  # bytes behind a symbol without a size: it is not in that any more


class SymbolsError(Exception):
    """The file cannot be used; ``str()`` is a whole sentence."""


class Line(NamedTuple):
    file: str
    number: int


class Function(NamedTuple):
    """``offset``: how far behind its beginning."""

    name: str
    offset: int


class _Code(NamedTuple):
    """A section of code: where it is linked to, and its bytes."""

    address: int
    data: bytes


class Elf:
    """Open for reading until close(). Addresses are those that the file was linked to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self._stream = _open(path)
        try:
            self._file = _headers(self._stream, path)
            self._code = list(self._sections_of_code())
            self._addresses, self._names = self._functions()
        except SymbolsError:
            self.close()
            raise
        except Exception as error:  # noqa: BLE001 -- pyelftools raises whatever a broken file makes it raise
            self.close()
            raise SymbolsError(f"{path}: it is damaged, or no ELF that can be read ({_short(error)})") from None
        self._lines: Any = None
        if not self._addresses:
            self.close()
            raise SymbolsError(f"{path}: it has no symbols of functions: take the file from before it was stripped")

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- functions ---------------------------------------------------------------------------------

    def _sections_of_code(self) -> Iterator[_Code]:
        room = _MOST_CODE
        for section in self._file.iter_sections():
            header = section.header
            if header["sh_flags"] & _EXECUTABLE and header["sh_addr"] and header["sh_type"] == "SHT_PROGBITS":
                size = min(header["sh_size"], room)
                self._stream.seek(header["sh_offset"])
                data = self._stream.read(size)
                room -= len(data)
                yield _Code(header["sh_addr"], data)

    def _functions(self) -> tuple[list[int], list[tuple[int, bytes]]]:
        """Sorted addresses, and (size, name) of each."""
        table = self._file.get_section_by_name(".symtab") or self._file.get_section_by_name(".dynsym")
        if table is None:
            return [], []
        names = self._file.get_section(table.header["sh_link"])
        raw = self._table(table.header)
        strings = self._table(names.header)
        wide, order = self._file.elfclass == 64, "<" if self._file.little_endian else ">"
        entry = struct.Struct(f"{order}IBBHQQ" if wide else f"{order}IIIBBH")
        raw = raw[: len(raw) // entry.size * entry.size]
        functions: dict[int, tuple[int, bytes]] = {}
        for fields in entry.iter_unpack(raw):
            if wide:
                name, info, _, section, value, size = fields
            else:
                name, value, size, info, _, section = fields
            if info & 0xF not in {_FUNC, _NOTYPE} or not section or not value or not self.holds(value):
                continue
            if value in functions and info & 0xF != _FUNC:
                continue
            end = strings.find(b"\0", name, name + _MOST_NAME)
            if text := strings[name : end if end >= 0 else name + _MOST_NAME]:
                functions[value] = (size, text)
        addresses = sorted(functions)
        return addresses, [functions[address] for address in addresses]

    def _table(self, header: Any) -> bytes:
        if header["sh_size"] > _MOST_TABLE:
            raise SymbolsError(f"{self.path}: its symbol table has {header['sh_size']} bytes, which is too much")
        self._stream.seek(header["sh_offset"])
        return self._stream.read(header["sh_size"])

    def holds(self, address: int) -> bool:
        """Whether there is code at this address."""
        return any(code.address <= address < code.address + len(code.data) for code in self._code)

    def function(self, address: int) -> Function | None:
        """The function that an address is in."""
        n = bisect_right(self._addresses, address) - 1
        if n < 0 or not self.holds(address):
            return None
        size, name = self._names[n]
        offset = address - self._addresses[n]
        if offset >= (size or _FAR):
            return None
        return Function(name.decode("utf-8", "replace"), offset)

    def bytes_at(self, address: int, size: int) -> bytes:
        """Code, as it is in the file."""
        for code in self._code:
            if code.address <= address < code.address + len(code.data):
                return code.data[address - code.address :][:size]
        return b""

    def places_of(self, code: bytes, most: int = 2) -> list[int]:
        """Where these bytes are in the file's code, the first ``most``."""
        places: list[int] = []
        for section in self._code:
            at = section.data.find(code)
            while at >= 0 and len(places) < most:
                places.append(section.address + at)
                at = section.data.find(code, at + 1)
        return places

    # -- lines -------------------------------------------------------------------------------------

    def line(self, address: int) -> Line | None:
        """The line of source that an instruction comes from, if the file has that. Never raises."""
        try:
            return self._line(address)
        except Exception:  # noqa: BLE001 -- pyelftools raises whatever broken DWARF makes it raise
            return None

    def _line(self, address: int) -> Line | None:
        if self._lines is None:
            if not self._file.has_dwarf_info():
                self._lines = False
                return None
            sizes = [s.data_size for s in self._file.iter_sections() if ".debug_" in s.name or ".zdebug_" in s.name]
            if sum(sizes) > _MOST_DEBUG:
                self._lines = False
                return None
            dwarf = self._file.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
            self._lines = (dwarf, dwarf.get_aranges())
        if not self._lines:
            return None
        dwarf, ranges = self._lines
        unit = None
        if ranges is not None and (offset := ranges.cu_offset_at_addr(address)) is not None:
            unit = dwarf.get_CU_at(offset)
        deadline = time.monotonic() + _MOST_TIME
        for candidate in (unit,) if unit is not None else _units(dwarf):
            if time.monotonic() > deadline:
                return None
            if unit is None and not _may_hold(candidate, address):
                continue
            program = dwarf.line_program_for_CU(candidate)
            if program is not None and (row := _row(program, address)) is not None:
                return _named(program, *row)
        return None


def _units(dwarf: Any) -> Iterator[Any]:
    for n, unit in enumerate(dwarf.iter_CUs()):
        if n >= _MOST_UNITS:
            return
        yield unit


def _may_hold(unit: Any, address: int) -> bool:
    """By the unit's own range, if it has one piece."""
    attributes = unit.get_top_DIE().attributes
    if "DW_AT_low_pc" not in attributes or "DW_AT_high_pc" not in attributes:
        return True
    low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
    end = high.value if high.form == "DW_FORM_addr" else low + high.value
    return bool(low <= address < end)


def _row(program: Any, address: int) -> tuple[int, int] | None:
    """(file, line) of the last row at or before an address, in the sequence that has it."""
    last = None
    for n, entry in enumerate(program.get_entries()):
        state = entry.state
        if n >= _MOST_ROWS:
            return None
        if state is None:
            continue
        if last is not None and last.address <= address < state.address:
            return last.file, last.line
        last = None if state.end_sequence else state
    return None


def _named(program: Any, file: int, number: int) -> Line | None:
    """The file's path as the line table has it: relative to where it was compiled."""
    header = program.header
    first = 0 if header["version"] >= 5 else 1
    entry = header["file_entry"][file - first]
    directory = entry.dir_index
    directories = header["include_directory"]
    path = entry.name.decode("utf-8", "replace")
    index = directory - first
    if 0 <= index < len(directories) and (header["version"] < 5 or directory):
        path = f"{directories[index].decode('utf-8', 'replace')}/{path}"
    return Line(path[-_MOST_NAME:], number)


def _open(path: str) -> BinaryIO:
    try:
        stream = open(path, "rb")  # noqa: SIM115 -- an Elf keeps it
    except OSError as error:
        raise SymbolsError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    info = os.fstat(stream.fileno())
    if not stat.S_ISREG(info.st_mode) or info.st_size > _MOST_FILE:
        stream.close()
        raise SymbolsError(f"{path}: it is no regular file, or larger than {_MOST_FILE >> 30} GiB")
    return stream


def look(path: str) -> None:
    """Whether it may be an ELF at all. Raises SymbolsError."""
    with _open(path) as stream:
        if stream.read(4) != _MAGIC:
            raise SymbolsError(f"{path} is no ELF")


def _headers(stream: BinaryIO, path: str) -> Any:
    from elftools.elf.elffile import ELFFile

    if stream.read(4) != _MAGIC:
        raise SymbolsError(f"{path} is no ELF")
    stream.seek(0)
    return ELFFile(stream)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:100]
