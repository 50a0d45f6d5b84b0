"""What running a plan came to, as data: programs read it, ``render`` and the command show it."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmwhy.reproduce.guest_plan import Cannot, Plan

Status = Literal["reproduced", "not-on-this-kernel", "cannot"]


class Where(msgspec.Struct, frozen=True):
    """The machine it ran on. ``vendor`` and ``kernel`` are None where the machine does not tell."""

    text: str
    kernel: str | None = None
    vendor: str | None = None


class Ended(msgspec.Struct, frozen=True):
    """How the guest stopped. ``words`` are those of an internal error, up to ndata; ``exits`` all exits, in words.

    ``how``: internal-error, entry-failure, shutdown, exception-exit, unknown-exit, refused (an ioctl before
    KVM_RUN said no), halted, looped, error (KVM_RUN said no), other.
    """

    how: str
    exits: tuple[str, ...] = ()
    suberror: int | None = None
    words: tuple[int, ...] = ()
    number: int | None = None  # hardware_entry_failure_reason, vector or hardware reason
    vector: int | None = None  # the exception in whose handler the guest halted
    rip: int | None = None  # linear
    touched: tuple[int, ...] = ()  # guest physical addresses of MMIO exits
    error: str | None = None
    left_out: tuple[str, ...] = ()  # state this machine refuses, run without
    alone: str | None = None  # what became of the instruction with HLT behind it, where that was tried


class Row(msgspec.Struct, frozen=True):
    """One thing that can be compared. ``same`` is None where it cannot; ``why`` says why."""

    what: str
    reported: str
    here: str
    same: bool | None
    why: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """``answer`` is one sentence; ``rows`` are the evidence for it.

    ``status`` cannot: ``missing`` names what would have to be in the report. ``exact``: every word of
    the record is the same as well.
    """

    status: Status
    answer: str
    where: Where | None = None
    plan: Plan | None = None
    ended: Ended | None = None
    rows: tuple[Row, ...] = ()
    exact: bool = False
    since: str | None = None
    missing: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def impossible(cannot: Cannot, where: Where | None = None) -> Outcome:
    """The outcome of a failure for which there is no plan."""
    missing = f"; missing from the report: {', '.join(cannot.missing)}" if cannot.missing else ""
    return Outcome("cannot", f"Cannot be reproduced: {cannot.why}{missing}.", where, missing=cannot.missing)
