"""What a family of faults is: forms that KVM carries out wrongly for one reason, and guests that show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

GuestMode = Literal["real16", "prot16", "long64"]
# What lies where there is no memory: an operand, the stack; or, for `code`, nothing, but CS has a base.
Place = Literal["data", "stack", "code"]
Needs = Literal["", "bmi1", "lzcnt", "amd", "intel"]

FIELD: Final = 0x800  # of the operand, in its page
WINDOW: Final = 64  # bytes before and behind FIELD that are compared
CODE: Final = 0x1100  # linear address of the instruction under test; all else in its page is HLT
CODE_BASE: Final = 0x900  # of CS outside 64-bit mode
LANDING: Final = 0xA00  # an offset of HLT in CS
LINEAR: Final = 0x400000  # of the operand's page in 64-bit mode


class Guest(NamedTuple):
    """One instruction, what it starts with, and what a CPU makes of it by the manuals.

    ``start`` and ``end`` name registers of ``struct kvm_regs``; those that ``end`` does not name stay as they were.
    ``before`` and ``after`` are (distance from FIELD, bytes) in the operand's page; the rest is a pattern, and stays
    one. ``flags`` is (mask, value). ``loose``: what it writes is not compared, only that it comes to an end.
    """

    text: str
    mode: GuestMode
    code: bytes
    place: Place
    start: Mapping[str, int]
    end: Mapping[str, int]
    before: tuple[int, bytes] = (0, b"")
    after: tuple[int, bytes] = (0, b"")
    flags: tuple[int, int] = (0, 0)
    needs: Needs = ""
    wide_stack: bool = False  # SS.B is set
    loose: bool = False


class Store(NamedTuple):
    """A store of RISC-V to where there is no memory: what KVM has to make KVM_EXIT_MMIO of."""

    text: str
    word: int
    size: int


class Family(NamedTuple):
    """Forms that are wrong for one reason. ``id`` never changes its meaning: it is an anchor of the page as well.

    ``forms``: (mode, bytes in hex) as the atlas has them; of riscv64, (``riscv64``, the word in hex). ``never_ends``:
    KVM neither fails nor finishes, where others end wrongly. ``also``: what has the same cause and is no form of the
    atlas' comparison.
    """

    id: str
    arch: Literal["x86", "riscv64"]
    title: str  # without the prefix, as a subject
    prefix: str  # of the subject: KVM: x86: emulator
    manual: str  # what happens on a CPU, with the manual's place
    does: str  # what KVM does instead
    place: str  # where, by file and function
    why: str
    harm: str
    known: str  # of earlier reports and fixes
    suggestion: str
    forms: tuple[tuple[str, str], ...]
    guests: tuple[Guest, ...] = ()
    stores: tuple[Store, ...] = ()
    never_ends: bool = False
    also: str = ""
    silicon: str = ""  # what was seen on a real CPU
    tried: Literal["", "right", "gives up"] = ""  # what the test's guests came to with the suggestion in KVM


class SetAside(NamedTuple):
    """Forms whose comparison found a difference that is no fault of this kind, and why."""

    why: str
    forms: tuple[tuple[str, str], ...] = ()
    technique: str = ""  # or all forms that were asked so
