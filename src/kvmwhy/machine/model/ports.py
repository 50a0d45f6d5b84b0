"""Port I/O: IN and OUT without the emulator (kvm_fast_pio), INS and OUTS with it."""

from __future__ import annotations

from kvmwhy.machine.model.context import Context, Work
from kvmwhy.machine.model.cpu import Stop
from kvmwhy.machine.model.env import CS, DF, ES, LONG, RAX, RCX, RDI, TR, VM, cpl, get_rflags
from kvmwhy.machine.model.fetch import fetch
from kvmwhy.machine.model.mmio import fragments
from kvmwhy.machine.model.paging import PAGE, pieces
from kvmwhy.machine.model.traps import GP, GuestFault, Hole
from kvmwhy.x86.instruction import Instruction

_READ_AHEAD = 1024  # bytes of a repeated INS that KVM asks for at once
_QUIRK_PORT = 0x7E  # KVM_X86_QUIRK_OUT_7E_INC_RIP


def port(context: Context, stop: Stop) -> Work:
    """The CPU has already executed it; ``before`` is the state to report where KVM would not have."""
    env, before = context.cpu.env, context.cpu.before
    after_rip, after_regs = env.eip, list(env.regs)
    env.eip, env.regs[:] = before.eip, list(before.regs)
    if not _permitted(context, stop.port, stop.size):
        context.raise_fault(GuestFault(GP, 0))
        return
    try:
        instruction = fetch(context.cpu, context.memory, context.mode, context.settings.kernel.release).instruction
    except GuestFault:
        instruction = None
    mnemonic = "" if instruction is None else instruction.mnemonic or ""
    data = stop.value.to_bytes(stop.size, "little") if stop.is_write else None
    if mnemonic.startswith("outs"):
        env.eip, env.regs[:] = after_rip, after_regs
        context.page.io(stop.port, size=stop.size, count=1, data=data)
        yield True
    elif mnemonic.startswith("ins") and instruction is not None:
        yield from _ins(context, stop, instruction)
    else:
        if stop.port == _QUIRK_PORT and stop.is_write:
            env.eip = after_rip
        context.page.io(stop.port, size=stop.size, count=1, data=data)
        yield True
        env.eip = after_rip
        if not stop.is_write:
            _set_accumulator(context, stop.size)


def _permitted(context: Context, number: int, size: int) -> bool:
    """IOPL and the permission map of the TSS (SDM vol. 1, 19.5), which Unicorn does not look at."""
    env = context.cpu.env
    if context.real or (not env.eflags & VM and cpl(env) <= env.eflags >> 12 & 3):
        return True
    task = env.segs[TR]
    space = context.space(system=True)
    try:
        at = space.number(task.base + 0x66, 2) + number // 8
        if task.limit < 0x67 or at + 1 > task.limit:
            return False
        return not space.number(task.base + at, 2) >> number % 8 & (1 << size) - 1
    except (GuestFault, Hole):
        return False


def _set_accumulator(context: Context, size: int) -> None:
    value = int.from_bytes(context.page.io_data(size), "little")
    kept = 0 if size == 4 else context.cpu.env.regs[RAX] & ~((1 << 8 * size) - 1)
    context.cpu.env.regs[RAX] = kept | value


def _ins(context: Context, stop: Stop, instruction: Instruction) -> Work:
    """Repeated, up to the end of the page that it fills (em_in's read-ahead)."""
    env, size = context.cpu.env, stop.size
    address_size = next((operand.address_size for operand in instruction.memory), 64)
    mask = (1 << address_size) - 1
    repeats = any(byte in (0xF2, 0xF3) for byte in instruction.bytes[:-1])
    down = bool(get_rflags(env) & DF)
    offset = env.regs[RDI] & mask
    linear = offset if env.segs[CS].flags & LONG and env.efer & 1 << 10 else env.segs[ES].base + offset & 0xFFFF_FFFF
    count = 1
    if repeats:
        room = offset % PAGE if down else PAGE - offset % PAGE
        count = max(1, min(room, _READ_AHEAD, size * (env.regs[RCX] & mask)) // size)
    context.page.io(stop.port, size=size, count=count, data=None)
    yield True
    data = context.page.io_data(size * count)
    for number in range(count):
        at = linear + (-1 if down else 1) * number * size
        yield from _store(context, at, data[number * size : (number + 1) * size])
    moved = size * count * (-1 if down else 1)
    env.regs[RDI] = _advance(env.regs[RDI], moved, mask)
    if repeats:
        env.regs[RCX] = _advance(env.regs[RCX], -count, mask)
    else:
        env.eip += instruction.length


def _advance(register: int, by: int, mask: int) -> int:
    if mask == 0xFFFF_FFFF:
        return register + by & mask  # a 32-bit result clears the upper half
    return register & ~mask & 0xFFFF_FFFF_FFFF_FFFF | register + by & mask


def _store(context: Context, linear: int, data: bytes) -> Work:
    done = 0
    for at, part in pieces(linear, len(data)):
        chunk = data[done : done + part]
        try:
            context.space().write(at, chunk)
            context.cpu.forget_code()
        except Hole as hole:
            for where, size in fragments(hole.gpa, part):
                context.page.mmio(where, size=size, data=chunk[where - hole.gpa : where - hole.gpa + size])
                yield True
        except GuestFault as fault:
            context.raise_fault(fault)
            return
        done += part
