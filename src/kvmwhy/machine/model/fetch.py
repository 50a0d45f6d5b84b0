"""The emulator's view of the code at RIP: its fetch window.

arch/x86/kvm/emulate.c, __do_insn_fetch_bytes: the first fetch takes min(15, to the end of the page, to
the segment limit); a second one is made only when the decoder needs more, and an instruction
straddles two pages at most.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.arch.x86.instruction import Instruction, decode_first
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.emulator.verdict import Verdict, verdict
from kvmwhy.machine.memory import Memory
from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.cpu import Cpu
from kvmwhy.machine.model.paging import PAGE, Linear
from kvmwhy.machine.model.traps import GP, GuestFault, Hole

WINDOW: Final = 15


class Fetched(NamedTuple):
    """What was fetched and what the emulator makes of it. ``torn``: the rest of it is not in memory."""

    window: bytes
    verdict: Verdict | None
    instruction: Instruction | None
    torn: bool


def fetch(cpu: Cpu, memory: Memory, mode: Mode, release: str) -> Fetched:
    """Raises GuestFault: #PF or #GP on the fetch go to the guest and are no emulation failure."""
    space = Linear(memory, state.regime(cpu.env), software=True)
    linear = cpu.linear_rip
    limit = WINDOW if mode.bitness == 64 else cpu.env.segs[state.CS].limit - (cpu.env.eip & 0xFFFF_FFFF) + 1
    if limit < 1:
        raise GuestFault(GP, 0)
    size = min(WINDOW, limit, PAGE - linear % PAGE)
    try:
        window = space.read(linear, size, "fetch")
    except Hole:
        return Fetched(b"", None, None, torn=True)
    answer, instruction, more = _decode(window, cpu, mode, release)
    if more and len(window) < WINDOW:
        rest = min(WINDOW, limit) - size
        if rest < 1:
            raise GuestFault(GP, 0)
        try:
            window += space.read(linear + size, rest, "fetch")
        except Hole:
            return Fetched(window, answer, instruction, torn=True)
        answer, instruction, more = _decode(window, cpu, mode, release)
    if more:
        raise GuestFault(GP, 0)  # longer than 15 bytes
    return Fetched(window, answer, instruction, torn=False)


def _decode(window: bytes, cpu: Cpu, mode: Mode, release: str) -> tuple[Verdict, Instruction | None, bool]:
    """The third: the decoder needs more bytes to come to this answer."""
    answer = verdict(window, mode=mode, kernel=release)
    if answer.outcome == "fetch":
        return answer, None, True
    instruction = decode_first(window, bitness=mode.bitness, address=cpu.env.eip)
    torn = instruction is not None and not instruction.complete and not instruction.invalid
    return answer, instruction, torn and answer.outcome in {"handler", "gives-up"}
