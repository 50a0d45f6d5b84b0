"""Structs as Rust's ``{:?}``, ``{:#?}``, ``{:x?}`` and Go's ``%+v`` print them.

kvm_regs { rax: 0, rbx: 3489660928, … rip: 32902, rflags: 2 }      kvm-bindings; Regs, CommonRegisters of others
{R15:0 R14:0 … Rip:94576345743666 Cs:51 Eflags:518 Rsp:… }         gVisor: linux.PtraceRegs
"""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.readers.vmm_registers.dump import CONTROL, MOST, Registers, canonical, segment_of
from kvmwhy.record import Cpu, Segment

_REACH: Final = 16 << 10
_NUMBER: Final = r"(?:0x[0-9a-fA-F]{1,16}|[0-9a-f]{1,20})(?![0-9a-zA-Z_])"
# A body of fields that are all numbers, as kvm_regs is; Go separates with spaces alone.
_NAMED: Final = rf"[A-Za-z][A-Za-z0-9_]{{1,9}}: ?{_NUMBER}"
_REGS: Final = re.compile(
    rf"\{{\s{{0,64}}((?:{_NAMED}[,\s]\s{{0,64}}){{7,40}}(?:{_NAMED},?\s{{0,64}})?)"
    r"(?:\}|(?P<torn>[A-Za-z0-9: ]{0,40}\Z))"
)
_FIELD: Final = re.compile(rf"\b([A-Za-z][A-Za-z0-9_]{{0,15}}): ?({_NUMBER})")
_SREGS: Final = re.compile(
    r"\b(?:kvm_sregs2?|Sregs|(?:Common)?SpecialRegisters) \{|\bcs: {1,12}[A-Za-z_]{3,40} \{|^cs {2,9}kvm_segment"
    r"|\bCS:\{",
    re.MULTILINE,
)
_SEGMENT: Final = re.compile(
    r"\b(es|cs|ss|ds|fs|gs|ldt|tr):? {1,12}(?:kvm_segment|[A-Za-z]{0,20}Segment[A-Za-z]{0,20}) \{([^{}]{1,600})\}"
    r"|\b(?P<go>ES|CS|SS|DS|FS|GS|LDT|TR):\{(?P<fields>[^{}]{1,300})\}"
)
_TABLE: Final = re.compile(
    r"\b(gdt|idt|gtd|GDT|IDT):(?: (?:kvm_dtable|[A-Za-z]{3,40}) )?\{([^{}]{1,300})\}"  # uhyve prints "gtd"
)
_TABLES: Final = {"gtd": "gdt"}
_CONTROL: Final = re.compile(rf"\b({'|'.join(CONTROL[:5])}|{'|'.join(CONTROL[:5]).upper()}): ?({_NUMBER})")
_RIP: Final = re.compile(r"\b[Rr]ip:")
_RAX: Final = re.compile(r"\brax:")
_CUT: Final = ("the register dump is cut",)
# Other names of struct kvm_segment's fields, and Go's capitals for them.
_FIELDS: Final = {name: name for name in ("dpl", "db", "s", "l", "g", "avl")} | {
    "type_": "type",
    "typ": "type",
    "limit_bytes": "limit",
}


def struct_dumps(text: str) -> list[Registers]:
    """Every general-purpose register struct, with the special registers that follow it."""
    if "rax:" not in text and "Rax:" not in text:
        return []
    bodies = [m for m in _REGS.finditer(text) if _RIP.search(m[1]) or (m["torn"] is not None and _RAX.search(m[1]))]
    out = []
    for number, body in enumerate(bodies):
        end = bodies[number + 1].start() if number + 1 < len(bodies) else len(text)
        out.append(_dump(text, body, min(end, body.end() + _REACH)))
    return out


def _dump(text: str, body: re.Match[str], end: int) -> Registers:
    values = _numbers(body[1])
    registers = {name: value for raw, value in values.items() if (name := canonical(raw)) and raw != "flags"}
    segments: dict[str, Segment] = {}
    stop = body.end()
    special = _SREGS.search(text, body.end(), end)
    if special:
        region = text[special.start() : end]
        segments = segments_in(region)
        controls = list(_CONTROL.finditer(region))
        stop = special.start() + max([0, *(match.end() for match in (*_SEGMENT.finditer(region), *controls))])
        for name, value in _numbers(", ".join(match[0] for match in controls)).items():
            registers.setdefault(name.lower(), value)
    damage = () if body["torn"] is None else _CUT
    return Registers(body.start(), stop, Cpu(registers=registers, segments=segments), damage=damage)


def segments_in(text: str) -> dict[str, Segment]:
    """Segments and descriptor tables of structs, by the name that stands before each."""
    out: dict[str, Segment] = {}
    if "{" not in text:
        return out
    for match in _SEGMENT.finditer(text):
        segment = segment_of(_numbers(match[2] or match["fields"]))
        if segment:
            out.setdefault((match[1] or match["go"]).lower(), segment)
    for match in _TABLE.finditer(text):
        fields = _numbers(match[2])
        if {"base", "limit"} <= fields.keys():
            out.setdefault(
                _TABLES.get(match[1].lower(), match[1].lower()), Segment(0, fields["base"], fields["limit"], 0)
            )
    return out


def _numbers(text: str) -> dict[str, int]:
    """Fields of one struct: decimal, unless one has 0x, or a letter, which only ``{:x?}`` prints without 0x."""
    fields = _FIELD.findall(text)
    bare = [digits for _, digits in fields if not digits.startswith("0x")]
    base = 16 if any(not digits.isdigit() for digits in bare) else 10
    out: dict[str, int] = {}
    for name, digits in fields:
        value = int(digits, 16) if digits.startswith("0x") else int(digits, base)
        if value < MOST:
            out.setdefault(_FIELDS.get(name.lower(), name), value)
    return out
