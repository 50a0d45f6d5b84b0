"""QEMU's register dump when nothing tore it: one pattern for the whole of it.

This is the common case and the fast one; a dump that does not match is read token by token in
``qemu_log``, with the same result for what is there. Layout: target/i386/cpu-dump.c, the same from
2.x to 10.2 in these parts.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.record import Code, Cpu, Segment

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

CODE: Final = r"Code=((?:\s*(?:[0-9a-f?]{2}(?![0-9a-f])|<[0-9a-f?]{2}>))*)"


def _pattern(gprs: tuple[str, ...], ip: str, flags: str, digits: str) -> re.Pattern[str]:
    parts = [rf"{name} ?=({digits})" for name in (*gprs, ip)]
    parts += [rf"{flags}=([0-9a-f]{{8}})\s+\[[-A-Z]{{7}}\]"]
    parts += [rf"{name}=([01]|[0-3])" for name in STATE]
    # The type that follows in protected mode, " DPL=0 CS64 [-RA]", says nothing new.
    parts += [
        rf"{name} ?=([0-9a-f]{{4}})\s+({digits})\s+([0-9a-f]{{8}})\s+([0-9a-f]{{8}})\b(?: DPL=[^\n=]{{0,40}})?"
        for name in SEGMENTS
    ]
    parts += [rf"{name}=\s*([0-9a-f]{{8}}|[0-9a-f]{{16}})\s+([0-9a-f]{{8}})\b" for name in TABLES]
    parts += [rf"{name}=([0-9a-f]{{16}}|[0-9a-f]{{8}})\b" for name in CONTROL]
    return re.compile(r"\s+".join(parts) + rf"(?:\s+{CODE})?")


_WHOLE64: Final = _pattern(GPR64, "RIP", "RFL", "[0-9a-f]{16}")
_WHOLE32: Final = _pattern(GPR32, "EIP", "EFL", "[0-9a-f]{8}")

_NAMES64: Final = [name.lower() for name in (*GPR64, "RIP")] + ["rflags"]
_NAMES32: Final = ["r" + name[1:].lower() for name in (*GPR32, "EIP")] + ["rflags"]
_CONTROL_NAMES: Final = [name.lower() for name in CONTROL]
_SEGMENT_NAMES: Final = [name.lower() for name in SEGMENTS]


class WholeDump(NamedTuple):
    cpu: Cpu
    code: Code | None
    end: int


def match_whole(text: str, at: int) -> WholeDump | None:
    """The dump that begins at ``at`` (RAX= or EAX=), if it is complete and in order."""
    wide = text[at] == "R"
    found = (_WHOLE64 if wide else _WHOLE32).match(text, at)
    if found is None:
        return None
    *fields, code = found.groups()
    names = _NAMES64 if wide else _NAMES32
    count = len(names)
    words = [int(field, 16) for field in fields]
    registers = dict(zip(names, words, strict=False))
    at_state = count + len(STATE)
    cpl, _, _, smm, halted = words[count:at_state]
    segments = {}
    n = at_state
    for name in _SEGMENT_NAMES:
        segments[name] = Segment(words[n], words[n + 1], words[n + 2], words[n + 3])
        n += 4
    for name in ("gdt", "idt"):
        segments[name] = Segment(0, words[n], words[n + 1], 0)
        n += 2
    registers.update(zip(_CONTROL_NAMES, words[n:], strict=True))
    cpu = Cpu(wide=wide, registers=registers, segments=segments, cpl=cpl, smm=bool(smm), halted=bool(halted))
    return WholeDump(cpu, None if code is None else read_code(code), found.end())


def read_code(code: str) -> Code | None:
    """The bytes behind ``Code=``; ``None`` if there is not one."""
    marked = code.find("<")
    before = code[:marked].split() if marked >= 0 else []
    rip_at = None
    if marked >= 0:
        rip_at = len(before) if all(len(b) == 2 for b in before) else len("".join(before)) // 2
    plain = code.replace("<", " ").replace(">", " ")
    if "?" not in plain:
        digits = "".join(plain.split())
        window: tuple[int | None, ...] = tuple(bytes.fromhex(digits))
    else:
        joined = "".join(plain.split())
        pairs = (joined[n : n + 2] for n in range(0, len(joined) - 1, 2))
        window = tuple(None if "?" in pair else int(pair, 16) for pair in pairs)
    return Code(window, rip_at) if window else None
