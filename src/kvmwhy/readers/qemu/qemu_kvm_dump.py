"""The register dump of qemu-kvm up to 0.12 (RHEL 6): lower case, segments spelt out.

    rax 0000000000000000 rbx … rip 00000000003d721c rflags 00000006
    cs 0008 (00000000/ffffffff p 1 dpl 0 db 0 s 1 type b l 1 g 1 avl 0)
    gdt a25000/1f
    cr0 80010011 cr2 0 cr3 eae000 cr4 7b8 cr8 0 efer d00
    code: 8b 45 fc --> 89 01 …

The format is that of qemu-kvm-x86.c, kvm_show_regs and kvm_show_code.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

from kvmwhy.record import Code, Cpu, Segment

_NAMES: Final = "rax|rbx|rcx|rdx|rsi|rdi|rsp|rbp|r8|r9|r1[0-5]|rip"
_FIELD: Final = re.compile(
    rf"\b({_NAMES})\s+([0-9a-f]{{16}})\b"
    r"|\b(rflags|cr[02348]|efer)\s+([0-9a-f]{1,16})\b"
    r"|\b([c-gs]s|tr|ldt) ([0-9a-f]{4}) \(([0-9a-f]{8,16})/([0-9a-f]{8}) p ([01]) dpl ([0-3]) db ([01])"
    r"\s+s ([01]) type ([0-9a-f]) l ([01])\s+g ([01]) avl ([01])\)"
    r"|\b([gi]dt) ([0-9a-f]{1,16})/([0-9a-f]{1,8})\b"
    r"|\bcode:((?:\s+(?:[0-9a-f]{2}\b|-->))+)"
)


class OldDump(NamedTuple):
    at: int
    end: int
    cpu: Cpu
    code: Code | None
    damage: tuple[str, ...]


def find_old_dumps(text: str) -> list[OldDump]:
    """Every dump of this form, in order; each begins at its ``rax``."""
    if "rflags " not in text and " dpl " not in text:
        return []
    starts = [m.start() for m in re.finditer(r"\brax {1,2}[0-9a-f]{16}\b", text)]
    return [_read(text, start, end) for start, end in pairwise([*starts, len(text)])]


def _read(text: str, start: int, limit: int) -> OldDump:
    registers: dict[str, int] = {}
    segments: dict[str, Segment] = {}
    code, end = None, start
    for m in _FIELD.finditer(text, start, limit):
        name, value, control, number, segment, *hidden, table, base, size, bytes_ = m.groups()
        if name:
            registers.setdefault(name, int(value, 16))
        elif control:
            registers.setdefault(control, int(number, 16))
        elif segment:
            segments.setdefault(segment, _segment(hidden))
        elif table:
            segments.setdefault(table, Segment(0, int(base, 16), int(size, 16), 0))
        else:
            code = _code(bytes_)
        end = m.end()
        if code:
            break
    lost = [] if "efer" in registers or code else ["the register dump is not complete"]
    registers.pop("cr8", None)
    cs = segments.get("cs")
    cpl = None if cs is None or "cr0" not in registers else _cpl(registers, cs)
    cpu = Cpu(registers=registers, segments=segments, cpl=cpl)
    return OldDump(start, end, cpu, code, tuple(lost))


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
    rip_at = items.index("-->") if "-->" in items else None
    window = tuple(int(item, 16) for item in items if item != "-->")
    return Code(window, rip_at) if window else None
