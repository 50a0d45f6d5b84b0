"""The ``kvm_run`` page of a modelled vCPU, and the page for port I/O data behind it.

As in the kernel, an exit writes its own fields and clears nothing else.
"""

from __future__ import annotations

import struct
from typing import Final

from kvmwhy.abi.kvm_run import (
    EXIT_FAIL_ENTRY,
    EXIT_INTERNAL_ERROR,
    PAGE_SIZE,
    UNION,
)
from kvmwhy.machine.completion import answer
from kvmwhy.machine.exits import Exit, Io, Mmio, decode_exit

_REASON: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<BBHQQ")  # ready_for_interrupt_injection, if_flag, flags, cr8, apic_base
_MMIO: Final = struct.Struct("<Q8sIB")
_IO: Final = struct.Struct("<BBHIQ")
_FAIL: Final = struct.Struct("<QI")
_EIGHT: Final = 8


class RunPage:
    def __init__(self) -> None:
        self.bytes = bytearray(2 * PAGE_SIZE)

    def head(self, *, ready: bool, interrupts: bool, cr8: int, apic_base: int) -> None:
        _HEAD.pack_into(self.bytes, 12, ready, interrupts, 0, cr8, apic_base)

    def reason(self, number: int) -> None:
        """An exit without payload, or the start of one with."""
        _REASON.pack_into(self.bytes, 8, number)

    def mmio(self, gpa: int, *, size: int, data: bytes | None) -> None:
        """``data`` is None for a read; KVM leaves the bytes of the last exit there."""
        self.reason(Mmio.number)
        kept = bytes(self.bytes[UNION + _EIGHT : UNION + 2 * _EIGHT])
        shown = kept if data is None else data + kept[len(data) :]
        _MMIO.pack_into(self.bytes, UNION, gpa, shown, size, data is not None)

    def mmio_data(self, size: int) -> bytes:
        return bytes(self.bytes[UNION + _EIGHT : UNION + _EIGHT + size])

    def io(self, port: int, *, size: int, count: int, data: bytes | None) -> None:
        self.reason(Io.number)
        _IO.pack_into(self.bytes, UNION, data is not None, size, port, count, PAGE_SIZE)
        if data is not None:
            self.bytes[PAGE_SIZE : PAGE_SIZE + len(data)] = data

    def io_data(self, size: int) -> bytes:
        return bytes(self.bytes[PAGE_SIZE : PAGE_SIZE + size])

    def internal_error(self, suberror: int, words: tuple[int, ...]) -> None:
        self.reason(EXIT_INTERNAL_ERROR)
        struct.pack_into(f"<II{len(words)}Q", self.bytes, UNION, suberror, len(words), *words)

    def fail_entry(self, reason: int) -> None:
        self.reason(EXIT_FAIL_ENTRY)
        _FAIL.pack_into(self.bytes, UNION, reason, 0)

    def exit(self) -> Exit:
        return decode_exit(self.bytes)

    def complete(self, data: bytes) -> None:
        """Raises CompletionError."""
        offset = answer(self.bytes, data)
        self.bytes[offset : offset + len(data)] = data
