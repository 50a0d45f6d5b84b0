"""Whether a CPU could have delivered an exception, by its own tables: IDT, GDT, TSS and stack.

SDM vol. 3A, 6.10 to 6.15: the gate, the code segment that it names, the stack that it switches to. Each structure is
read as the CPU reads it; the first that cannot be used says which exception comes in the place of the one that was to
be delivered. Real mode and task gates are not judged.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.paging import Read, walk
from kvmwhy.record import Cpu, Fault, Segment

DF, TS, NP, SS, GP, PF = 8, 10, 11, 12, 13, 14
# SDM vol. 3A, table 6-4: an exception during the delivery of another one of its class, or after a page fault.
_CONTRIBUTORY: Final = frozenset({0, TS, NP, SS, GP})
_PUSHES_CODE: Final = frozenset({DF, TS, NP, SS, GP, PF, 17, 21})
_PE, _LMA = 1, 1 << 10
_EXT, _IN_IDT = 1, 2
_INTERRUPT_GATES: Final = {0x6, 0x7, 0xE, 0xF}
_LONG_GATES: Final = {0xE, 0xF}
_SOFTWARE: Final = {3, 4}  # INT3 and INTO
_TASK_GATE: Final = 5
_WRITE: Final = 2
_U64: Final = (1 << 64) - 1
_MOST: Final = 4  # exceptions in a chain: a benign one, a contributory one, a double fault


class Broken(NamedTuple):
    """Why an exception could not be delivered, and what the CPU raises instead.

    ``what`` is a slug; ``at`` the structure's address, ``value`` what it holds or a limit that it exceeds.
    """

    what: str
    vector: int
    error_code: int
    cr2: int | None = None
    at: int | None = None
    value: int | None = None


def after(first: int, second: int) -> int:
    """What the CPU delivers when ``second`` occurs while it delivers ``first``. Not for a double fault."""
    if first == PF:
        return DF if second in _CONTRIBUTORY or second == PF else second
    return DF if first in _CONTRIBUTORY and second in _CONTRIBUTORY else second


def chain(first: Fault, cpu: Cpu, read: Read | None) -> tuple[Fault, ...]:
    """From an exception to the one whose delivery shuts the CPU down, as far as the tables show it.

    The last one's ``broken`` says why that one could not be delivered; it is None if it could be, or if that is not
    known.
    """
    faults: list[Fault] = []
    fault = first
    while len(faults) < _MOST:
        broken = undeliverable(fault.vector, cpu, read)
        if broken is None:
            faults.append(fault)
            break
        faults.append(_with(fault, broken))
        if fault.vector == DF:
            break
        vector = after(fault.vector, broken.vector)
        code, cr2 = (0, None) if vector == DF else (broken.error_code, broken.cr2)
        fault = Fault(vector=vector, error_code=code, cr2=cr2, rip=first.rip, by="tables")
    return tuple(faults)


def is_shutdown(faults: tuple[Fault, ...]) -> bool:
    """Whether the chain ends in a double fault that could not be delivered."""
    return bool(faults) and faults[-1].vector == DF and faults[-1].broken is not None


def undeliverable(vector: int, cpu: Cpu, read: Read | None) -> Broken | None:
    """The first structure that stops the delivery of ``vector``; None: nothing does, as far as can be seen.

    The error code has EXT, as on a CPU (SDM vol. 3A, 6.13): the fault comes while an earlier exception is delivered,
    unless that is of INT3 or INTO. QEMU's own emulator leaves EXT out.
    """
    broken = _undeliverable(vector, cpu, read)
    if broken is None or broken.vector == PF or vector in _SOFTWARE:
        return broken
    return broken._replace(error_code=broken.error_code | _EXT)


def _undeliverable(vector: int, cpu: Cpu, read: Read | None) -> Broken | None:
    cr0, efer, idt = cpu.get("cr0"), cpu.get("efer") or 0, cpu.segments.get("idt")
    if cr0 is None or not cr0 & _PE or idt is None:
        return None
    wide = bool(efer & _LMA)
    size = 16 if wide else 8
    if vector * size + size - 1 > idt.limit:
        return Broken("idt-limit", GP, vector << 3 | _IN_IDT, at=idt.base, value=idt.limit)
    if read is None:
        return None
    memory = _Memory(cpu, read)
    at = idt.base + vector * size & _U64
    gate, missing = memory.get(at, size)
    if missing:
        return Broken("idt-unmapped", PF, 0, cr2=missing.address, at=at) if missing.is_fault else None
    word = int.from_bytes(gate[:8], "little")
    kind = word >> 40 & 0x1F
    if kind == _TASK_GATE and not wide:
        return None
    if kind not in (_LONG_GATES if wide else _INTERRUPT_GATES):
        return Broken("gate-type", GP, vector << 3 | _IN_IDT, at=at, value=word)
    if not word >> 47 & 1:
        return Broken("gate-not-present", NP, vector << 3 | _IN_IDT, at=at, value=word)
    selector = word >> 16 & 0xFFFF
    if broken := _code_segment(selector, cpu, memory, wide=wide):
        return broken
    handler = word & 0xFFFF | word >> 32 & 0xFFFF_0000
    if wide:
        handler |= int.from_bytes(gate[8:12], "little") << 32
        if not _canonical(handler):
            return Broken("handler-not-canonical", GP, 0, at=at, value=handler)
    ist = word >> 32 & 7 if wide else 0
    return _stack(vector, ist, cpu, memory, wide=wide)


def _code_segment(selector: int, cpu: Cpu, memory: _Memory, *, wide: bool) -> Broken | None:
    if not selector & 0xFFFC:
        return Broken("gate-null-selector", GP, 0, value=selector)
    table = cpu.segments.get("ldt" if selector & 4 else "gdt")
    if table is None:
        return None
    code = selector & 0xFFFC
    if (selector & 0xFFF8) + 7 > table.limit:
        return Broken("gdt-limit", GP, code, at=selector, value=table.limit)
    at = table.base + (selector & 0xFFF8) & _U64
    raw, missing = memory.get(at, 8)
    if missing:
        return Broken("gdt-unmapped", PF, 0, cr2=missing.address, at=at) if missing.is_fault else None
    descriptor = int.from_bytes(raw, "little")
    if descriptor >> 43 & 3 != 3:  # S and "code"
        return Broken("not-a-code-segment", GP, code, at=selector, value=descriptor)
    if not descriptor >> 47 & 1:
        return Broken("code-segment-not-present", NP, code, at=selector, value=descriptor)
    if wide and not descriptor >> 53 & 1:
        return Broken("not-a-64-bit-segment", GP, code, at=selector, value=descriptor)
    return None


def _stack(vector: int, ist: int, cpu: Cpu, memory: _Memory, *, wide: bool) -> Broken | None:
    """Where the CPU would push. A change of privilege is judged in 64-bit mode only."""
    rsp, ss, cpl = cpu.get("rsp"), cpu.segments.get("ss"), cpu.cpl or 0
    size = (48 if vector in _PUSHES_CODE else 40) if wide else (16 if vector in _PUSHES_CODE else 12)
    top = rsp
    if wide and (ist or cpl):
        task = cpu.segments.get("tr")
        if task is None:
            return None
        offset = 0x1C + 8 * ist if ist else 4
        if offset + 7 > task.limit:
            return Broken("tss-limit", TS, task.selector & 0xFFFC, at=task.base, value=task.limit)
        raw, missing = memory.get(task.base + offset & _U64, 8)
        if missing:
            return Broken("tss-unmapped", PF, 0, cr2=missing.address, at=task.base) if missing.is_fault else None
        top = int.from_bytes(raw, "little")
    elif not wide and (cpl or (cpu.get("rflags") or 0) >> 17 & 1):
        return None
    if top is None:
        return None
    if wide:
        top &= ~0xF
        if not _canonical(top - size & _U64):
            return Broken("stack-not-canonical", SS, 0, at=top)
        base = 0
    else:
        base, top = (ss.base if ss else 0), top & (0xFFFF_FFFF if ss is None or ss.big else 0xFFFF)
        if ss and not _is_down(ss) and top - size < 0:
            return Broken("stack-limit", SS, 0, at=top, value=ss.limit)
    missing = memory.put(base + top - size & _U64, size, 8 if wide else 4)
    if missing is None or not missing.is_fault:
        return None
    what = "stack-read-only" if missing.is_present else "stack-unmapped"
    return Broken(what, PF, _WRITE | missing.is_present, cr2=missing.address, at=top)


def _is_down(segment: Segment) -> bool:
    return segment.type & 0xC == 4


def _canonical(address: int) -> bool:
    return address >> 47 in {0, 0x1FFFF}


class _Missing(NamedTuple):
    """A part of a structure cannot be had. ``is_fault``: the CPU cannot have it either."""

    address: int
    is_fault: bool
    is_present: bool = False


class _Memory:
    """The guest's memory by linear address, as the CPU's own tables map it."""

    def __init__(self, cpu: Cpu, read: Read) -> None:
        self._read = read
        self._registers = {name: cpu.get(name) or 0 for name in ("cr0", "cr3", "cr4", "efer")}
        self._paged = bool(self._registers["cr0"] >> 31)
        self._protected = bool(self._registers["cr0"] >> 16 & 1)

    def get(self, address: int, size: int) -> tuple[bytes, _Missing | None]:
        out = b""
        while len(out) < size:
            at = address + len(out) & _U64
            part = min(size - len(out), 4096 - at % 4096)
            where = walk(at, read=self._read, **self._registers)
            if where.gpa is None:
                return out, _Missing(at, any(step.entry is not None for step in where.steps[-1:]))
            data = self._read(where.gpa, part)
            if data is None:
                return out, _Missing(at, is_fault=False)
            out += data
        return out, None

    def put(self, address: int, size: int, word: int) -> _Missing | None:
        """Whether a supervisor's pushes would go through, from the top down."""
        for at in (address + size - word & _U64, address):
            where = walk(at, read=self._read, **self._registers)
            if where.gpa is None:
                return _Missing(at, any(step.entry is not None for step in where.steps[-1:]))
            entries = [step.entry or 0 for step in where.steps]
            if self._paged and self._protected and where.paging != "pae" and not all(e & _WRITE for e in entries):
                return _Missing(at, is_fault=True, is_present=True)
        return None


def _with(fault: Fault, broken: Broken) -> Fault:
    return Fault(
        vector=fault.vector,
        error_code=fault.error_code,
        cr2=fault.cr2,
        rip=fault.rip,
        by=fault.by,
        broken=broken.what,
        at=broken.at,
        value=broken.value,
    )
