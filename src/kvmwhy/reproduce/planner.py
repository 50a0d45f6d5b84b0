"""From a failure to the guest that does it again. Pure: no machine is needed to plan.

The order is the one in which things win over each other: first what is not there, then the tables the
CPU reads by itself, then the code.
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

import msgspec

from kvmwhy.arch.x86.mode import LONG64, PROT32, REAL16, VM86, Mode
from kvmwhy.diagnosis.facts import Facts, gather
from kvmwhy.record import Cpu, Emulation, Failure
from kvmwhy.reproduce.descriptors import furnish
from kvmwhy.reproduce.event import event_of, raised_by
from kvmwhy.reproduce.fill_registers import HOLE, steer
from kvmwhy.reproduce.guest_plan import Cannot, Expected, Hole, Plan
from kvmwhy.reproduce.memory import Memory
from kvmwhy.reproduce.missing_memory import Aim, aim
from kvmwhy.reproduce.mmio_warmup import prelude
from kvmwhy.reproduce.not_reproducible import beyond_reach
from kvmwhy.reproduce.state import complete, is_long, regs_of, sregs_of
from kvmwhy.reproduce.tables import PAGE

_HLT: Final = b"\xf4"
_WINDOW: Final = 15
_OSXSAVE: Final = 1 << 18
_IF: Final = 1 << 9
_MODES: Final[dict[str, Mode]] = {
    "real16": REAL16,
    "vm86": VM86,
    "prot16": Mode("prot16", 16, True, "the trace says so"),
    "prot32": PROT32,
    "long64": LONG64,
}


def plan(failure: Failure) -> Plan | Cannot:
    """The guest that brings about this failure, or why there can be none. Never raises on any record."""
    seen = gather(failure)
    if cannot := beyond_reach(seen):
        return cannot
    mode, assumed = _mode(seen)
    if mode is None:
        return Cannot("the report does not show enough of the guest", _missing(seen))
    code = _code(failure, seen)
    if not code and not _code_is_needless(seen):
        return Cannot("the report does not show the instruction", ("instruction bytes, or a code window at RIP",))
    cpl = _cpl(seen, mode)
    whole = complete(failure.cpu, mode, cpl)
    cpu, chosen = steer(seen, whole.cpu, mode, code)
    facts = gather(msgspec.structs.replace(failure, cpu=cpu))
    return _lay_out(facts, mode, code, [*assumed, *whole.assumed, *chosen])


def _lay_out(facts: Facts, mode: Mode, code: bytes, notes: list[str]) -> Plan:
    cpu, target = facts.failure.cpu or Cpu(), aim(facts)
    notes += _notes(facts, target)
    failure, cpl = facts.failure, cpu.cpl or 0
    sregs, regs = sregs_of(cpu), regs_of(cpu)
    memory = Memory(sregs, user=cpl == 3)
    holes = _dig(memory, cpu, mode, target)
    rip = facts.linear_rip or 0
    stack = _wrap((0 if mode.bitness == 64 else cpu.segments["ss"].base) + cpu.registers["rsp"] - 64, mode)
    spans = [(rip - 32, 96), (stack, 128), *_operands(facts)]
    for linear, size in spans:
        memory.reserve(linear, size)
    vector = facts.delivery.vector if facts.delivery else None
    memory.write(rip, _HLT * (PAGE - rip % PAGE))  # behind the code, and under what else lies there
    top = holes[0].linear + _word_size(mode) if _own_stack(target, cpu, mode) and holes else None
    entry = target.linear if target.kind == "GDT" else None
    handlers = furnish(memory, cpu, mode.name, vector=vector, entry=entry, stack=top)
    _place_code(memory, facts, rip, code)
    for linear, size in spans[1:]:
        memory.ram(linear, size)
    events = None
    if failure.suberror == 3 or facts.vectoring:
        events, note = event_of(facts, code)
        notes += [note] if note else []
    first, start = None, None
    if holes and (target.known or target.readonly):
        if events is not None and raised_by(code) == events.exception_nr:
            events = None  # the code raises it itself, after the first touch
        own = events is None and target.kind != "walk"
        at = holes[0].linear if own else memory.alias(holes[0].linear, holes[0].gpa)
        start = None if memory.rootless else prelude(memory, cpu, mode, at)
        if start is None:
            notes.append("KVM had met this page before; here it meets it for the first time, so words may differ")
        elif events is None:
            regs = msgspec.structs.replace(regs, rip=start)
        else:
            first = msgspec.structs.replace(regs, rip=start)
    slots, contents = memory.finish()
    return Plan(
        mode=mode.name,
        regs=regs,
        sregs=sregs,
        memory=slots,
        contents=contents,
        expected=_expected(facts),
        rip=rip,
        insn=facts.instruction.bytes if facts.instruction else b"",
        text=facts.instruction.text if facts.instruction else None,
        events=events,
        xsave=bool(sregs.cr4 & _OSXSAVE),
        cap204=cpl == 3 or failure.silent or facts.layout == "bytes-5.14",
        holes=holes,
        warm=start is not None,
        first=first,
        handlers=handlers,
        exact=failure.kind == "entry-failure",
        assumed=tuple(dict.fromkeys(notes)),
        mapped=tuple(sorted((linear, leaf.gpa) for linear, leaf in memory.leaves.items())),
    )


def _operands(facts: Facts) -> list[tuple[int, int]]:
    """(linear address, size) of each; XSAVE and the like get their legacy area at least."""
    spans = [(o.linear, o.size or 0x200) for o in facts.operands if o.canonical is not False]
    return [(linear, size) for linear, size in spans if linear is not None]


# -- what the report leaves open -----------------------------------------------------------------------


def _mode(facts: Facts) -> tuple[Mode | None, tuple[str, ...]]:
    if facts.mode is not None:
        return facts.mode, () if facts.mode.certain else (facts.mode.why,)
    emulation: Emulation | None = facts.failure.emulation
    if emulation is not None and emulation.mode is not None:
        return _MODES[emulation.mode], ()
    if facts.code_mode is not None:
        return facts.code_mode, (facts.code_mode.why,)
    if facts.fetch_failed or (facts.delivery and facts.delivery.gpa is not None) or facts.instruction:
        return LONG64, ("the CPU's mode is not shown; 64-bit code is assumed",)
    if emulation is not None:
        return LONG64, ("the CPU's mode is not shown; 64-bit code is assumed",)
    return None, ()


def _missing(facts: Facts) -> tuple[str, ...]:
    failure = facts.failure
    missing = []
    if failure.cpu is None or not failure.cpu.registers:
        missing.append("the registers")
    elif facts.mode is None:
        missing.append("the mode of the CPU (CR0, EFER, CS)")
    if not _code(failure, facts):
        missing.append("the instruction bytes")
    return tuple(missing)


def _code(failure: Failure, facts: Facts) -> bytes:
    """What lay at RIP, best source first: KVM's own bytes, the trace's, the VMM's window."""
    if facts.reading and facts.reading.failure.insn:
        return facts.reading.failure.insn
    window = failure.code.at_rip() if failure.code else b""
    if failure.emulation and not window.startswith(failure.emulation.insn):
        return failure.emulation.insn
    return window


def _code_is_needless(facts: Facts) -> bool:
    """A fetch that failed, an event in delivery, a state that is refused: no instruction took part."""
    access = facts.access
    if facts.failure.kind == "entry-failure" or facts.failure.suberror == 3 or facts.vectoring:
        return True
    return bool(facts.fetch_failed) or (access is not None and access.kind == "fetch")


def _cpl(facts: Facts, mode: Mode) -> int:
    if facts.cpl is not None:
        return facts.cpl
    if mode.name == "real16":
        return 0
    words = facts.words
    return 3 if words is not None and facts.vendor.vendor == "pvm" and words.reason == 0x2000 else 0


def _notes(facts: Facts, target: Aim) -> list[str]:
    notes = [target.assumed] if target.assumed else []
    failure = facts.failure
    if failure.cpu_shared:
        notes.append("these registers may belong to another vCPU that failed at the same time")
    if failure.cpu and failure.cpu.smm:
        notes.append("the vCPU was in SMM; here it runs the same state outside of it")
    access = facts.access
    if target.kind in {"operand", "fetch"} and facts.paging and target.gpa is None:
        notes.append("the guest's page tables are not in the report: the address is mapped to one without memory")
    elif access is not None and access.assumed:
        notes.append("the address is taken as mapped one to one")
    return notes


# -- memory --------------------------------------------------------------------------------------------


def _dig(memory: Memory, cpu: Cpu, mode: Mode, target: Aim) -> tuple[Hole, ...]:
    """Put the missing memory where it was missing."""
    if target.kind == "nothing":
        return ()
    linear = target.linear
    if target.kind == "walk":
        gpa = target.gpa if target.gpa is not None else _table_offset(linear)
        hole = memory.hole_in_walk(linear, gpa)
        return (Hole("a page table", linear, gpa),) if hole else ()
    if _own_stack(target, cpu, mode) and (memory.paging != "none" or target.gpa is None):
        linear = memory.free_linear(0x40_0000) | (target.gpa if target.gpa is not None else 0xFF8) & 0xFFF
    if target.readonly:
        memory.readonly(linear, target.size, gpa=target.gpa, rights=target.rights)
        return (Hole("a read-only page with the operand", linear, target.gpa if target.gpa is not None else linear),)
    size = target.size if target.kind == "operand" else 1
    at = memory.hole(linear, size, gpa=target.gpa, rights=target.rights)
    what = {"fetch": "the code", "operand": "the operand", "IDT": "the IDT", "stack frame": "the stack"}
    return () if at is None else (Hole(what.get(target.kind, f"the {target.kind}"), linear, at),)


def _own_stack(target: Aim, cpu: Cpu, mode: Mode) -> bool:
    """The frame goes to the stack that the TSS names: the event comes at CPL 3."""
    return target.kind == "stack frame" and cpu.cpl == 3 and mode.name != "real16"


def _table_offset(linear: int) -> int:
    """An address without memory at which a walk reads the last level's table."""
    return HOLE | (linear >> 12 & 0x1FF) * 8


def _place_code(memory: Memory, facts: Facts, rip: int, code: bytes) -> None:
    """The VMM's window, then the bytes that KVM itself fetched."""
    window = facts.failure.code
    if window is not None and window.rip_at is not None:
        start = max(rip - window.rip_at, 0)
        bytes_ = window.window[start - rip + window.rip_at :]
        at = start
        for unreadable, run in groupby(bytes_, key=lambda byte: byte is None):
            part = [byte or 0 for byte in run]
            if not unreadable:
                memory.write(at, bytes(part))
            at += len(part)
    memory.write(rip, code or _HLT)
    if code:
        memory.ram(rip, max(len(code), 1))


def _wrap(address: int, mode: Mode) -> int:
    return address & ((1 << 64) - 1 if mode.bitness == 64 else 0xFFFF_FFFF)


def _word_size(mode: Mode) -> int:
    return 8 if is_long(mode.name) else 4


def _expected(facts: Facts) -> Expected:
    failure = facts.failure
    emulation = failure.emulation
    return Expected(
        # What a trace shows of an emulation that failed, the capability turns into suberror 1.
        kind="internal-error" if facts.emulated else failure.kind,
        suberror=1 if facts.emulated else failure.suberror,
        data=failure.data,
        ndata=failure.ndata,
        vendor=facts.vendor.vendor,
        hardware_error=failure.hardware_error,
        exception=failure.exception,
        silent=failure.silent,
        delivering=bool(facts.vectoring),
        words=tuple(facts.words) if facts.words and not failure.data else (),
        traced=emulation.insn if emulation and not failure.data else None,
    )
