"""A register dump, where it stands in its text; the names of registers, and a segment's attribute word."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.record import Arch, Code, Cpu, Segment

GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)))
CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "efer", *(f"dr{n}" for n in range(8)))
_OTHER_NAMES: Final = {"flags": "rflags", "eflags": "rflags", "rfl": "rflags", "efl": "rflags", "eip": "rip"} | {
    f"e{name[1:]}": name for name in GENERAL if not name[1:].isdigit()
}
NAMES: Final = (*GENERAL, "rip", "rflags", *CONTROL)
SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt")
MOST: Final = 1 << 64
_WIDEST: Final = {"type": 15, "s": 1, "dpl": 3, "present": 1, "avl": 1, "l": 1, "db": 1, "g": 1}


class Registers(NamedTuple):
    """A vCPU's registers, text[start:stop]."""

    start: int
    stop: int
    cpu: Cpu
    code: Code | None = None
    vcpu: int | None = None
    damage: tuple[str, ...] = ()
    arch: Arch = "x86"


def canonical(name: str) -> str | None:
    """The record's name of a register in any spelling."""
    name = name.lower()
    name = _OTHER_NAMES.get(name, name)
    return name if name in NAMES else None


def segment_of(fields: dict[str, int]) -> Segment | None:
    """A segment of the fields of struct kvm_segment, or ``None`` if one is missing or impossible."""
    if not {"base", "limit", "selector", *_WIDEST} <= fields.keys():
        return None
    if any(fields[name] > widest for name, widest in _WIDEST.items()):
        return None
    word = fields["type"] << 8 | fields["s"] << 12 | fields["dpl"] << 13 | fields["present"] << 15
    word |= fields["avl"] << 20 | fields["l"] << 21 | fields["db"] << 22 | fields["g"] << 23
    return Segment(fields["selector"], fields["base"], fields["limit"], word)
