"""The vCPU's state that a failure shows, made whole: what was not printed gets a plain value.

Pure: a ``Cpu`` of the record in, ``Regs`` and ``Sregs`` of a machine out, and a sentence for each thing
that had to be assumed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from kvmwhy.arch.x86.mode import Mode, ModeName
from kvmwhy.machine.x86.state import Dtable, Regs, Sregs
from kvmwhy.machine.x86.state import Segment as Hidden
from kvmwhy.record import Cpu, Segment

PE, MP, ET, NE, PG = 1 << 0, 1 << 1, 1 << 4, 1 << 5, 1 << 31
PAE, OSFXSR, OSXMMEXCPT, OSXSAVE = 1 << 5, 1 << 9, 1 << 10, 1 << 18
LME, LMA = 1 << 8, 1 << 10

# Where code lies, where a table lies, when the evidence does not say.
CODE: Final = 0x10100
GDT, IDT, TSS, STACK, CR3 = 0x1000, 0x2000, 0x3000, 0x7F00, 0x9000
_LONG: Final[tuple[ModeName, ...]] = ("long64", "compat32", "compat16")
_NAMES: Final = ("es", "cs", "ss", "ds", "fs", "gs")
_BUSY_TSS, _LDT = 0x8B00, 0x8200
_MASK64: Final = (1 << 64) - 1


class Whole(NamedTuple):
    """A ``Cpu`` with nothing missing. ``assumed`` are sentences."""

    cpu: Cpu
    assumed: tuple[str, ...]


def is_long(mode: ModeName) -> bool:
    """EFER.LMA is set: gates have 16 bytes, page tables four levels or five."""
    return mode in _LONG


def complete(cpu: Cpu | None, mode: Mode, cpl: int) -> Whole:
    """Fill in what was not seen: flat segments, tables at plain places, control registers of the mode."""
    seen = cpu or Cpu()
    registers = {**_registers(mode.name), **seen.registers}
    segments = {**_segments(mode.name, cpl, registers), **seen.segments}
    missing = [n for n in ("rip", "cr0", "cr3", "cr4", "efer") if n not in seen.registers]
    if mode.name in {"real16", "prot16", "prot32", "vm86"}:
        missing = [n for n in missing if n not in {"efer", "cr3"}]
    assumed = []
    absent = [n for n in (*_NAMES, "tr", "gdt", "idt") if n not in seen.segments]
    if cpu is None or not seen.registers:
        assumed.append(f"the registers are not in the report: those of plain {mode.name} code are used")
    else:
        if missing:
            assumed.append(f"not in the report, so taken as usual in {mode.name}: {', '.join(missing)}")
        if absent:
            assumed.append(f"segments and tables not in the report, so flat and plain: {', '.join(absent)}")
    general = [n for n in Regs.__struct_fields__ if n not in seen.registers and n not in {"rip", "rflags"}]
    if seen.registers and general and not (mode.bitness != 64 and all(n[1:].isdigit() for n in general)):
        assumed.append(f"not in the report, so zero or chosen to fit: {', '.join(general)}")
    return Whole(msgspec.structs.replace(seen, registers=registers, segments=segments, cpl=cpl), tuple(assumed))


def _registers(mode: ModeName) -> dict[str, int]:
    registers = dict.fromkeys(Regs.__struct_fields__, 0)
    # 7 is a mask for XSAVE, 1 a count for REP: harmless elsewhere.
    registers |= {"rax": 7, "rcx": 1, "rsp": STACK, "rip": CODE, "rflags": 2, "cr2": 0, "cr3": 0, "efer": 0}
    registers["cr0"], registers["cr4"] = ET, OSFXSR | OSXMMEXCPT | OSXSAVE
    if mode == "real16":
        registers["rip"] = CODE & 0xFFF
        return registers
    registers["cr0"] |= PE | MP | NE
    if mode == "vm86":
        registers["rflags"] |= 1 << 17
        registers["rip"] = CODE & 0xFFF
    if is_long(mode):
        registers |= {"cr0": registers["cr0"] | PG, "cr3": CR3, "cr4": registers["cr4"] | PAE, "efer": LME | LMA}
    return registers


def _segments(mode: ModeName, cpl: int, registers: dict[str, int]) -> dict[str, Segment]:
    if mode in {"real16", "vm86"}:
        dpl = 0x6000 if mode == "vm86" else 0
        base = CODE & ~0xFFF
        segments = {name: Segment(0, 0, 0xFFFF, 0x9300 | dpl) for name in _NAMES}
        segments["cs"] = Segment(base >> 4, base, 0xFFFF, (0x9300 if dpl else 0x9B00) | dpl)
    else:
        long = mode == "long64"
        size = 1 << 21 if long else 0 if mode in {"prot16", "compat16"} else 1 << 22
        flat = 1 << 23 | cpl << 13
        segments = {name: Segment(0x18 | cpl, 0, 0xFFFF_FFFF, 0x9300 | flat | 1 << 22) for name in _NAMES}
        segments["cs"] = Segment(0x10 | cpl, 0, 0xFFFF_FFFF, 0x9B00 | flat | size)
    table = 0 if mode == "real16" else TSS
    limit = 0xFFFF if mode == "real16" else 0x67
    segments |= {"ldt": Segment(0, 0, 0xFFFF, _LDT), "tr": Segment(0x20 if table else 0, table, limit, _BUSY_TSS)}
    real = not registers["cr0"] & PE
    segments["gdt"] = Segment(0, 0 if real else GDT, 0xFFFF if real else 0x7F, 0)
    segments["idt"] = Segment(0, 0 if real else IDT, 0x3FF if real else 0xFFF, 0)
    return segments


def regs_of(cpu: Cpu) -> Regs:
    """``struct kvm_regs`` of a whole Cpu."""
    return Regs(**{name: cpu.registers[name] & _MASK64 for name in Regs.__struct_fields__})


def sregs_of(cpu: Cpu) -> Sregs:
    """``struct kvm_sregs`` of a whole Cpu; its apic_base is left 0, as each vCPU has its own."""
    cs, ds, es, fs, gs, ss, tr, ldt = (
        hidden(cpu.segments[name]) for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
    )
    gdt, idt = (Dtable(cpu.segments[n].base & _MASK64, cpu.segments[n].limit & 0xFFFF) for n in ("gdt", "idt"))
    cr0, cr2, cr3, cr4, efer = (cpu.registers[n] & _MASK64 for n in ("cr0", "cr2", "cr3", "cr4", "efer"))
    return Sregs(cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0=cr0, cr2=cr2, cr3=cr3, cr4=cr4, efer=efer)


def hidden(segment: Segment) -> Hidden:
    """``struct kvm_segment``; VMMs print the present bit as the opposite of ``unusable``."""
    word = segment.attributes
    return Hidden(
        base=segment.base & _MASK64,
        limit=segment.limit & 0xFFFF_FFFF,
        selector=segment.selector & 0xFFFF,
        type=word >> 8 & 15,
        present=word >> 15 & 1,
        dpl=word >> 13 & 3,
        db=word >> 22 & 1,
        s=word >> 12 & 1,
        l=word >> 21 & 1,
        g=word >> 23 & 1,
        avl=word >> 20 & 1,
        unusable=1 - (word >> 15 & 1),
    )
