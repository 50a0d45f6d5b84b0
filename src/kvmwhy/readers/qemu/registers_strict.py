"""QEMU's register dump when nothing tore it: one pattern for the whole of it.

This is the common case and the fast one; a dump that does not match is read token by token in
``qemu_fields``, with the same result for what is there. Layout: target/i386/cpu-dump.c, the same from
2.x to 10.2 in these parts.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from msgspec import Struct

from kvmwhy.deferred_re import deferred
from kvmwhy.record import SEGMENT_NAMES, Code, Cpu, Segment

# fmt: off
GPR64: Final = (
    "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP",
    "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
)
GPR32: Final = ("EAX", "EBX", "ECX", "EDX", "ESI", "EDI", "EBP", "ESP")
STATE: Final = ("CPL", "II", "A20", "SMM", "HLT")
SEGMENTS: Final = ("ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR")
TABLES: Final = ("GDT", "IDT")
CONTROL: Final = ("CR0", "CR2", "CR3", "CR4", "DR0", "DR1", "DR2", "DR3", "DR6", "DR7", "EFER")
# fmt: on

CODE_BYTES: Final = 50

# A number's end. Another thread's line may be glued to it, and "e" is a hex digit, too.
_GLUED: Final = "(?:xtra data|mulation fail|rror: kvm)"
END: Final = rf"(?:(?![0-9a-f])(?!(?<=e){_GLUED})|(?=e{_GLUED}))"

_BYTE: Final = rf"(?:<[0-9a-f?]{{2}}>|[0-9a-f?]{{2}}{END})"
# Mail folds the line; but what follows a line break is code only if that whole line is bytes.
CODE: Final = (
    rf"(?<![A-Za-z_])Code=((?:(?:[^\S\n]{{0,64}}|[^\S\n]{{0,64}}\n\s{{0,64}}(?=(?:{_BYTE}[^\S\n]{{0,64}}){{1,50}}(?:\n|\Z)))"
    rf"{_BYTE}){{0,{CODE_BYTES}}})"
)
_FOLDED_CODE: Final = deferred(rf"\s{{1,64}}{CODE}")
_WHOLE_CODE: Final = 3 * CODE_BYTES - 1 + len("<>")

# What follows a segment in protected mode, " DPL=0 CS64 [-RA]", says nothing new.
_KIND: Final = r"(?: DPL=[0-3] [A-Za-z0-9<>-]{2,12} {0,3}(?:\[[-A-Z]{3}\])?)?"


class _Layout(Struct, frozen=True):
    """One of QEMU's layouts: where the digits are, and how wide each number is."""

    pattern: re.Pattern[str]
    numbers: struct.Struct
    names: tuple[str, ...]


def _layout(gprs: tuple[str, ...], gpr: int, table: int) -> _Layout:
    """``gpr`` and ``table``: digits of a general register and of a descriptor table's base.

    The pattern only counts characters; that they are digits is seen when they are converted, all at once.
    """
    parts = [f"{name} ?=(.{{{gpr}}})" for name in gprs]
    parts += [r"[RE]FL=(.{8})\s+\[[-A-Z]{7}\]"]
    parts += [f"{name}=([0-3])" for name in STATE]
    parts += [rf"{name} ?=(.{{4}}) (.{{{gpr}}}) (.{{8}}) (.{{8}}){_KIND}" for name in SEGMENTS]
    parts += [rf"{name}=\s{{1,9}}(.{{{table}}}) (.{{8}})" for name in TABLES]
    widths = (8, table, table, 8, *[16] * 7)
    parts += [f"{name}=(.{{{width}}})" for name, width in zip(CONTROL, widths, strict=True)]
    code = r"(?:\s+Code=((?:[0-9a-f?]{2} ){0,49}<[0-9a-f?]{2}>(?: [0-9a-f?]{2}){0,49})(?=\s|\Z))?"
    letters = {4: "H", 8: "I", 16: "Q"}
    numbers = letters[gpr] * len(gprs) + "I"
    numbers += f"H{letters[gpr]}II" * len(SEGMENTS) + f"{letters[table]}I" * len(TABLES)
    numbers += "".join(letters[width] for width in widths)
    names = tuple("r" + name[1:].lower() for name in gprs)
    return _Layout(
        re.compile(r"\s++".join(parts) + END + code, re.DOTALL), struct.Struct(">" + numbers), (*names, "rflags")
    )


_LONG: Final = (("long", (*GPR64, "RIP"), 16, 16),)
# The width of tables and of CR2, CR3 follows EFER.LMA, that of the rest follows CS.L.
_SHORT: Final = (("short", (*GPR32, "EIP"), 8, 8), ("short, LMA", (*GPR32, "EIP"), 8, 16))
_compiled: Final[dict[str, _Layout]] = {}  # each takes 3 ms, so only those that are met are made
_CONTROL_NAMES: Final = tuple(name.lower() for name in CONTROL)


class WholeDump(Struct, frozen=True):
    cpu: Cpu
    code: Code | None
    end: int


def match_whole(text: str, at: int) -> WholeDump | None:
    """The dump that begins at ``at`` (RAX= or EAX=), if it is complete and in order."""
    wide = text[at] == "R"
    for name, gprs, gpr, table in _LONG if wide else _SHORT:
        layout = _compiled.get(name) or _compiled.setdefault(name, _layout(gprs, gpr, table))
        if match := layout.pattern.match(text, at):
            break
    else:
        return None
    groups = match.groups()
    count = len(layout.names)
    at_segments = count + len(STATE)
    try:
        packed = bytes.fromhex("".join(groups[:count] + groups[at_segments:-1]))
        words = layout.numbers.unpack(packed)
    except (ValueError, struct.error):  # something else than digits stood there
        return None
    registers = dict(zip(layout.names, words, strict=False))
    registers.update(zip(_CONTROL_NAMES, words[-len(CONTROL) :], strict=True))
    segments = {}
    n = count
    for name in SEGMENT_NAMES:
        segments[name] = Segment(words[n], words[n + 1], words[n + 2], words[n + 3])
        n += 4
    segments["gdt"] = Segment(0, words[n], words[n + 1], 0)
    segments["idt"] = Segment(0, words[n + 2], words[n + 3], 0)
    cpl, _, _, smm, halted = groups[count:at_segments]
    cpu = Cpu(wide=wide, registers=registers, segments=segments, cpl=int(cpl), smm=smm != "0", halted=halted != "0")
    code, end = groups[-1], match.end()
    if code is None or len(code) != _WHOLE_CODE:
        end = match.end(len(groups) - 1)
        folded = _FOLDED_CODE.match(text, end)
        if folded is None:
            return None
        code, end = folded[1], folded.end()
    return WholeDump(cpu, read_code(code), end)


def read_code(code: str) -> Code | None:
    """The bytes behind ``Code=``; ``None`` if there is not one."""
    marked = code.find("<")
    rip_at = len(code[:marked].split()) if marked >= 0 else None
    pairs = code.replace("<", " ").replace(">", " ").split()
    if "?" in code:
        window: tuple[int | None, ...] = tuple(None if "?" in pair else int(pair, 16) for pair in pairs)
    else:
        window = tuple(bytes.fromhex("".join(pairs)))
    return Code(window, rip_at) if window else None
