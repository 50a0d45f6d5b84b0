"""A plan: one guest, whole, that is about to do again what failed. Plain data, and nothing else.

Everything that decides what KVM reports is in it, so that a machine, a C program or another kernel
can run the same.
"""

from __future__ import annotations

import msgspec

from kvmwhy.arch.x86.mode import ModeName
from kvmwhy.machine.x86.state import Events, Regs, Sregs
from kvmwhy.record import Kind


class Ram(msgspec.Struct, frozen=True):
    """A memory slot, in bytes. What no slot covers has no memory."""

    gpa: int
    size: int
    readonly: bool = False


class Content(msgspec.Struct, frozen=True):
    """Bytes that lie in guest memory before it starts; what no content covers is zero."""

    gpa: int
    data: bytes


class Hole(msgspec.Struct, frozen=True):
    """Where there is no memory, and what of the guest's lies there (``operand``, ``IDT``, …)."""

    what: str
    linear: int
    gpa: int


class Expected(msgspec.Struct, frozen=True):
    """The record that the evidence shows. ``None`` and empty: the evidence does not say."""

    kind: Kind
    suberror: int | None = None
    data: tuple[int, ...] = ()
    ndata: int | None = None
    vendor: str | None = None
    hardware_error: int | None = None
    exception: int | None = None
    silent: bool = False
    delivering: bool = False  # an event: no instruction was to be emulated
    words: tuple[int, ...] = ()  # of the exit, where a trace names them
    traced: bytes | None = None  # the instruction, where only a trace shows it


class Plan(msgspec.Struct, frozen=True):
    """A guest to run. ``rip`` is the linear address of ``insn``, the instruction that failed.

    ``handlers`` is the linear address of the page where vector ``n`` halts at ``16 * n``, or None.
    ``assumed`` says in sentences what the evidence left open. ``mapped`` are (linear page, guest
    physical page), for those who want to see what a page table says.
    """

    mode: ModeName
    regs: Regs
    sregs: Sregs
    memory: tuple[Ram, ...]
    contents: tuple[Content, ...]
    expected: Expected
    rip: int
    insn: bytes
    text: str | None = None
    events: Events | None = None
    xsave: bool = False  # CR4.OSXSAVE: turn on what the machine offers up to AVX-512
    cap204: bool = False  # KVM_CAP_EXIT_ON_EMULATION_FAILURE
    holes: tuple[Hole, ...] = ()
    handlers: int | None = None
    warm: bool = False  # it first loads a byte from the hole, so that KVM knows the page, and then jumps to ``rip``
    first: Regs | None = None  # the same with an event to inject: run these until the load exits, then ``regs``
    exact: bool = False  # load this very state or fail: an entry failure
    assumed: tuple[str, ...] = ()
    mapped: tuple[tuple[int, int], ...] = ()


class Cannot(msgspec.Struct, frozen=True):
    """Why no guest can be made. ``missing`` names what would have to be in the evidence."""

    why: str
    missing: tuple[str, ...] = ()
