"""Core files and memory images of a VMM: each vCPU's ``kvm_run`` page, found while the bytes stream by.

A core maps file offsets to addresses, and pages are looked for at page addresses; any other image is
taken as pages from its first byte on. The mapping is shared and of a file, so neither the kernel nor gdb's
``gcore`` writes it into a core unless bit 3 of /proc/PID/coredump_filter is set, which it is not by default.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.abi.kvm_run import PAGE_SIZE, RUN_SIZE
from kvmwhy.readers import Evidence, run_page
from kvmwhy.readers.kvm_run_scan import is_failed_run
from kvmwhy.record import Arch, Failure

FORMAT: Final = "memory image"
HEAD: Final = 64 << 10  # of a file: what tells a core from the rest
_NOTHING: Final = (
    "this core has no kvm_run page with a failure in it; those pages are left out of a core unless bit 3 of"
    " /proc/PID/coredump_filter is set: echo 0x3b into it, then call gcore PID"
)

_OTHER_ARCH: Final = "this is a core of {arch}: only a kvm_run page of x86 is recognised by its shape"
_ELF: Final = b"\x7fELF\x02"  # 64 bits
_BYTE_ORDERS: Final = {b"\x01": "<", b"\x02": ">"}
_ET_CORE: Final = 4
# e_machine (elf.h). Elsewhere the union of kvm_run holds other things, and on s390x it begins elsewhere.
_MACHINES: Final[dict[int, Arch]] = {
    3: "x86", 62: "x86", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm64", 183: "arm64", 243: "riscv64",
    258: "loongarch",
}  # fmt: skip
_PT_LOAD: Final = 1
_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_MOST_SEGMENTS: Final = 0xFFFF
_MOST_FOUND: Final = 4096  # KVM_MAX_VCPUS


class _Load(NamedTuple):
    """Part of the file that is memory: its first whole page, and its end."""

    start: int
    end: int


def detect(data: bytes) -> bool:
    """A 64-bit core of a machine that KVM runs on."""
    return _arch(data) is not None


def _arch(data: bytes) -> Arch | None:
    """Whose core it is; None if it is none."""
    order = _BYTE_ORDERS.get(bytes(data[5:6]))
    if data[:5] != _ELF or order is None or len(data) < _HEADER.size:
        return None
    _, kind, machine = struct.unpack_from(f"{order}16sHH", data)
    return _MACHINES.get(machine) if kind == _ET_CORE else None


class Scanner:
    """Fed with the bytes of an image in order, it yields the failures. Holds less than a page."""

    def __init__(self, head: bytes, path: str | None = None) -> None:
        self.path = path
        self.arch = _arch(head)
        if self.arch is None:
            self.loads = [_Load(0, 1 << 63)]
        else:
            self.loads = list(_loads(head)) if self.arch == "x86" else []
        self.position = 0  # in the file, of what is held
        self.held = b""
        self.found = 0

    def feed(self, chunk: bytes) -> Iterator[Failure]:
        data = self.held + chunk if self.held else chunk
        base, end = self.position, self.position + len(data)
        keep = end
        for load in self.loads:
            if load.end <= base:
                continue
            if load.start >= end:
                break
            at = load.start + max(0, -(-(base - load.start) // PAGE_SIZE)) * PAGE_SIZE
            while at + PAGE_SIZE <= min(end, load.end):
                if self.found < _MOST_FOUND and is_failed_run(data, at - base):
                    self.found += 1
                    yield self._failure(data[at - base : at - base + RUN_SIZE])
                at += PAGE_SIZE
            if at < end < load.end:
                keep = at
        while self.loads and self.loads[0].end <= keep:
            self.loads.pop(0)
        self.held, self.position = data[keep - base :], keep

    def _failure(self, page: bytes) -> Failure:
        (failure,) = run_page.read(page, path=self.path).failures
        arch_from = "the core's ELF header" if self.arch else None
        source = replace(failure.source, path=self.path)
        of_arch: Failure = replace(failure, arch=self.arch, arch_from=arch_from, source=source)
        return of_arch


def _loads(head: bytes) -> Iterator[_Load]:
    """PT_LOAD segments in the order of their offsets; none beyond what ``head`` holds of the table."""
    *_, table, _sections, _flags, _size, entry, count, _a, _b, _c = _HEADER.unpack_from(head)
    if entry != _SEGMENT.size:
        return
    segments = []
    for n in range(min(count, _MOST_SEGMENTS)):
        at = table + n * entry
        if at + entry > len(head):
            break
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack_from(head, at)
        if kind == _PT_LOAD and size >= PAGE_SIZE and offset < 1 << 62:
            first = offset + -address % PAGE_SIZE
            segments.append(_Load(first, offset + size))
    # Segments that overlap in a file made to confuse are read once.
    end = 0
    for load in sorted(segments):
        if load.start >= end:
            yield load
            end = load.end


def read(data: bytes, *, path: str | None = None) -> Evidence:
    """A whole image in memory."""
    failures = tuple(Scanner(data[:HEAD], path).feed(data))
    arch = _arch(data)
    if failures or arch is None:
        return Evidence(failures, (), FORMAT)
    return Evidence((), (_NOTHING if arch == "x86" else _OTHER_ARCH.format(arch=arch),), FORMAT)
