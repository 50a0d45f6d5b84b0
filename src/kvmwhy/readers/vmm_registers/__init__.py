"""Registers as VMMs other than QEMU print them: tables of text, and structs of Rust and Go.

``text_dump`` reads kvmtool, uhyve, km, ukvm, opendcdiag, gem5, kvm-unit-tests and gdb's ``info registers``;
``struct_dump`` reads ``Debug`` of kvm_regs and its likes, on one line or many, and Go's PtraceRegs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvmwhy.readers.vmm_registers.dump import Registers
from kvmwhy.readers.vmm_registers.other_arch import other_dumps
from kvmwhy.readers.vmm_registers.struct_dump import struct_dumps
from kvmwhy.readers.vmm_registers.text_dump import text_dumps

__all__ = ["Registers", "find_registers"]


_BEFORE: Final = 12 << 10
_BEHIND: Final = 24 << 10


def find_registers(text: str, near: Iterable[tuple[int, int]]) -> list[Registers]:
    """Every dump that stands near one of the given spans, in order."""
    out: list[Registers] = []
    for start, stop in _regions(text, near):
        region = text[start:stop]
        structs = struct_dumps(region)
        taken = [(dump.start, dump.stop) for dump in structs]
        tables = [d for d in text_dumps(region) if not any(a < d.stop and d.start < b for a, b in taken)]
        dumps = sorted((*structs, *tables, *other_dumps(region)), key=lambda dump: dump.start)
        out += (dump._replace(start=dump.start + start, stop=dump.stop + start) for dump in dumps)
    return out


def _regions(text: str, near: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Whole lines around the spans, those that touch put together."""
    out: list[tuple[int, int]] = []
    for begin, end in near:
        start = text.rfind("\n", 0, max(0, begin - _BEFORE)) + 1
        stop = min(len(text), end + _BEHIND)
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out
