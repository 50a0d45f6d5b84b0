"""The same guest for the lab's real kernels: as one of its cases, and its outcome as an end of ours.

``lab/`` is beside the package in a checkout and not in a wheel, so it is imported only when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvmwhy.reproduce.build import MAX_EXITS
from kvmwhy.reproduce.descriptors import STEP, VECTORS
from kvmwhy.reproduce.guest_plan import Plan
from kvmwhy.reproduce.outcome import Ended

if TYPE_CHECKING:
    from lab.cases import Case
    from lab.outcome import Outcome

MAX_SLOTS: Final = 16  # of replay.c
_XCR0: Final = 7
_HOW: Final = {
    0: "unknown-exit",
    1: "exception-exit",
    5: "halted",
    8: "shutdown",
    9: "entry-failure",
    17: "internal-error",
}


def to_case(plan: Plan, name: str = "reproduce") -> Case:
    """Raises ValueError if the lab's program cannot hold it. A page that is touched first is not: see ``first``."""
    from lab import cases

    if len(plan.memory) > MAX_SLOTS:
        raise ValueError(f"the guest has {len(plan.memory)} pieces of memory, the lab takes {MAX_SLOTS}")
    return cases.Case(
        name,
        tuple(cases.Memory(m.gpa, m.size, m.readonly) for m in plan.memory),
        tuple(cases.Chunk(c.gpa, c.data) for c in plan.contents),
        plan.regs,
        plan.sregs,
        plan.events,
        xcr0=_XCR0 if plan.xsave else 0,
        cap204=plan.cap204,
        answer=bytes(8),
        max_exits=MAX_EXITS,
        timeout_ms=500,
        # TCG aborts where a busy 32-bit TSS gives it a stack; the lab adapts cases of this mode.
        facts=cases.Facts("reproduce", "a failure of a report", "prot32" if plan.mode == "prot32" else "long64"),
    )


def ended_of(plan: Plan, outcome: Outcome) -> Ended:
    """What replay.c saw, in the words of ``build.run``."""
    exits = tuple(_describe(exit_) for exit_ in outcome.exits)
    touched = [int(e.gpa, 16) for e in outcome.exits if e.gpa is not None]
    if plan.warm and touched:
        touched.pop(0)
    if outcome.failed is not None:
        return Ended("refused", exits, error=f"{outcome.failed.ioctl} failed with errno {outcome.failed.errno}")
    last, state = outcome.last, outcome.state
    if outcome.stop in {"timeout", "max-exits"} or last is None:
        return Ended("looped", exits, touched=tuple(touched))
    rip = None if state is None else int(state.rip, 16)
    if rip is not None and plan.mode != "long64":
        rip = plan.sregs.cs.base + rip & 0xFFFF_FFFF
    raw = bytes.fromhex(last.significant) if last.payload else b""
    words = last.words
    at = None if rip is None else rip - 1
    return Ended(
        _HOW.get(last.reason, "other"),
        exits,
        suberror=words[0] if words else None,
        words=words[1:],
        number=int.from_bytes(raw[:8], "little") if last.reason in {0, 9} else None,
        vector=_vector(plan, at) if last.reason == 5 else None,
        rip=rip,
        touched=tuple(touched),
        left_out=("the first touch of the page, which a case of the lab has no place for",) if plan.first else (),
    )


def _vector(plan: Plan, at: int | None) -> int | None:
    if at is None or plan.handlers is None or not plan.handlers <= at < plan.handlers + STEP * VECTORS:
        return None
    return (at - plan.handlers) // STEP


def _describe(exit_: object) -> str:
    reason = getattr(exit_, "reason", None)
    gpa = getattr(exit_, "gpa", None)
    if gpa is not None:
        return f"MMIO {'write' if getattr(exit_, 'write', False) else 'read'} of {getattr(exit_, 'size', 0)} at {gpa}"
    return f"exit {reason}"
