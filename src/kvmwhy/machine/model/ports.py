"""Port I/O: IN and OUT without the emulator (kvm_fast_pio), INS and OUTS with it."""

from __future__ import annotations

from collections.abc import Generator

from kvmwhy.arch.x86.instruction import Instruction
from kvmwhy.machine.model.context import Context, Work
from kvmwhy.machine.model.cpu import Stop
from kvmwhy.machine.model.fetch import fetch
from kvmwhy.machine.model.mmio import Piece, fragments, operands
from kvmwhy.machine.model.paging import PAGE, pieces
from kvmwhy.machine.model.traps import GP, GuestFault, Hole
from kvmwhy.machine.model.unicorn_state import DF, RAX, RCX, RDI, RDX, RSI, TR, VM, cpl, get_rflags

_READ_AHEAD = 1024  # bytes of a repeated INS that KVM asks for at once
_QUIRK_PORT = 0x7E  # KVM_X86_QUIRK_OUT_7E_INC_RIP
_PORT_IO = frozenset(("in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd"))
_NUMBERED = range(0xE4, 0xE8)  # opcodes of IN and OUT with the port in the instruction


def is_port_io(instruction: Instruction) -> bool:
    mnemonic = instruction.mnemonic or ""
    return mnemonic in _PORT_IO


def port(context: Context, stop: Stop) -> Work:
    """The CPU has already executed it, and perhaps more of the block: ``before`` is where to go on from.

    Flags are not in ``before``, as QEMU works them out late. Those of the block's end are taken: they
    are wrong only if what follows IN or OUT depends on flags and changes them, without touching memory.
    """
    env, before = context.cpu.env, context.cpu.before
    env.eip, env.regs[:] = before.eip, list(before.regs)
    if not _permitted(context, stop.port, stop.size):
        context.raise_fault(GuestFault(GP, 0))
        return
    try:
        instruction = fetch(context.cpu, context.memory, context.mode, context.settings.kernel.release).instruction
    except GuestFault as fault:
        context.raise_fault(fault)
        return
    if instruction is None:
        return
    if instruction.memory:
        yield from _string(context, instruction, stop.port, stop.size)
        return
    data = stop.value.to_bytes(stop.size, "little") if stop.is_write else None
    early = stop.port == _QUIRK_PORT and stop.is_write
    env.eip += instruction.length if early else 0
    context.page.io(stop.port, size=stop.size, count=1, data=data)
    yield True
    env.eip += 0 if early else instruction.length
    if not stop.is_write:
        _set_accumulator(context, stop.size)


def emulated(context: Context, instruction: Instruction) -> Work:
    """The same where KVM emulates it for another reason than the port."""
    env = context.cpu.env
    opcode = _opcode(instruction.bytes)
    size = 1 if not opcode & 1 else 2 if (0x66 in instruction.bytes[:-1]) != (context.mode.bitness == 16) else 4
    number = instruction.bytes[-1] if opcode in _NUMBERED else env.regs[RDX] & 0xFFFF
    if not _permitted(context, number, size):
        context.raise_fault(GuestFault(GP, 0))
        return
    if instruction.memory:
        yield from _string(context, instruction, number, size)
        return
    is_write = instruction.mnemonic == "out"
    data = (env.regs[RAX] & (1 << 8 * size) - 1).to_bytes(size, "little") if is_write else None
    if is_write:
        env.eip += instruction.length
    context.page.io(number, size=size, count=1, data=data)
    yield True
    if not is_write:
        env.eip += instruction.length
        _set_accumulator(context, size)


def _opcode(code: bytes) -> int:
    """IN and OUT have one byte of it; no ModRM byte follows."""
    numbered = len(code) > 1 and code[-2] in _NUMBERED
    return code[-2] if numbered else code[-1]


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


def _string(context: Context, instruction: Instruction, number: int, size: int) -> Work:
    env = context.cpu.env
    address_size = instruction.memory[0].address_size
    mask = (1 << address_size) - 1
    repeats = any(byte in (0xF2, 0xF3) for byte in instruction.bytes[:-1])
    if repeats and not env.regs[RCX] & mask:
        env.eip += instruction.length
        return
    piece = operands(instruction, env, context.mode)[0]
    if piece.writes:
        count = yield from _in(context, piece, number, size, mask if repeats else 0)
        index = RDI
    else:
        data = yield from _load(context, piece.linear, size)
        if data is None:
            return
        count, index = 1, RSI
    moved = size * count * (-1 if get_rflags(env) & DF else 1)
    env.regs[index] = _advance(env.regs[index], moved, mask)
    if repeats:
        env.regs[RCX] = _advance(env.regs[RCX], -count, mask)
    else:
        env.eip += instruction.length
    if not piece.writes:  # an OUT is over for the guest before userspace sees it
        context.page.io(number, size=size, count=1, data=data)
        yield True


def _in(context: Context, piece: Piece, number: int, size: int, counted: int) -> Generator[bool, None, int]:
    """INS. Repeated, it goes up to the end of the page that it fills (em_in's read-ahead)."""
    env = context.cpu.env
    down, count = bool(get_rflags(env) & DF), 1
    if counted:
        offset = env.regs[RDI] & counted
        room = offset % PAGE if down else PAGE - offset % PAGE
        count = max(1, min(room, _READ_AHEAD, size * (env.regs[RCX] & counted)) // size)
    context.page.io(number, size=size, count=count, data=None)
    yield True
    data = context.page.io_data(size * count)
    for n in range(count):
        yield from _store(context, piece.linear + (-1 if down else 1) * n * size, data[n * size : (n + 1) * size])
    return count


def _advance(register: int, by: int, mask: int) -> int:
    if mask == 0xFFFF_FFFF:
        return register + by & mask  # a 32-bit result clears the upper half
    return register & ~mask & 0xFFFF_FFFF_FFFF_FFFF | register + by & mask


def _load(context: Context, linear: int, size: int) -> Generator[bool, None, bytes | None]:
    """None: the guest gets a fault."""
    out = b""
    for at, part in pieces(linear, size):
        try:
            out += context.space().read(at, part)
        except Hole as hole:
            context.page.mmio(hole.gpa, size=part, data=None)
            yield True
            out += context.page.mmio_data(part)
        except GuestFault as fault:
            context.raise_fault(fault)
            return None
    return out


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
