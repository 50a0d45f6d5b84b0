"""What lies around a failed vCPU in its guest's memory: the code at RIP, the operand, the stack."""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.arch.x86.mode import cpu_mode, linear_rip
from kvmwhy.arch.x86.paging import Walk
from kvmwhy.live.guest_memory import GuestMemory
from kvmwhy.record import Code, Cpu, Failure

_BEFORE, _WINDOW = 20, 50  # of code, as QEMU shows it
_STACK: Final = 256
_OPERAND: Final = 64
_LMA: Final = 1 << 10


class Place(NamedTuple):
    """``what``: RIP, RSP or operand. ``data``: what is there, as far as it can be read."""

    what: str
    walk: Walk
    data: bytes


def places(memory: GuestMemory, cpu: Cpu, operand: int | None) -> tuple[Place, ...]:
    """In the order of interest."""
    wanted = (("RIP", _rip(cpu), _WINDOW - _BEFORE), ("operand", operand, _OPERAND), ("RSP", stack_of(cpu), _STACK))
    return tuple(
        Place(what, memory.translate(cpu, gva), memory.linear(cpu, gva, size))
        for what, gva, size in wanted
        if gva is not None
    )


def with_memory(failure: Failure, memory: GuestMemory) -> Failure:
    """The record with the code around RIP, if it has none."""
    code = None if failure.cpu is None or failure.code is not None else _code(memory, failure.cpu)
    if code is None:
        return failure
    more: Failure = replace(failure, code=code)
    return more


def _rip(cpu: Cpu) -> int | None:
    mode = cpu_mode(cpu)
    return linear_rip(cpu, mode) if mode else None


def stack_of(cpu: Cpu) -> int | None:
    """The linear address of the stack's top."""
    rsp, ss = cpu.get("rsp"), cpu.segments.get("ss")
    if rsp is None:
        return None
    if (cpu.get("efer") or 0) & _LMA:
        return rsp
    return ((ss.base if ss else 0) + (rsp if ss is None or ss.big else rsp & 0xFFFF)) & 0xFFFF_FFFF


def _code(memory: GuestMemory, cpu: Cpu) -> Code | None:
    rip = _rip(cpu)
    if rip is None:
        return None
    start = max(0, rip - _BEFORE)
    data = memory.linear(cpu, start, _WINDOW)
    if len(data) <= rip - start:
        return None
    return Code(tuple(data) + (None,) * (_WINDOW - len(data)), rip - start)
