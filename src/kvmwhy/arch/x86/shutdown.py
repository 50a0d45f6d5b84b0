"""A triple fault explained by what is left of the CPU: its registers, its tables and its stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvmwhy.arch.x86.exception_delivery import DF, PF, chain, is_shutdown, undeliverable
from kvmwhy.arch.x86.operand import Operand
from kvmwhy.arch.x86.paging import Read, walk
from kvmwhy.record import Cpu, Fault

_UD: Final = 6
_UNDEFINED: Final = frozenset({"ud0", "ud1", "ud2"})
_PRESENT, _WRITE, _USER, _FETCH = 1, 2, 4, 16
_WRITES: Final = frozenset({"write", "read-write", "cond-write", "read-cond-write"})


def faults_by_tables(cpu: Cpu, read: Read, first: Fault | None) -> tuple[Fault, ...]:
    """The exceptions from ``first`` on; if that is not known, the double fault, which must have failed. Empty: unclear.

    A CPU shuts down because it cannot deliver a double fault, whatever came before.
    """
    if first is not None and is_shutdown(faults := chain(first, cpu, read)):
        return faults
    broken = undeliverable(DF, cpu, read)
    if broken is None:
        return ()
    last = Fault(vector=DF, rip=cpu.get("rip"), by="tables", broken=broken.what, at=broken.at, value=broken.value)
    return (last,)


def first_exception(
    cpu: Cpu, read: Read, rip: int | None, mnemonic: str | None, operands: Sequence[Operand]
) -> Fault | None:
    """Which exception the instruction at RIP raised, if its state leaves one answer. ``rip`` is linear.

    CR2 keeps the address of the last page fault: where that is the address of RIP or of an operand, and is not mapped
    for this access, it was that.
    """
    if mnemonic in _UNDEFINED:
        return Fault(vector=_UD, rip=rip, by="tables")
    cr2, user = cpu.get("cr2"), _USER if cpu.cpl == 3 else 0
    if not cr2:
        return None
    where = walk(cr2, read=read, **{name: cpu.get(name) or 0 for name in ("cr0", "cr3", "cr4", "efer")})
    if where.paging == "none" or (where.gpa is None and not any(step.entry is not None for step in where.steps[-1:])):
        return None
    present = _PRESENT if where.gpa is not None else 0
    if cr2 == rip:
        return None if present else Fault(vector=PF, error_code=_FETCH | user, cr2=cr2, rip=rip, by="tables")
    for operand in operands:
        if operand.linear is not None and operand.linear <= cr2 < operand.linear + max(operand.size or 1, 1):
            write = operand.access in _WRITES
            if present and not (write and "read-only" in where.why):
                return None
            code = present | user | (_WRITE if write else 0)
            return Fault(vector=PF, error_code=code, cr2=cr2, rip=rip, by="tables")
    return None
