"""The circle: a guest fails on a machine, the failure becomes a log, the log becomes the guest again.

What a log says is printed from what the machine shows; nothing here comes from the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from dumps import banner_of, print_dump
from kvmwhy.machine import Events, InternalError, Io, Machine, MachineError, Mmio, Regs, Sregs, Vcpu, replace
from kvmwhy.machine.x86.state import Segment as Hidden
from kvmwhy.readers import read as read_log
from kvmwhy.record import Code, Cpu, Failure, Segment
from reproduce.walker import walk


class Guest(NamedTuple):
    """A guest to fail, whole: (gpa, size, read-only) slots and (gpa, bytes) contents."""

    name: str
    slots: tuple[tuple[int, int, bool], ...]
    contents: tuple[tuple[int, bytes], ...]
    regs: Regs
    sregs: Sregs
    events: Events | None = None
    xcr0: int = 0
    cap204: bool = False


class Failed(NamedTuple):
    suberror: int
    words: tuple[int, ...]
    log: str


def start(guest: Guest, machine: Machine) -> Vcpu:
    for gpa, size, readonly in guest.slots:
        machine.add_memory(gpa, size, readonly=readonly)
    for gpa, data in guest.contents:
        machine.write(gpa, data)
    if guest.cap204:
        machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
    vcpu = machine.create_vcpu()
    vcpu.set_cpuid(machine.supported_cpuid())
    vcpu.set_sregs(replace(guest.sregs, apic_base=vcpu.get_sregs().apic_base))
    if guest.xcr0:
        vcpu.set_xcrs({0: guest.xcr0})
    vcpu.set_regs(guest.regs)
    if guest.events is not None:
        vcpu.set_events(guest.events)
    return vcpu


def fail(guest: Guest, make: Callable[[], Machine], *, seconds: float = 0.05) -> Failed | None:
    """Run it; None if it did not end in an internal error."""
    with make() as machine:
        try:
            vcpu = start(guest, machine)
            for _ in range(16):
                match vcpu.run(timeout=seconds):
                    case Mmio(is_write=False, len=size):
                        vcpu.complete(bytes(size))
                    case Mmio() | Io(is_write=True):
                        pass
                    case Io(size=size, count=count):
                        vcpu.complete(bytes(size * count))
                    case InternalError(suberror=suberror, words=words):
                        return Failed(suberror, words, log_of(machine, vcpu, suberror, words))
                    case _:
                        return None
        except MachineError:
            return None
    return None


def log_of(machine: Machine, vcpu: Vcpu, suberror: int, words: tuple[int, ...]) -> str:
    """What QEMU would print of this vCPU."""
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    wide = bool(sregs.efer & 0x400 and sregs.cs.l)
    values: dict[str, int] = msgspec.structs.asdict(regs)
    values |= {name: getattr(sregs, name) for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
    values |= dict.fromkeys(("dr0", "dr1", "dr2", "dr3"), 0) | {"dr6": 0xFFFF0FF0, "dr7": 0x400}
    segments = {n: _segment(getattr(sregs, n)) for n in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")}
    segments |= {n: Segment(0, getattr(sregs, n).base, getattr(sregs, n).limit, 0) for n in ("gdt", "idt")}
    cpu = Cpu(
        wide=wide,
        registers=values,
        segments=segments,
        cpl=sregs.ss.dpl if sregs.cr0 & 1 else 0,
        smm=False,
        halted=False,
    )
    rip = regs.rip if wide else sregs.cs.base + regs.rip & 0xFFFF_FFFF
    before = min(20, rip)
    window = tuple(_byte(machine, values, rip - before + n) for n in range(50))
    kinds = {} if not sregs.cr0 & 1 else dict.fromkeys(("es", "ss", "ds", "fs", "gs"), "DS   [-WA]")
    if kinds:
        kinds |= {"cs": ("CS64" if wide else "CS32") + " [-RA]", "ldt": "LDT", "tr": "TSS64-busy"}
    dump = print_dump(cpu, Code(window, before), lma=bool(sregs.efer & 0x400), kinds=kinds)
    return banner_of(suberror, words, padded=True) + dump


def _byte(machine: Machine, registers: dict[str, int], linear: int) -> int | None:
    def read(gpa: int, size: int) -> bytes | None:
        try:
            return machine.read(gpa, size)
        except MachineError:
            return None

    found = walk(read, registers, linear & (1 << 64) - 1)
    byte = None if found is None else read(found[0], 1)
    return None if byte is None else byte[0]


def _segment(hidden: Hidden) -> Segment:
    word = hidden.type << 8 | hidden.s << 12 | hidden.dpl << 13 | hidden.present << 15
    word |= hidden.avl << 20 | hidden.l << 21 | hidden.db << 22 | hidden.g << 23
    return Segment(hidden.selector, hidden.base, hidden.limit, word)


def failure_of(failed: Failed) -> Failure:
    (failure,) = read_log(failed.log.encode()).failures
    return failure
