"""Core files and memory images of a VMM: each vCPU's ``kvm_run`` page, found while the bytes stream by.

An x86-64 core maps file offsets to addresses, and pages are looked for at page addresses; any other image is
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
from kvmwhy.record import Failure

FORMAT: Final = "memory image"
HEAD: Final = 64 << 10  # of a file: what tells a core from the rest
_NOTHING: Final = (
    "this core has no kvm_run page with a failure in it; those pages are left out of a core unless bit 3 of"
    " /proc/PID/coredump_filter is set: echo 0x3b into it, then call gcore PID"
)

_ELF: Final = b"\x7fELF\x02\x01\x01"
_ET_CORE: Final = 4
_EM_X86_64: Final = 62
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
    """An x86-64 core."""
    if data[:7] != _ELF or len(data) < _HEADER.size:
        return False
    kind, machine, *_ = _HEADER.unpack_from(data)
    return bool(kind == _ET_CORE and machine == _EM_X86_64)


class Scanner:
    """Fed with the bytes of an image in order, it yields the failures. Holds less than a page."""

    def __init__(self, head: bytes, path: str | None = None) -> None:
        self.path = path
        self.loads = list(_loads(head)) if detect(head) else [_Load(0, 1 << 63)]
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
        made: Failure = replace(failure, source=replace(failure.source, path=self.path))
        return made


def _loads(head: bytes) -> Iterator[_Load]:
    """PT_LOAD segments in the order of their offsets; none beyond what ``head`` holds of the table."""
    *_, table, _sections, _flags, _size, entry, count, _a, _b, _c = _HEADER.unpack_from(head)
    if entry != _SEGMENT.size:
        return
    found = []
    for n in range(min(count, _MOST_SEGMENTS)):
        at = table + n * entry
        if at + entry > len(head):
            break
        kind, _, offset, address, _, size, _, _ = _SEGMENT.unpack_from(head, at)
        if kind == _PT_LOAD and size >= PAGE_SIZE and offset < 1 << 62:
            first = offset + -address % PAGE_SIZE
            found.append(_Load(first, offset + size))
    # Segments that overlap in a file made to confuse are read once.
    end = 0
    for load in sorted(found):
        if load.start >= end:
            yield load
            end = load.end


def read(data: bytes, *, path: str | None = None) -> Evidence:
    """A whole image in memory."""
    failures = tuple(Scanner(data[:HEAD], path).feed(data))
    damage = () if failures or not detect(data) else (_NOTHING,)
    return Evidence(failures, damage, FORMAT)
