"""One row of a fleet's table: a failure, where and how often it was seen, and what it comes to.

A row holds what is asked of thousands of failures at once; the whole explanation of one is ``kvmwhy explain``'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.fleet.extract import Known, Sighting
from kvmwhy.fleet.signature import sign
from kvmwhy.record import Failure

SCHEMA: Final = 3
SCHEMAS: Final = (2, 3)  # that are read
# Where schema 2 has the signature of version 2, which was its newest.
BY_2: Final = {"signature_v2": "signature", "why_v2": "why"}
# Numbers of 64 bits: hexadecimal text wherever JSON is written.
WIDE: Final = ("hardware_error", "exit_reason", "rip", "gva", "gpa")


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times are UTC; ``None`` where the log has none. ``count`` equal failures, of one host, writer and hour."""

    path: str
    offset: int  # of the first one's block, in the file as it is uncompressed
    count: int = 1
    host: str | None = None
    writer: str | None = None
    time: datetime | None = None
    last_time: datetime | None = None
    kernel: str | None = None
    microcode: str | None = None
    vmm: str | None = None
    qemu: str | None = None
    vendor: str | None = None
    kind: str = "other"
    suberror: int | None = None
    hardware_error: int | None = None
    errno: str | None = None
    exit_reason: int | None = None
    exit_name: str | None = None
    mode: str | None = None
    cpl: int | None = None
    rip: int | None = None
    instruction: str | None = None
    bytes: str | None = None
    access: str | None = None
    gva: int | None = None
    gpa: int | None = None
    place: str | None = None
    mechanism: str | None = None  # what happened
    origin: str | None = None  # whose doing it most likely was …
    share: float | None = None  # … and how likely
    cause: str = "undecided"
    family: str = "undecided"
    confidence: str = "possible"
    answer: str = ""
    damaged: bool = False
    signature: str = ""  # of the newest version that the row's writer knew; its first word says which
    why: str = ""  # the parts of the signature, for a person
    signature_v2: str | None = None
    why_v2: str | None = None
    advice: str | None = None  # what the answer's finding says to whoever runs the host


COLUMNS: Final = tuple(field.name for field in msgspec.structs.fields(Row))


_MOST_GROUPS: Final = 50_000  # rows that wait for more of the same
Columns = dict[str, Any]


def what(diagnosis: Diagnosis) -> Columns:
    """The columns that depend on the failure alone, not on where it was seen."""
    facts = diagnosis.facts
    failure = facts.failure
    best = diagnosis.findings[0]
    signature, before = sign(diagnosis), sign(diagnosis, 2)
    insn, access = facts.instruction, facts.access
    return {
        "kernel": failure.host.kernel,
        "qemu": failure.host.qemu,
        "vmm": failure.source.vmm,
        "vendor": facts.vendor.vendor,
        "kind": failure.kind,
        "suberror": failure.suberror,
        "hardware_error": failure.hardware_error,
        "errno": failure.errno,
        "exit_reason": facts.words.reason if facts.words else None,
        "exit_name": facts.explained.name if facts.explained else None,
        "mode": facts.mode.name if facts.mode else None,
        "cpl": facts.cpl,
        "rip": facts.rip,
        "instruction": insn.text if insn else None,
        "bytes": insn.bytes.hex(" ") if insn else None,
        "access": access.kind if access else None,
        "gva": access.gva if access else None,
        "gpa": access.gpa if access else None,
        "place": access.place.name if access and access.place else None,
        "mechanism": diagnosis.mechanism.id if diagnosis.mechanism else None,
        "origin": diagnosis.origins[0].id if diagnosis.origins else None,
        "share": round(diagnosis.origins[0].share, 3) if diagnosis.origins else None,
        "cause": best.cause.id,
        "family": best.cause.family,
        "confidence": best.confidence,
        "answer": diagnosis.answer,
        "damaged": bool(failure.damage),
        "signature": signature.key,
        "why": signature.why,
        "signature_v2": before.key,
        "why_v2": before.why,
        "advice": best.advice.host,
    }


def columns(failure: Failure) -> Columns:
    """What a failure comes to."""
    return what(diagnose(failure))


KNOWN: Final = Known(columns)  # a process reads and explains a failure once, in whatever files it stands


class _Group:
    """Equal failures of one host, writer and hour."""

    __slots__ = ("count", "first", "kernel", "last", "microcode", "time")

    def __init__(self, first: Sighting[Columns]) -> None:
        self.first = first
        self.microcode, self.kernel = first.microcode, first.kernel
        self.count, self.time, self.last = 0, first.time, first.time

    def add(self, more: Sighting[Columns]) -> None:
        self.count += more.times
        # Not every failure has the lines near it that tell them.
        self.microcode, self.kernel = self.microcode or more.microcode, self.kernel or more.kernel
        if more.time is not None:
            self.time = min(self.time or more.time, more.time)
            self.last = max(self.last or more.time, more.time)

    def row(self, path: str) -> Row:
        first = self.first
        return Row(
            path=path,
            offset=first.offset,
            count=self.count,
            host=first.host or None,
            writer=first.writer or None,
            time=self.time,
            last_time=self.last,
            microcode=self.microcode,
            **({**first.made, "kernel": self.kernel} if self.kernel and not first.made.get("kernel") else first.made),
        )


def rows(sightings: Iterable[Sighting[Columns]], path: str) -> Iterator[Row]:
    """The sightings of one input, equal ones in one row."""
    groups: dict[tuple[object, ...], _Group] = {}
    for seen in sightings:
        hour = seen.time.replace(minute=0, second=0, microsecond=0) if seen.time else None
        key = (seen.key, seen.host, seen.writer, hour)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(seen)
        group.add(seen)
        if len(groups) > _MOST_GROUPS:
            yield from (held.row(path) for held in groups.values())
            groups.clear()
    yield from (group.row(path) for group in groups.values())


def to_json(row: Row) -> bytes:
    """One line of JSON without its newline: all that is known, 64-bit numbers as ``0x`` text."""
    fields = {name: value for name in COLUMNS if (value := getattr(row, name)) is not None}
    for name in WIDE:
        if name in fields:
            fields[name] = hex(fields[name])
    return msgspec.json.encode({"row": SCHEMA, **fields})


def from_json(line: bytes) -> Row:
    """Raises msgspec.DecodeError or ValueError if ``line`` is no row of a schema in SCHEMAS."""
    fields = msgspec.json.decode(line)
    schema = fields.pop("row", None) if isinstance(fields, dict) else None
    if isinstance(schema, bool) or schema not in SCHEMAS:
        raise ValueError(f"not a row of schema {' or '.join(map(str, SCHEMAS))}")
    for name in WIDE:
        if isinstance(fields.get(name), str):
            fields[name] = int(fields[name], 16)
    if schema == 2:
        fields = told_by_2(fields)
    row: Row = msgspec.convert(fields, Row, strict=True)
    return row


def told_by_2(fields: dict[str, Any]) -> dict[str, Any]:
    """A row of schema 2 as one of today: its newest signature is that of version 2, and it had version 1 beside it."""
    return {name: value for name, value in fields.items() if name in COLUMNS} | {
        name: fields.get(before) for name, before in BY_2.items()
    }
