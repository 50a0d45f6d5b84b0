"""Forms as the bytes that ``lab/sweep.c`` runs, and the lines that it prints.

Little endian: magic:u8[8], counts of templates, data and probes, max_exits, timeout_ms, step, all u32;
xsave:u8[4096]; the templates (``Template.pack``); data of 64 bytes each; probes, 24 bytes each:

    asked:u8 native:u8 data:u8 other:u8 length:u8 pad:u8[3] code:u8[16]

``asked`` and ``native`` are templates, ``data`` and ``other`` values of the operand; 255: none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kvmwhy.probe.encodings import Form
from kvmwhy.probe.guest import Technique, Template, field, tables_of, template, xsave_area
from kvmwhy.probe.operand_values import PATTERN, ZERO, operand

MAGIC: Final = b"kvmwhyS\n"
NONE: Final = 255
MAX_EXITS: Final = 32  # device accesses of one instruction; more of them never end
TIMEOUT_MS: Final = 100
_PROBE: Final = struct.Struct("<5B3x16s")
_HEAD: Final = struct.Struct("<8s6I")


class Plan(NamedTuple):
    """How one form is asked: its guests, and the operand's values."""

    asked: Template
    native: Template
    data: bytes
    other: bytes | None  # a second value for the comparison with the CPU


class Probe(NamedTuple):
    """A form, and how it is asked."""

    form: Form
    technique: Technique


def probes_of(forms: Iterable[Form]) -> tuple[Probe, ...]:
    """How each is asked where any bytes may be.

    Real mode has no pages that could be stale. There, forced emulation says less: what KVM cannot decode is #UD, as
    is what KVM knows to be #UD. So an operand in memory is asked about twice, once as the CPU comes to it.
    """
    probes = []
    for form in forms:
        if form.mode != "real16":
            probes.append(Probe(form, "stale"))
            continue
        if form.memory:
            probes.append(Probe(form, "plain"))
        probes.append(Probe(form, "forced"))
    return tuple(probes)


def plan(probe: Probe) -> Plan:
    form = probe.form
    gdt, idt = tables_of(form.mode)
    data = operand(form, gdt=gdt, idt=idt)
    return Plan(
        template(form.mode, form.side, probe.technique),
        template(form.mode, form.side, "native"),
        data,
        ZERO if data is PATTERN else None,
    )


def pack(
    probes: Sequence[Probe],
    *,
    max_exits: int = MAX_EXITS,
    timeout_ms: int = TIMEOUT_MS,
    step: bool = False,
) -> bytes:
    """A batch. ``step``: tell of each probe before it."""
    templates: dict[int, Template] = {}
    numbers: dict[int, int] = {}
    values: dict[bytes, int] = {}
    packed = bytearray()

    def number_of(template: Template) -> int:
        templates.setdefault(id(template), template)
        return numbers.setdefault(id(template), len(numbers))

    for probe in probes:
        planned = plan(probe)
        other = NONE if planned.other is None else values.setdefault(planned.other, len(values))
        packed += _PROBE.pack(
            *(number_of(planned.asked), number_of(planned.native), values.setdefault(planned.data, len(values)), other),
            *(len(probe.form.code), probe.form.code),
        )
    head = _HEAD.pack(MAGIC, len(templates), len(values), len(probes), max_exits, timeout_ms, step)
    body = b"".join(template.pack() + struct.pack("<II", field(template.side), 0) for template in templates.values())
    return head + xsave_area() + body + b"".join(values) + bytes(packed)


class Raw(NamedTuple):
    """What one probe came to, before it is judged. ``asked``: the run in which KVM had to emulate.

    ``reason``: of the last exit; -EINTR for a time-out, -1000 where the accesses never end, other negative numbers are
    errnos. ``at``: linear RIP, where it halted. ``differs``: bits of ``DIFFERS``; -1: not compared.
    """

    reason: int
    at: int
    suberror: int
    ndata: int
    fetched: int
    accesses: str
    native_reason: int
    native_at: int
    differs: int
    differs_other: int


def parse(line: bytes) -> tuple[int, Raw] | None:
    """``number reason at suberror ndata fetched accesses native_reason native_at differs differs_other``."""
    parts = line.split()
    if len(parts) != 11:
        return None
    try:
        return int(parts[0]), Raw(
            *(int(parts[1]), int(parts[2], 16), int(parts[3]), int(parts[4]), int(parts[5])),
            parts[6].decode("ascii").replace("-", ""),
            *(int(parts[7]), int(parts[8], 16), int(parts[9]), int(parts[10])),
        )
    except (ValueError, UnicodeDecodeError):
        return None


def parse_all(lines: Iterable[bytes]) -> dict[int, Raw]:
    return dict(row for row in map(parse, lines) if row is not None)


# What a comparison looks at, by bit. A register that only moved along with the operand's address is none.
DIFFERS: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("end", "flags", "x87", "xmm", "ymm", "mxcsr", "segments", "tables", "control", "operand", "memory"),
)
