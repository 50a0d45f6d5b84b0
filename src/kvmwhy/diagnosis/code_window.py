"""What the VMM's window of code shows: instructions, or what memory looks like that is not there.

The VMM reads guest memory after the failure and by its own way. Where no RAM is, QEMU prints zeros or ff (what its own
memory dispatch returns), and where its walk of the guest's page tables fails it prints ``??``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from kvmwhy.record import Code

_ENOUGH: Final = 8  # bytes that all look alike are no instructions from here on
_CELL: Final = b"\x20\x07"  # a blank in light grey: what VGA text memory is full of


class Window(StrEnum):
    """The bytes at RIP and behind it."""

    CODE = "code"
    ZEROS = "zeros"
    ONES = "ones"
    VGA_TEXT = "vga-text"
    UNREADABLE = "unreadable"  # ??: the VMM's own translation of RIP failed
    NOT_SHOWN = "not-shown"


EMPTY: Final = frozenset({Window.ZEROS, Window.ONES, Window.VGA_TEXT})


def window_of(code: Code | None) -> Window:
    """Judge what the VMM printed."""
    if code is None:
        return Window.NOT_SHOWN
    if code.unreadable_at_rip:
        return Window.UNREADABLE
    shown = code.at_rip()
    if not shown:
        return Window.NOT_SHOWN
    if len(shown) < _ENOUGH:
        return Window.CODE
    if not any(shown):
        return Window.ZEROS
    if set(shown) == {0xFF}:
        return Window.ONES
    if shown[:_ENOUGH] in {_CELL * (_ENOUGH // 2), (_CELL * (_ENOUGH // 2 + 1))[1 : _ENOUGH + 1]}:
        return Window.VGA_TEXT
    return Window.CODE
