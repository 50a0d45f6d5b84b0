"""What the operand in memory holds: values with which the instruction, if it is carried out, can succeed."""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.probe.encodings import CODE_SELECTOR, LANDING, Form, Mode

SIZE: Final = 64
# No byte twice, bit 0 set (so that TZCNT and BSF differ in their flags), and no DIV overflows with it.
_PATTERN: Final = bytes((0x7F - 3 * n) % 251 | (n == 0) for n in range(SIZE))
DATA_SELECTOR, TASK_SELECTOR = 0x10, 0x50
_NEAR16: Final = 0x800  # in 16-bit code CS.base is that of the code: this is HLT as well
_CODES: Final = {16: "H", 32: "I", 64: "Q"}
_MSW: Final[dict[Mode, int]] = {"real16": 0x32, "prot16": 0x33, "prot32": 0x33, "long64": 0x33}


def operand(form: Form, *, gdt: tuple[int, int], idt: tuple[int, int]) -> bytes:
    """64 bytes. ``gdt`` and ``idt``: base and limit of the guest's own."""
    match form.data:
        case "zero":
            data = b""
        case "near":
            data = struct.pack("<Q", _near(form))
        case "far":
            data = _far(form, LANDING, CODE_SELECTOR[form.mode])
        case "pointer":
            data = _far(form, LANDING, DATA_SELECTOR)
        case "selector":
            data = struct.pack("<Q", DATA_SELECTOR)
        case "task":
            data = struct.pack("<Q", TASK_SELECTOR)
        case "gdt" | "idt":
            base, limit = gdt if form.data == "gdt" else idt
            data = struct.pack("<HQ", limit, base)
        case "msw":
            data = struct.pack("<Q", _MSW[form.mode])
        case "frame" | "far frame":
            data = stack_frame(form.mode, form.size, far=form.data == "far frame")
        case _:
            return _PATTERN
    return data.ljust(SIZE, b"\0")


def _near(form: Form) -> int:
    return _NEAR16 if form.mode in {"real16", "prot16"} else LANDING


def _far(form: Form, offset: int, selector: int) -> bytes:
    size = form.size if form.size in _CODES else 32
    return struct.pack(f"<{_CODES[size]}H", offset, selector)


def stack_frame(mode: Mode, size: int, *, far: bool = False) -> bytes:
    """What RET, RETF and IRET find at the stack pointer: IP, CS, flags, stack pointer and SS."""
    near = _NEAR16 if mode in {"real16", "prot16"} and not far else LANDING
    size = size if size in _CODES else 64
    return struct.pack(f"<5{_CODES[size]}", near, CODE_SELECTOR[mode], 2, 0x3800, DATA_SELECTOR)


PATTERN: Final = _PATTERN
ZERO: Final = bytes(SIZE)
