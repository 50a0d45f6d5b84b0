"""From a vCPU that has stopped to the record: its page, its registers, the code around RIP."""

from __future__ import annotations

import msgspec

from kvmwhy.machine import Machine, Vcpu
from kvmwhy.machine.errors import MachineError
from kvmwhy.machine.x86.state import Dtable, Sregs
from kvmwhy.machine.x86.state import Segment as Hidden
from kvmwhy.readers import run_page
from kvmwhy.record import Code, Cpu, Failure, Host, Segment, Source

_BEFORE, _WINDOW = 20, 50


def convey(machine: Machine, vcpu: Vcpu, *, ram_bytes: int | None, kernel: str | None) -> Failure:
    """The failure that this vCPU's page holds, with everything that the machine can add.

    ``kernel`` is the release of the one that wrote the page: this host's, or the modelled one.
    """
    (failure,) = run_page.read(vcpu.page()).failures
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    values: dict[str, int] = msgspec.structs.asdict(regs)
    values |= {name: getattr(sregs, name) for name in ("cr0", "cr2", "cr3", "cr4", "efer")}
    segments = {name: _segment(getattr(sregs, name)) for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")}
    segments |= {name: _table(getattr(sregs, name)) for name in ("gdt", "idt")}
    cpl = sregs.ss.dpl if sregs.cr0 & 1 else 0
    return msgspec.structs.replace(
        failure,
        source=Source(vmm="kvmwhy", vcpu=vcpu.id),
        cpu=Cpu(registers=values, segments=segments, cpl=cpl),
        code=_code(machine, sregs, regs.rip),
        host=Host(kernel=kernel, ram_bytes=ram_bytes),
    )


def _segment(hidden: Hidden) -> Segment:
    """The descriptor's attribute word, as VMMs print it."""
    word = hidden.type << 8 | hidden.s << 12 | hidden.dpl << 13 | hidden.present << 15
    word |= hidden.avl << 20 | hidden.l << 21 | hidden.db << 22 | hidden.g << 23
    return Segment(hidden.selector, hidden.base, hidden.limit, word)


def _table(table: Dtable) -> Segment:
    return Segment(0, table.base, table.limit, 0)


def _code(machine: Machine, sregs: Sregs, rip: int) -> Code:
    """The bytes around RIP, for a guest whose memory is mapped one to one."""
    address = rip if sregs.efer & 1 << 10 and sregs.cs.l else (sregs.cs.base + rip) & 0xFFFF_FFFF
    start = max(0, address - _BEFORE)

    def byte(at: int) -> int | None:
        try:
            return machine.read(at, 1)[0]
        except MachineError:
            return None

    return Code(tuple(byte(start + n) for n in range(_WINDOW)), address - start)
