"""Leave out whatever the failure does not need: pages, registers, segments, flags; one after another.

What is left out stays out only if the record stays the same, word for word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from kvmwhy.arch.x86.instruction import decode_first
from kvmwhy.arch.x86.operand import operand_address
from kvmwhy.machine import Dtable, Machine, Segment, replace
from kvmwhy.record import Cpu
from kvmwhy.record import Segment as Seen
from kvmwhy.reproduce.build import run
from kvmwhy.reproduce.compare import mode_of
from kvmwhy.reproduce.guest_plan import Plan
from kvmwhy.reproduce.outcome import Ended
from kvmwhy.reproduce.tables import PAGE

_ROUNDS: Final = 3  # what one round leaves out can make more needless in the next
_SEGMENTS: Final = ("es", "ds", "fs", "gs", "ldt", "tr", "ss")
_TABLES: Final = ("gdt", "idt")


class Minimal(NamedTuple):
    """The smaller plan, and what went, in words. ``runs`` counts the guests that this took."""

    plan: Plan
    dropped: tuple[str, ...]
    runs: int


def minimise(plan: Plan, make: Callable[[], Machine]) -> Minimal:
    """``make`` gives an empty machine each time. A plan that does not fail comes back as it is."""
    runs = 1
    with make() as machine:
        wanted = _record(run(plan, machine))
    dropped: list[str] = []
    for _ in range(_ROUNDS):
        before = len(dropped)
        for name, candidate in _candidates(plan):
            smaller = candidate(plan)
            if smaller is None or smaller == plan or reaches(smaller) != reaches(plan):
                continue
            runs += 1
            with make() as machine:
                if _record(run(smaller, machine)) == wanted:
                    plan = smaller
                    dropped.append(name)
        if len(dropped) == before:
            break
    return Minimal(plan, tuple(dict.fromkeys(dropped)), runs)


def reaches(plan: Plan) -> tuple[int | None, ...]:
    """The linear addresses of the instruction's operands: where memory is missing is what a plan is about."""
    mode = mode_of(plan)
    decoded = decode_first(plan.insn, bitness=mode.bitness, address=plan.regs.rip) if plan.insn else None
    segments = {
        name: Seen(0, getattr(plan.sregs, name).base, 0, getattr(plan.sregs, name).db << 22 | 1)
        for name in ("cs", "ds", "es", "fs", "gs", "ss")
    }
    cpu = Cpu(registers=msgspec.structs.asdict(plan.regs), segments=segments)
    return tuple(operand_address(m, decoded, cpu, mode).linear for m in decoded.memory) if decoded else ()


def _record(ended: Ended) -> tuple[object, ...]:
    return ended.how, ended.suberror, ended.words, ended.number, ended.rip


_Change = Callable[[Plan], Plan | None]


def _candidates(plan: Plan) -> Iterator[tuple[str, _Change]]:
    """Each thing that could go, the big ones first."""
    yield "the event", lambda p: None if p.first is not None else replace(p, events=None)
    for ram in plan.memory:
        yield f"the memory at {ram.gpa:#x}", lambda p, gpa=ram.gpa: _without_slot(p, gpa)  # type: ignore[misc]
    for ram in plan.memory:
        for gpa in range(ram.gpa, ram.gpa + ram.size, PAGE):
            yield f"the page at {gpa:#x}", lambda p, at=gpa: _without_page(p, at)  # type: ignore[misc]
    for content in plan.contents:
        yield f"the bytes at {content.gpa:#x}", lambda p, gpa=content.gpa: _without_content(p, gpa)  # type: ignore[misc]
    yield "XCR0", lambda p: replace(p, xsave=False)
    yield "KVM_CAP_EXIT_ON_EMULATION_FAILURE", lambda p: replace(p, cap204=False)
    for name in msgspec.structs.asdict(plan.regs):
        if name not in {"rip", "rflags"}:
            yield name.upper(), lambda p, n=name: replace(p, regs=replace(p.regs, **{n: 0}))  # type: ignore[misc]
    yield from _bits(plan)
    for name in _SEGMENTS:
        yield name.upper(), lambda p, n=name: _with_sregs(p, **{n: Segment(unusable=1)})  # type: ignore[misc]
    for name in _TABLES:
        yield name.upper(), lambda p, n=name: _with_sregs(p, **{n: Dtable()})  # type: ignore[misc]
    yield "CR2", lambda p: _with_sregs(p, cr2=0)
    yield "CR3", lambda p: _with_sregs(p, cr3=0)


def _bits(plan: Plan) -> Iterator[tuple[str, _Change]]:
    flags = plan.regs.rflags
    yield "all flags", lambda p: replace(p, regs=replace(p.regs, rflags=2))
    for bit in range(2, 22):
        if flags >> bit & 1:
            yield f"bit {bit} of RFLAGS", lambda p, b=bit: _clear_flag(p, b)  # type: ignore[misc]
    for name in ("cr4", "cr0", "efer"):
        for bit in range(32):
            if getattr(plan.sregs, name) >> bit & 1:
                label = f"bit {bit} of {name.upper()}"
                yield label, lambda p, n=name, b=bit: _clear_bit(p, n, b)  # type: ignore[misc]


def _clear_flag(plan: Plan, bit: int) -> Plan:
    return replace(plan, regs=replace(plan.regs, rflags=plan.regs.rflags & ~(1 << bit)))


def _clear_bit(plan: Plan, name: str, bit: int) -> Plan:
    return _with_sregs(plan, **{name: getattr(plan.sregs, name) & ~(1 << bit)})


def _with_sregs(plan: Plan, **values: object) -> Plan:
    return replace(plan, sregs=replace(plan.sregs, **values))


def _without_slot(plan: Plan, gpa: int) -> Plan | None:
    slot = next((m for m in plan.memory if m.gpa == gpa), None)
    if slot is None:
        return None
    inside = tuple(c for c in plan.contents if not slot.gpa <= c.gpa < slot.gpa + slot.size)
    return replace(plan, memory=tuple(m for m in plan.memory if m is not slot), contents=inside)


def _without_page(plan: Plan, gpa: int) -> Plan | None:
    """A slot of several pages is cut at this one."""
    slot = next((m for m in plan.memory if m.gpa <= gpa < m.gpa + m.size and m.size > PAGE), None)
    if slot is None:
        return None
    around = (replace(slot, size=gpa - slot.gpa), replace(slot, gpa=gpa + PAGE, size=slot.gpa + slot.size - gpa - PAGE))
    memory = [part for m in plan.memory for part in (around if m is slot else (m,)) if part.size]
    inside = tuple(c for c in plan.contents if not gpa <= c.gpa < gpa + PAGE)
    return replace(plan, memory=tuple(memory), contents=inside)


def _without_content(plan: Plan, gpa: int) -> Plan:
    return replace(plan, contents=tuple(c for c in plan.contents if c.gpa != gpa))
