"""What the report lacks is chosen so that it leads to where nothing is.

RIP of a fetch that failed, the stack of an event, the registers of the operand's address: as far as they
were not shown, any value that ends in the right place does the same to KVM.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kvmwhy.arch.x86.instruction import Instruction, MemoryOperand, decode_first
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Cpu, Segment
from kvmwhy.reproduce.missing_memory import about_memory

HOLE: Final = 0xD000_0000
HOLE16: Final = 0xD_0000


def steer(seen: Facts, cpu: Cpu, mode: Mode, code: bytes) -> tuple[Cpu, tuple[str, ...]]:
    """Let what the report lacks lead to where nothing is: RIP of a failed fetch, the operand's registers."""
    shown = seen.failure.cpu or Cpu()
    registers, segments = dict(cpu.registers), dict(cpu.segments)
    gpa = seen.word_access.gpa if seen.word_access else None
    low = mode.bitness == 16
    target = (HOLE16 if low else HOLE) | (gpa or 0) & 0xFFF
    if gpa is not None and not registers["cr0"] >> 31 and gpa < (1 << 20 if low else 1 << 32):
        target = gpa
    emulation = seen.failure.emulation
    if "rip" not in shown.registers:
        if emulation is not None:
            registers["rip"] = emulation.rip
            if "cs" not in shown.segments:
                segments["cs"] = _based(segments["cs"], emulation.cs_base, real=mode.name == "real16")
        elif not code and seen.fetch_failed:
            registers["rip"] = target & 0xF if low else target
            if low:
                segments["cs"] = _based(segments["cs"], target & -16, real=True)
    if seen.delivery is not None and "rsp" not in shown.registers and gpa is not None:
        registers["rsp"] = (HOLE | gpa & 0xFFF) + 8
    instruction = decode_first(code, bitness=mode.bitness, address=registers["rip"]) if code else None
    operand = _steerable(instruction, shown)
    changed = msgspec.structs.replace(cpu, registers=registers, segments=segments)
    if operand is None or not about_memory(seen):
        return changed, ()
    return _steer_operand(operand, shown, changed, target, mode)


def _steerable(instruction: Instruction | None, shown: Cpu) -> MemoryOperand | None:
    """The first operand in memory, if a register of its address was not shown."""
    for operand in instruction.memory if instruction else ():
        if operand.access == "none" or operand.rip_relative:
            continue
        names = [n for n in (operand.base, operand.index) if n]
        if any(_full(n) is not None and _full(n) not in shown.registers for n in names):
            return operand
        return None
    return None


def _steer_operand(
    operand: MemoryOperand, shown: Cpu, cpu: Cpu, target: int, mode: Mode
) -> tuple[Cpu, tuple[str, ...]]:
    """Give the address's registers that were not shown such values that it becomes ``target``."""
    registers, segments = dict(cpu.registers), dict(cpu.segments)
    base, index = _full(operand.base), _full(operand.index)
    mask = (1 << operand.address_size) - 1
    segment = operand.segment
    if segment not in shown.segments and operand.address_size == 16:
        segments[segment] = _based(segments[segment], target & -0x1_0000, real=mode.name == "real16")
    start = 0 if mode.bitness == 64 and segment not in {"fs", "gs"} else segments[segment].base
    wanted = target - start - operand.displacement & mask
    free = [n for n in (base, index) if n is not None and n not in shown.registers]
    other = sum(
        registers[n] * scale
        for n, scale in ((base, 1), (index, operand.scale))
        if n is not None and n in shown.registers
    )
    for name in free:
        registers[name] = 0
    if base in free:
        registers[base or ""] = wanted - other & mask
    elif index in free:
        registers[index or ""] = (wanted - other & mask) // operand.scale
    changed = msgspec.structs.replace(cpu, registers=registers, segments=segments)
    return changed, (f"not in the report, so chosen to let the operand lie at {target:#x}: {', '.join(free)}",)


def _full(name: str | None) -> str | None:
    """The 64-bit register that a general register is part of."""
    if name is None:
        return None
    if name[:1] == "r":
        return name.rstrip("dwl") if name[1:2].isdigit() else name
    if name[:1] == "e" and len(name) == 3:
        return "r" + name[1:]
    return "r" + name if len(name) == 2 and name[1] in "xip" else None


def _based(segment: Segment, base: int, *, real: bool) -> Segment:
    selector = base >> 4 & 0xFFFF if real else segment.selector
    return msgspec.structs.replace(segment, base=base, selector=selector)
