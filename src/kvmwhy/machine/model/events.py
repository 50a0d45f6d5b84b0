"""Delivering an exception or interrupt: IDT, stack switch, frame. As the CPU does it.

SDM vol. 3A, 6.12 (protected mode), 6.14 (64-bit), 20.1.4 (real mode), 20.3 (virtual-8086), table 6-5
(double fault). Task gates and shadow stacks are not modelled.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.paging import Linear
from kvmwhy.machine.model.traps import BP, DB, DE, DF, GP, NMI, NP, OF, PF, TS, WITH_ERROR_CODE, GuestFault
from kvmwhy.machine.model.traps import SS as SS_FAULT
from kvmwhy.machine.model.unicorn_state import CS, DS, ES, FS, GDT, GS, IDT, LDT, RSP, SS, TR, Env

# VMX's numbers for the type (SDM vol. 3C, 25.8.3); SVM has 0, 2, 3 and 4 only.
EXTERNAL, NON_MASKABLE, HARDWARE, SOFTWARE, PRIVILEGED, SOFTWARE_EXCEPTION = 0, 2, 3, 4, 5, 6

_CONTRIBUTORY: Final = frozenset((DE, TS, NP, SS_FAULT, GP))
_TRAPS: Final = frozenset((DB, NMI, BP, OF, DF))  # pushed with RF as it was


class Event(NamedTuple):
    """Something to deliver. ``length`` is that of the instruction, for the software ones."""

    vector: int
    type: int = HARDWARE
    error_code: int | None = None
    cr2: int | None = None
    length: int = 0

    @property
    def from_software(self) -> bool:
        return self.type in {SOFTWARE, PRIVILEGED, SOFTWARE_EXCEPTION}


def of_fault(fault: GuestFault, *, real: bool) -> Event:
    code = None if real or fault.vector not in WITH_ERROR_CODE else fault.error_code or 0
    return Event(fault.vector, HARDWARE, code, fault.cr2)


def combine(first: Event | None, second: Event, *, real: bool) -> Event | None:
    """What becomes of an exception while ``first`` is being delivered; None is a triple fault."""
    if first is None or first.type != HARDWARE:
        return second
    if first.vector == DF:
        return None if second.vector in _CONTRIBUTORY or second.vector == PF else second
    if first.vector in _CONTRIBUTORY and second.vector in _CONTRIBUTORY:
        return Event(DF, HARDWARE, None if real else 0)
    if first.vector == PF and (second.vector in _CONTRIBUTORY or second.vector == PF):
        return Event(DF, HARDWARE, None if real else 0)
    return second


def deliver(env: Env, space: Linear, event: Event, *, selector_first: bool = True) -> None:
    """Change ``env`` and the stack so that the handler runs next. ``space``: as the CPU itself sees it.

    ``selector_first``: whether SS is read from a 32-bit TSS before ESP. Intel's manual has it so (SDM vol.
    2A, INT n), AMD's reads ESP first (APM vol. 3, INT).

    Raises GuestFault or Hole, with ``env`` as it was; a part of the frame may be written by then.
    """
    if event.vector == PF and event.cr2 is not None:
        env.cr[2] = event.cr2
    if not env.cr[0] & 1:
        _real(env, space, event)
    else:
        _protected(env, space, event, selector_first=selector_first)


def _pushed_flags(env: Env, event: Event) -> int:
    flags = state.get_rflags(env)
    fault = event.type == HARDWARE and event.vector not in _TRAPS
    return flags | state.RF if fault else flags


def _return_address(env: Env, event: Event) -> int:
    return env.eip + (event.length if event.from_software else 0)


def _real(env: Env, space: Linear, event: Event) -> None:
    table = env.segs[IDT]
    if event.vector * 4 + 3 > table.limit:
        raise GuestFault(GP, 0)
    stack, ss = env.regs[RSP], env.segs[SS]
    mask = 0xFFFF_FFFF if ss.flags & state.BIG else 0xFFFF
    for value in (_pushed_flags(env, event) & ~state.RF, env.segs[CS].selector, _return_address(env, event)):
        stack = stack & ~mask | (stack - 2) & mask
        space.write(ss.base + (stack & mask), struct.pack("<H", value & 0xFFFF))
    offset, selector = struct.unpack("<HH", space.read(table.base + 4 * event.vector, 4))
    env.regs[RSP] = stack
    env.segs[CS].selector, env.segs[CS].base = selector, selector << 4
    env.eip = offset
    state.set_rflags(env, state.get_rflags(env) & ~(state.IF | state.TF | state.AC | state.RF))


class _Gate(NamedTuple):
    offset: int
    selector: int
    type: int
    dpl: int
    ist: int


def _gate(env: Env, space: Linear, event: Event, *, long: bool, external: int) -> _Gate:
    table, size = env.segs[IDT], 16 if long else 8
    at = event.vector * size
    code = event.vector << 3 | 2 | external
    if at + size - 1 > table.limit:
        raise GuestFault(GP, code)
    raw = space.read(table.base + at, size)
    low, selector, ist, access, middle = struct.unpack_from("<HHBBH", raw)
    offset = low | middle << 16 | (int.from_bytes(raw[8:12], "little") << 32 if long else 0)
    kind = access & 0x1F
    if kind not in ((0xE, 0xF) if long else (0x6, 0x7, 0xE, 0xF)):  # no task gates here
        raise GuestFault(GP, code)
    gate = _Gate(offset, selector, kind, access >> 5 & 3, ist & 7)
    if event.type in {SOFTWARE, SOFTWARE_EXCEPTION} and gate.dpl < state.cpl(env):
        raise GuestFault(GP, event.vector << 3 | 2)
    if not access & 0x80:
        raise GuestFault(NP, code)
    return gate


def _descriptor(env: Env, space: Linear, selector: int, vector: int, external: int) -> int:
    table = env.segs[LDT] if selector & 4 else env.segs[GDT]
    if not selector & 0xFFFC:
        raise GuestFault(vector, external)
    if (selector | 7) > table.limit or (selector & 4 and not table.flags & state.PRESENT):
        raise GuestFault(vector, selector & 0xFFFC | external)
    return space.number(table.base + (selector & 0xFFF8), 8)


def _load(cache: state.SegmentCache, selector: int, descriptor: int) -> None:
    high = descriptor >> 32
    limit = descriptor & 0xFFFF | high & 0xF0000
    cache.selector = selector
    cache.base = descriptor >> 16 & 0xFFFFFF | high & 0xFF000000
    cache.limit = limit << 12 | 0xFFF if high & 1 << 23 else limit
    cache.flags = (high | 0x100) & 0x00FF_FF00  # accessed


def _protected(env: Env, space: Linear, event: Event, *, selector_first: bool) -> None:
    long = bool(env.efer & 1 << 10)
    external = 0 if event.from_software else 1
    gate = _gate(env, space, event, long=long, external=external)
    code = _descriptor(env, space, gate.selector, GP, external)
    high, wrong = code >> 32, gate.selector & 0xFFFC | external
    dpl, cpl, vm = high >> 13 & 3, state.cpl(env), bool(env.eflags & state.VM)
    if not high & 1 << 12 or not high & 1 << 11 or dpl > cpl or (long and (not high & state.LONG or high & state.BIG)):
        raise GuestFault(GP, wrong)
    if not high & state.PRESENT:
        raise GuestFault(NP, wrong)
    conforming = bool(high & 1 << 10)
    inner = not conforming and dpl < cpl
    if vm and (dpl or conforming):
        raise GuestFault(GP, wrong)
    new_cpl = cpl if conforming else dpl
    flags = _pushed_flags(env, event)
    old_ss, old_rsp = env.segs[SS].selector & 0xFFFF, env.regs[RSP]
    frame = [flags, env.segs[CS].selector & 0xFFFF, _return_address(env, event)]
    if event.error_code is not None:
        frame.append(event.error_code)
    if long:
        rsp = old_rsp
        if gate.ist:
            rsp = _from_tss64(env, space, 36 + 8 * (gate.ist - 1), external)
        elif inner:
            rsp = _from_tss64(env, space, 4 + 8 * new_cpl, external)
        rsp &= ~0xF
        if rsp >> 47 not in (0, 0x1FFFF):
            raise GuestFault(SS_FAULT, external)
        _push(space, rsp, [old_ss, old_rsp, *frame], 8)
        env.regs[RSP] = rsp - 8 * (2 + len(frame)) & 0xFFFF_FFFF_FFFF_FFFF
        if inner:  # SDM 6.14.4: SS becomes null with the new RPL
            env.segs[SS].selector, env.segs[SS].base, env.segs[SS].limit = new_cpl, 0, 0xFFFF_FFFF
            env.segs[SS].flags = 0x00C0_9300 | new_cpl << 13
    else:
        width = 4 if gate.type & 8 else 2
        cache = state.SegmentCache()
        if inner:
            selector, descriptor, pointer = _from_tss32(env, space, new_cpl, external, selector_first=selector_first)
            _load(cache, selector, descriptor)
            frame = [old_ss, old_rsp, *frame]
            if vm:
                frame = [*(env.segs[n].selector & 0xFFFF for n in (GS, FS, DS, ES)), *frame]
        else:
            pointer = old_rsp
            _copy(cache, env.segs[SS])
        mask = 0xFFFF_FFFF if cache.flags & state.BIG else 0xFFFF
        for value in frame:
            pointer = pointer & ~mask | (pointer - width) & mask
            space.write(cache.base + (pointer & mask) & 0xFFFF_FFFF, _bytes(value, width))
        _copy(env.segs[SS], cache)
        env.regs[RSP] = pointer
        if vm:
            for number in (GS, FS, DS, ES):
                env.segs[number].selector = env.segs[number].base = env.segs[number].flags = 0
    _load(env.segs[CS], gate.selector & ~3 | new_cpl, code)
    env.eip = gate.offset
    cleared = state.TF | state.VM | state.RF | state.NT | (0 if gate.type & 1 else state.IF)
    state.set_rflags(env, state.get_rflags(env) & ~cleared)


def _copy(to: state.SegmentCache, source: state.SegmentCache) -> None:
    to.selector, to.base, to.limit, to.flags = source.selector, source.base, source.limit, source.flags


def _push(space: Linear, top: int, values: list[int], width: int) -> None:
    for number, value in enumerate(values, 1):
        at = top - width * number & 0xFFFF_FFFF_FFFF_FFFF
        space.write(at, _bytes(value, width))


def _bytes(value: int, width: int) -> bytes:
    return (value & (1 << 8 * width) - 1).to_bytes(width, "little")


def _from_tss64(env: Env, space: Linear, offset: int, external: int) -> int:
    task = env.segs[TR]
    if offset + 7 > task.limit:
        raise GuestFault(TS, task.selector & 0xFFFC | external)
    return space.number(task.base + offset, 8)


def _from_tss32(env: Env, space: Linear, cpl: int, external: int, *, selector_first: bool) -> tuple[int, int, int]:
    task = env.segs[TR]
    wide = bool(task.flags >> 8 & 8)
    offset, width = (4 + 8 * cpl, 4) if wide else (2 + 4 * cpl, 2)
    if offset + 2 * width - 1 > task.limit:
        raise GuestFault(TS, task.selector & 0xFFFC | external)
    if selector_first:
        space.number(task.base + offset + width, 2)
    pointer = space.number(task.base + offset, width)
    selector = space.number(task.base + offset + width, 2)
    descriptor = _descriptor(env, space, selector, TS, external)
    high = descriptor >> 32
    writable_data = high & 1 << 12 and not high & 1 << 11 and high & 1 << 9
    if selector & 3 != cpl or high >> 13 & 3 != cpl or not writable_data:
        raise GuestFault(TS, selector & 0xFFFC | external)
    if not high & state.PRESENT:
        raise GuestFault(SS_FAULT, selector & 0xFFFC | external)
    return selector, descriptor, pointer
