"""Instructions that KVM's emulator takes apart into several pushes or pops.

Where the stack has no memory the seams show. An instruction that has to wait for userspace starts over
after each value: it takes those it already has from its cache, and keeps the stack pointer that it had
come to, so it skips more and more (emulate_pop and the registers' cache in arch/x86/kvm/emulate.c).
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence

from kvmwhy.arch.x86.instruction import Instruction
from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.context import Context, Work
from kvmwhy.machine.model.traps import BP, OF, GuestFault, Hole
from kvmwhy.machine.model.unicorn_state import CS, IDT, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, SS

# CF, PF, AF, ZF, SF, TF, IF, DF, OF, IOPL, NT: what IRET of real mode takes from the stack
_IRET_FLAGS = 0x7FD5
_INT3 = 0xCC


def _slot(context: Context, at: int) -> int:
    """The linear address of SS:SP moved by ``at``."""
    env = context.cpu.env
    if context.mode.bitness == 64:
        return env.regs[RSP] + at & 0xFFFF_FFFF_FFFF_FFFF
    mask = _mask(context)
    return env.segs[SS].base + (env.regs[RSP] + at & mask) & 0xFFFF_FFFF


def _mask(context: Context) -> int:
    if context.mode.bitness == 64:
        return 0xFFFF_FFFF_FFFF_FFFF
    return 0xFFFF_FFFF if context.cpu.env.segs[SS].flags & state.BIG else 0xFFFF


def _move(context: Context, by: int) -> None:
    env, mask = context.cpu.env, _mask(context)
    env.regs[RSP] = env.regs[RSP] & ~mask & 0xFFFF_FFFF_FFFF_FFFF | env.regs[RSP] + by & mask


def pops(context: Context, width: int, wanted: Sequence[bool]) -> Generator[bool, None, tuple[list[bytes], int]]:
    """The values, and how far the stack pointer has come. ``wanted``: False for one that is passed over.

    Raises GuestFault.
    """
    start, values = 0, list[bytes]()
    while True:
        at, taken = start, 0
        for want in wanted:
            if want and taken == len(values):
                try:
                    values.append(context.space(software=True).read(_slot(context, at), width))
                except Hole as hole:
                    context.page.mmio(hole.gpa, size=width, data=None)
                    yield True
                    values.append(context.page.mmio_data(width))
                    start = at
                    break
            taken += want
            at += width
        else:
            return values, at


def pop_all(context: Context, instruction: Instruction, width: int) -> Work:
    """POPA (em_popa)."""
    env = context.cpu.env
    values, moved = yield from pops(context, width, [True, True, True, False, True, True, True, True])
    for register, value in zip((RDI, RSI, RBP, RBX, RDX, RCX, RAX), values, strict=True):
        kept = 0 if width == 4 else env.regs[register] & ~0xFFFF
        env.regs[register] = kept | int.from_bytes(value, "little")
    _move(context, moved)
    env.eip += instruction.length


def return_far_real(context: Context, instruction: Instruction, width: int) -> Work:
    """RETF and IRET in real mode (em_ret_far, emulate_iret_real)."""
    env = context.cpu.env
    with_flags = (instruction.mnemonic or "").startswith("iret")
    values, moved = yield from pops(context, width, [True] * (3 if with_flags else 2))
    numbers = [int.from_bytes(value, "little") for value in values]
    if with_flags:
        flags = state.get_rflags(env) & ~_IRET_FLAGS | numbers[2] & _IRET_FLAGS
        state.set_rflags(env, flags)
    elif instruction.bytes[-3:-2] == b"\xca":
        moved += int.from_bytes(instruction.bytes[-2:], "little")
    env.segs[CS].selector = numbers[1] & 0xFFFF
    env.segs[CS].base = env.segs[CS].selector << 4
    env.eip = numbers[0] & 0xFFFF
    _move(context, moved)


def interrupt_real(context: Context, instruction: Instruction) -> Work:
    """INT n, INT3 and INTO in real mode (__emulate_int_real): three pushes, then the vector.

    KVM keeps the last of the pushes for userspace. It reads the vector on a path that asks userspace
    for nothing, so that a table without memory makes it try again for ever.
    """
    env = context.cpu.env
    opcode, last = instruction.bytes[-2:-1], instruction.bytes[-1]
    number = last if opcode == b"\xcd" else BP if last == _INT3 else OF
    flags = state.get_rflags(env)
    after = env.eip + instruction.length
    if number == OF and not flags & 1 << 11:
        env.eip = after
        return
    pushed: tuple[int, bytes] | None = None
    for n, value in enumerate((flags, env.segs[CS].selector, after), 1):
        data = struct.pack("<H", value & 0xFFFF)
        try:
            context.space().write(_slot(context, -2 * n), data)
        except Hole as hole:
            pushed = hole.gpa, data
        except GuestFault as fault:
            context.raise_fault(fault)
            return
    try:
        offset, selector = struct.unpack("<HH", context.space().read(env.segs[IDT].base + 4 * number, 4))
    except Hole:
        yield False
        return
    except GuestFault as fault:
        context.raise_fault(fault)
        return
    _move(context, -6)
    state.set_rflags(env, flags & ~(state.IF | state.TF | state.AC))
    env.segs[CS].selector, env.segs[CS].base, env.eip = selector, selector << 4, offset
    if pushed is not None:
        context.page.mmio(pushed[0], size=2, data=pushed[1])
        yield True


def outer_return_fails(context: Context, selector: int) -> bool:
    """Whether the emulator gives up on a far RET of protected mode: it does on one to an outer level.

    Since 5.18 it looks the new CS up before, so that a bad selector is #GP.
    """
    if selector & 3 <= state.cpl(context.cpu.env):
        return False
    if not context.settings.kernel.checks_selector_first:
        return True
    table = context.cpu.env.segs[state.LDT if selector & 4 else state.GDT]
    return (selector & 0xFFFF | 7) <= table.limit
