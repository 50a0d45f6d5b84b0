"""An instruction that Unicorn does not execute: newer than it, or one that a hypervisor takes.

The modelled CPU has every instruction set extension whose state the guest has turned on. What it does
with them is limited to what needs the kernel: a memory operand that is a hole, plain AVX moves, hints.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from kvmwhy.arch.x86.instruction import Instruction
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.machine.model import avx
from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.context import Context
from kvmwhy.machine.model.emulate_instruction import Carrier
from kvmwhy.machine.model.fetch import fetch
from kvmwhy.machine.model.mmio import Piece, operands
from kvmwhy.machine.model.paging import pieces, slot_at
from kvmwhy.machine.model.traps import DB, NM, UD, GuestFault, Hole, Kind

_OSXSAVE, _AVX, _TS = 1 << 18, 6, 1 << 3
_UNDEFINED: Final = frozenset(("ud0", "ud1", "ud2"))
_HYPERCALLS: Final = frozenset(("vmcall", "vmmcall"))
_HINTS: Final = frozenset(("clwb", "cldemote", "clflushopt", "prefetchwt1", "serialize", "wbnoinvd"))
# Without FPU state behind them, so that CR4.OSXSAVE does not matter.
_GENERAL: Final = frozenset(
    ("andn", "bextr", "blsi", "blsmsk", "blsr", "bzhi", "mulx", "pdep", "pext", "rorx", "sarx", "shlx", "shrx")
)
_NOT_PERMITTED, _NO_SUCH_CALL = (1 << 64) - 1, (1 << 64) - 1000  # -KVM_EPERM, -KVM_ENOSYS


def beyond_unicorn(context: Context) -> Generator[bool, None, GuestFault | Hole | None]:
    """Deal with it, or return what the CPU would stop for."""
    mode = context.mode
    try:
        instruction = fetch(context.cpu, context.memory, mode, context.settings.kernel.release).instruction
    except GuestFault as fault:
        return fault
    if instruction is None or instruction.invalid or instruction.mnemonic in _UNDEFINED:
        return GuestFault(UD)
    if instruction.mnemonic == "int1":  # KVM intercepts #DB and injects it, behind the instruction
        context.cpu.env.eip += instruction.length
        return GuestFault(DB)
    if instruction.mnemonic in _HYPERCALLS:
        _hypercall(context, instruction)
        return None
    missing = _not_enabled(context, instruction, mode)
    if missing is not None:
        return missing
    wanted = operands(instruction, context.cpu.env, mode)
    for piece in wanted:
        trap = _first_trap(context, piece)
        if trap is not None:
            return trap
    if avx.move_of(instruction) is not None:
        yield from Carrier(context, instruction).run()
        return None
    if instruction.mnemonic in _HINTS:
        context.cpu.env.eip += instruction.length
        return None
    return GuestFault(UD)


def _hypercall(context: Context, instruction: Instruction) -> None:
    """KVM knows no such call, or does not allow it above CPL 0 (kvm_emulate_hypercall)."""
    env = context.cpu.env
    env.regs[state.RAX] = _NOT_PERMITTED if state.cpl(env) else _NO_SUCH_CALL
    env.eip += instruction.length


def _not_enabled(context: Context, instruction: Instruction, mode: Mode) -> GuestFault | None:
    if instruction.encoding == "legacy":
        return None
    env = context.cpu.env
    if mode.name in {"real16", "vm86"}:
        return GuestFault(UD)
    if instruction.mnemonic in _GENERAL:
        return None
    if not env.cr[4] & _OSXSAVE or env.xcr0 & _AVX != _AVX:
        return GuestFault(UD)
    return GuestFault(NM) if env.cr[0] & _TS else None


def _first_trap(context: Context, piece: Piece) -> GuestFault | Hole | None:
    kind: Kind = "write" if piece.writes else "read"
    for at, _ in pieces(piece.linear, piece.size):
        try:
            page = context.space().page(at, kind)
        except (GuestFault, Hole) as trap:
            return trap
        slot = slot_at(context.memory, page.gpa)
        if slot is None or (slot and piece.writes):
            gpa = page.gpa | at & 0xFFF
            # A read-modify-write is told by its first access, as of a plain load.
            first: Kind = "read" if piece.reads and not slot else kind
            return Hole(gpa, at, first, readonly=bool(slot), rights=page.rights)
    return None
