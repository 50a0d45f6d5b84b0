"""Packets of Perfetto's trace format (protos/perfetto/trace): tracks, slices and instants with arguments.

Protobuf's wire format: each field is its number and wire type, then a varint, or a length and so many bytes. A file is
a run of ``Trace.packet`` fields, so that packets are written as they come. Names that repeat are sent once and then
referred to by number, as ``InternedData`` has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Final, Literal, NamedTuple

Kind = Literal["begin", "end", "instant"]

_KINDS: Final[dict[Kind, int]] = {"begin": 1, "end": 2, "instant": 3}  # TrackEvent.Type
_SEQUENCE: Final = 1  # all packets are of one writer
_CLEARED, _NEEDED = 1, 2  # SequenceFlags: SEQ_INCREMENTAL_STATE_CLEARED, SEQ_NEEDS_INCREMENTAL_STATE
_CATEGORIES, _EVENTS, _ARGUMENTS = 1, 2, 3  # fields of InternedData
_MOST_NAMES: Final = 4096  # of each table; what comes behind is written out each time
_MOST: Final = (1 << 64) - 1
_BYTE: Final = [bytes((value,)) for value in range(0x80)]
_BY_RANK: Final = 3  # ChildTracksOrdering.EXPLICIT


class Argument(NamedTuple):
    """A number is shown in hexadecimal by the UI, or, if ``decimal``, as a count."""

    name: str
    value: int | str
    decimal: bool = False


def _varint(value: int) -> bytes:
    if value < 0x80:
        return _BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    """Wire type 0. uint64: the low 64 bits."""
    return _varint(field << 3) + _varint(value & _MOST)


def _bytes(field: int, body: bytes) -> bytes:
    """Wire type 2: a message or a string."""
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode("utf-8", "replace"))


def _packet(*fields: bytes) -> bytes:
    return _bytes(1, b"".join(fields))  # Trace.packet


class Writer:
    """Makes the packets of one file, in the order in which they are to stand there."""

    def __init__(self) -> None:
        self._names: dict[int, dict[str, int]] = {_CATEGORIES: {}, _EVENTS: {}, _ARGUMENTS: {}}
        self._new: list[tuple[int, bytes]] = []  # names that the next packet has to introduce
        self._flags = _CLEARED

    def track(self, uuid: int, name: str, *, parent: int | None = None, rank: int = 0) -> bytes:
        """A row of the picture. Children stand below their parent by ``rank``."""
        fields = [_number(1, uuid), _text(2, name)]
        if parent is not None:
            fields.append(_number(5, parent))
        fields += [_number(11, _BY_RANK), _number(12, rank)]
        return _packet(_number(10, _SEQUENCE), _bytes(60, b"".join(fields)))

    def event(
        self,
        kind: Kind,
        track: int,
        ns: int,
        *,
        name: str = "",
        category: str = "",
        arguments: Iterable[Argument] = (),
    ) -> bytes:
        """The beginning or end of a slice, or an instant. An end needs no name."""
        fields = [(4, _bytes(4, self._argument(argument))) for argument in arguments]
        fields += [(9, _number(9, _KINDS[kind])), (11, _number(11, track))]
        if category:
            fields.append(self._name(_CATEGORIES, category, by_number=3, as_text=22))
        if name:
            fields.append(self._name(_EVENTS, name, by_number=10, as_text=23))
        fields.sort(key=itemgetter(0))  # as the official classes write them, so that bytes can be compared
        body = _bytes(11, b"".join(field for _, field in fields))
        names = _bytes(12, b"".join(name for _, name in sorted(self._new, key=itemgetter(0)))) if self._new else b""
        flags, self._flags = self._flags | _NEEDED, 0
        self._new.clear()
        return _packet(_number(8, ns), _number(10, _SEQUENCE), body, names, _number(13, flags))

    def _argument(self, argument: Argument) -> bytes:
        place, name = self._name(_ARGUMENTS, argument.name, by_number=1, as_text=10)
        value = argument.value
        number = 4 if argument.decimal else 7  # int_value, pointer_value
        shown = _text(6, value) if isinstance(value, str) else _number(number, value)
        return name + shown if place == 1 else shown + name

    def _name(self, table: int, name: str, *, by_number: int, as_text: int) -> tuple[int, bytes]:
        """A field with a name's number, which is sent along when it is new; with the name where the table is full."""
        known = self._names[table]
        number = known.get(name)
        if number is None:
            if len(known) >= _MOST_NAMES:
                return as_text, _text(as_text, name)
            number = known[name] = len(known) + 1
            self._new.append((table, _bytes(table, _number(1, number) + _text(2, name))))
        return by_number, _number(by_number, number)
