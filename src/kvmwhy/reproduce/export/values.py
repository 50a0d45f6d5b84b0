"""Values as C writes them. Nothing of a log reaches a source file but numbers and checked words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Final

import msgspec

from kvmwhy.abi.internal_error import decode_emulation
from kvmwhy.machine.x86.state import Dtable, Events, Regs, Segment, Sregs
from kvmwhy.reproduce.guest_plan import Plan

_WORD: Final = re.compile(r"[^\w.+~:;%'\[\]*, ()-]", re.ASCII)
_RUN: Final = re.compile(rb"(.)\1{31,}", re.DOTALL)
_SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
_EXCEPTION: Final = ("injected", "nr", "has_error_code", "pending", "error_code")


def word(text: str | None, limit: int = 80) -> str:
    """A word of a log, with nothing that could end a comment or a string."""
    return _WORD.sub("?", text or "").replace("*/", "?").replace("/*", "?")[:limit]


def byte_array(data: bytes, indent: str = "\t") -> str:
    """Rows of 12 bytes; a long run of one byte is a range, as GNU C has it."""
    rows, at = [], 0
    for run in _RUN.finditer(data):
        rows += _rows(data[at : run.start()], indent)
        rows.append(f"{indent}[{run.start()} ... {run.end() - 1}] = 0x{run[0][0]:02x},")
        at = run.end()
    return "\n".join([*rows, *_rows(data[at:], indent)])


def _rows(data: bytes, indent: str) -> list[str]:
    return [indent + " ".join(f"0x{byte:02x}," for byte in data[at : at + 12]) for at in range(0, len(data), 12)]


def regs(value: Regs) -> str:
    """The designated initializers of ``struct kvm_regs``, zeros left out."""
    return _fields((f".{name} = {number:#x}", number) for name, number in msgspec.structs.asdict(value).items())


def sregs(value: Sregs) -> str:
    """Those of ``struct kvm_sregs``; apic_base is the vCPU's own."""
    rows = [f"\t.{name} = {{ {_segment(getattr(value, name))} }}," for name in _SEGMENTS]
    for name in ("gdt", "idt"):
        table: Dtable = getattr(value, name)
        rows.append(f"\t.{name} = {{ .base = {table.base:#x}, .limit = {table.limit:#x} }},")
    rows.append(
        _fields(
            (f".{n} = {getattr(value, n):#x}", getattr(value, n)) for n in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
        )
    )
    return "\n".join(row for row in rows if row)


def _segment(value: Segment) -> str:
    return (
        ", ".join(f".{name} = {number:#x}" for name, number in msgspec.structs.asdict(value).items() if number) or "0"
    )


def events(value: Events) -> str:
    """Those of ``struct kvm_vcpu_events``, as far as a plan sets them."""
    groups = {
        "exception": [(n, getattr(value, f"exception_{n}")) for n in _EXCEPTION],
        "interrupt": [(n, getattr(value, f"interrupt_{n}")) for n in ("injected", "nr", "soft")],
        "nmi": [("injected", value.nmi_injected)],
    }
    rows = []
    for name, fields in groups.items():
        text = ", ".join(f".{field} = {number:#x}" for field, number in fields if number)
        if text:
            rows.append(f"\t.{name} = {{ {text} }},")
    return "\n".join(rows)


def _fields(pairs: Iterable[tuple[str, int]]) -> str:
    text = ", ".join(text for text, number in pairs if number)
    return "\n".join(textwrap.wrap(text + ",", 92, initial_indent="\t", subsequent_indent="\t")) if text else ""


def expected_insn(plan: Plan) -> bytes:
    """The bytes that the record must have: those of the instruction, if the report had bytes at all."""
    expected = plan.expected
    if expected.suberror != 1:
        return b""
    insn = decode_emulation(expected.data, expected.ndata, cut=expected.ndata is None).failure.insn
    return plan.insn if insn is None or not plan.insn else insn[: len(plan.insn)]


def about(plan: Plan) -> list[str]:
    """What it is, in sentences of our own."""
    text = f"`{word(plan.text)}`" if plan.text else "the code"
    lines = [f"{plan.mode}: {text} at {plan.rip:#x}."]
    lines += [
        f"There is no memory for {hole.what}: linear {hole.linear:#x}, guest physical {hole.gpa:#x}."
        for hole in plan.holes
    ]
    lines += [f"{line[:1].upper()}{line[1:]}." for line in (word(text, 300) for text in plan.assumed)]
    return lines


def comment(lines: Iterable[str], width: int = 92) -> str:
    """Inside a block comment: each line with `` * `` before it."""
    rows = [row for line in lines for row in textwrap.wrap(line, width) or [""]]
    return "\n".join(f" * {row}".rstrip() for row in rows)
