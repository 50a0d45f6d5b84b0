"""The register dump of kvm-userspace (2006 on) and of qemu-kvm up to 0.12 (RHEL 6): lower case, segments spelt out.

    rax 0000000000000000 rbx … rip 00000000003d721c rflags 00000006
    cs 0008 (00000000/ffffffff p 1 dpl 0 db 0 s 1 type b l 1 g 1 avl 0)
    gdt a25000/1f
    cr0 80010011 cr2 0 cr3 eae000 cr4 7b8 cr8 0 efer d00
    code: 8b 45 fc --> 89 01 …

The format is that of kvm_show_regs and kvm_show_code (libkvm-x86.c, later qemu-kvm-x86.c). Until 2007 the code had no
arrow: it began at RIP, and had thirty bytes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.record import Code, Cpu, Segment

# Each line of a dump holds one of these.
_NAMES: Final = "rax|rbx|rcx|rdx|rsi|rdi|rsp|rbp|r8|r9|r1[0-5]|rip"
_FIELD: Final = re.compile(
    rf"\b({_NAMES})\s{{1,40}}([0-9a-f]{{16}})\b"
    r"|\b(rflags|cr[02348]|efer)\s{1,40}([0-9a-f]{1,16})\b"
    r"|\b([c-gs]s|tr|ldt)\s([0-9a-f]{4})\s\(([0-9a-f]{8,16})/([0-9a-f]{8})\s{1,40}p ([01]) dpl ([0-3]) db ([01])"
    r"\s+s ([01]) type ([0-9a-f]) l ([01])\s+g ([01]) avl ([01])\)"
    r"|\b([gi]dt)\s([0-9a-f]{1,16})/([0-9a-f]{1,8})\b"
    r"|\bcode:((?:\s{1,40}(?:[0-9a-f]{2}\b|-->)){1,80})"
)
_GAP: Final = 200  # characters between two values of one dump
_LEAST: Final = 8  # values; fewer are some other text
_WITHOUT_ARROW: Final = 30
_COMPLETE: Final = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)), "rip", "rflags",
    "cs", "ds", "es", "ss", "fs", "gs", "tr", "ldt", "gdt", "idt", "cr0", "cr2", "cr3", "cr4", "efer",
)  # fmt: skip


class OldDump(NamedTuple):
    at: int
    end: int
    cpu: Cpu
    code: Code | None
    damage: tuple[str, ...]


def find_old_dumps(text: str) -> list[OldDump]:
    """Every dump of this form, in order; a cut one begins with whatever is left of it."""
    dumps: list[OldDump] = []
    held: list[re.Match[str]] = []
    names: set[str] = set()
    for field in _FIELD.finditer(text):
        name = field[1] or field[3] or field[5] or field[17] or "code"
        apart = held and field.start() - held[-1].end() > _GAP
        if apart or name in names or "code" in names:
            dumps += _read(text, held)
            held, names = [], set()
        held.append(field)
        names.add(name)
    return dumps + _read(text, held)


def _read(text: str, fields: list[re.Match[str]]) -> list[OldDump]:
    registers: dict[str, int] = {}
    segments: dict[str, Segment] = {}
    code = None
    for m in fields:
        name, value, control, number, segment, *hidden, table, base, size, bytes_ = m.groups()
        if name:
            registers[name] = int(value, 16)
        elif control and m.end() == len(text):
            pass  # these have no leading zeros: the last one of a text may be cut
        elif control:
            registers[control] = int(number, 16)
        elif segment:
            segments[segment] = _segment(hidden)
        elif table:
            segments[table] = Segment(0, int(base, 16), int(size, 16), 0)
        else:
            code = _code(bytes_)
    if len(registers) + len(segments) < _LEAST:
        return []
    missing = [name for name in _COMPLETE if name not in registers and name not in segments]
    damage = []
    if missing:
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        damage.append(f"the register dump is not complete: no {', '.join(missing[:4])}{more}")
    registers.pop("cr8", None)
    cs = segments.get("cs")
    cpl = None if cs is None or "cr0" not in registers else _cpl(registers, cs)
    cpu = Cpu(registers=registers, segments=segments, cpl=cpl)
    return [OldDump(fields[0].start(), fields[-1].end(), cpu, code, tuple(damage))]


def _segment(fields: list[str]) -> Segment:
    selector, base, limit, p, dpl, db, s, kind, long, g, avl = (int(f, 16) for f in fields)
    attributes = kind << 8 | s << 12 | dpl << 13 | p << 15 | avl << 20 | long << 21 | db << 22 | g << 23
    return Segment(selector, base, limit, attributes)


def _cpl(registers: dict[str, int], cs: Segment) -> int:
    """This dump does not print CPL: it is CS's in protected mode, 3 in virtual-8086 mode."""
    if not registers["cr0"] & 1:
        return 0
    return 3 if registers.get("rflags", 0) >> 17 & 1 else cs.selector & 3


def _code(text: str) -> Code | None:
    items = text.split()
    window = tuple(int(item, 16) for item in items if item != "-->")
    rip_at = items.index("-->") if "-->" in items else 0 if len(window) <= _WITHOUT_ARROW else None
    return Code(window, rip_at) if window else None
