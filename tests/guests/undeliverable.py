"""Guests that cannot take their first exception: one structure is broken in each, and they end in a triple fault."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from guests import boot

GIB = 0x4000_0000  # a linear address that is not mapped: the second page directory is empty
FULL = 32 * 16 - 1  # an IDT's limit, with a gate for each exception
HANDLER = 0x8700


class Undeliverable(NamedTuple):
    """``broken`` is the slug of what stops the delivery of the first exception."""

    name: str
    image: bytes
    broken: str

    def read(self, gpa: int, size: int) -> bytes | None:
        """The guest's RAM after its first instructions: what the image has put there, and zeros."""
        ram = self.image[boot.PAYLOAD_OFFSET : boot.PAYLOAD_OFFSET + boot.PAYLOAD_SIZE]
        if gpa >= 16 << 20:
            return None
        return bytes(
            ram[at - boot.ORIGIN] if boot.ORIGIN <= at < boot.ORIGIN + len(ram) else 0 for at in range(gpa, gpa + size)
        )


def gate(
    selector: int = boot.CODE64, handler: int = HANDLER, *, kind: int = 0xE, present: bool = True, ist: int = 0
) -> bytes:
    """A gate of 64-bit mode."""
    return struct.pack(
        "<HHBBHII", handler & 0xFFFF, selector, ist, kind | present << 7, handler >> 16 & 0xFFFF, handler >> 32, 0
    )


def _wide(
    name: str,
    broken: str,
    gates: bytes,
    *,
    idt_base: int = boot.IDT,
    idt_limit: int = FULL,
    prepare: Callable[[boot._Code], None] = lambda _: None,
) -> Undeliverable:
    code = boot._long64()
    boot._load_idt(code)
    prepare(code)
    code.fail("0f 0b")  # ud2
    image = bytearray(boot._image(code, idt_base=idt_base, idt_limit=idt_limit))

    def put(address: int, data: bytes) -> None:
        at = boot.PAYLOAD_OFFSET + address - boot.ORIGIN
        image[at : at + len(data)] = data

    put(boot.IDT, gates * 32)
    put(boot.PD + 0x1000, bytes(0x1000))
    return Undeliverable(name, bytes(image), broken)


def _stack(address: int) -> Callable[[boot._Code], None]:
    return lambda code: code.emit("48 bc", struct.pack("<Q", address))  # mov rsp, address


def _gdt_away(code: boot._Code) -> None:
    code.emit("48 83 ec 10 66 c7 04 24 3f 00")  # sub rsp, 16; mov word [rsp], 0x3f
    code.emit("48 c7 44 24 02", struct.pack("<I", GIB))  # mov qword [rsp + 2], GIB
    code.emit("0f 01 14 24")  # lgdt [rsp]


GUESTS = (
    _wide("empty-idt", "idt-limit", gate(), idt_limit=0),
    _wide("short-idt", "idt-limit", gate(), idt_limit=6 * 16 + 14),
    _wide("zero-gates", "gate-type", bytes(16)),
    _wide("call-gates", "gate-type", gate(kind=0xC)),
    _wide("absent-gates", "gate-not-present", gate(present=False)),
    _wide("null-selector", "gate-null-selector", gate(0)),
    _wide("beyond-the-gdt", "gdt-limit", gate(0x200)),
    _wide("data-segment", "not-a-code-segment", gate(boot.DATA32)),
    _wide("code-of-32-bits", "not-a-64-bit-segment", gate(boot.CODE32)),
    _wide("idt-not-mapped", "idt-unmapped", gate(), idt_base=GIB),
    _wide("stack-not-mapped", "stack-unmapped", gate(), prepare=_stack(GIB + 0x1000)),
    _wide("gdt-not-mapped", "gdt-unmapped", gate(), prepare=_gdt_away),
    _wide("empty-tss", "stack-unmapped", gate(ist=1)),
)
