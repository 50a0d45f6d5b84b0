"""What QEMU's monitor adds to a vCPU's page: registers, code, stack, page tables and the memory map.

Guest memory is read through ``xp``, and only where the map says RAM or ROM: QEMU would pass any other
read on to the device, and a device may act on it.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.arch.x86.mode import cpu_mode, linear_rip
from kvmwhy.arch.x86.paging import Walk, paging_mode, walk
from kvmwhy.ingest.normalize import Text
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.memory_map import MemoryMap, read_map
from kvmwhy.live.qmp import Monitor
from kvmwhy.readers.qemu import log
from kvmwhy.record import Code, Cpu, Failure

_CPU: Final = re.compile(r"^CPU ?#(\d{1,5})\n", re.MULTILINE)
_BYTES: Final = re.compile(r"^[0-9a-f]{8,16}:((?: 0x[0-9a-f]{2})+)$", re.MULTILINE)
_GPA: Final = re.compile(r"^gpa: (0x[0-9a-f]{1,16})$", re.MULTILINE)  # hmp_gva2gpa
_BEFORE, _WINDOW, _STACK, _PAGE = 20, 50, 64, 4096


class GuestView(NamedTuple):
    """A paused or running guest, as its monitor shows it. ``cpus`` by index."""

    status: str
    running: bool
    version: str | None
    ram_bytes: int | None
    cpus: dict[int, Cpu]
    memory: MemoryMap


class Seen(NamedTuple):
    """What was read around one vCPU. ``stack``: the bytes at RSP, b"" if it leads to no RAM."""

    code: Code | None
    stack: bytes
    walks: tuple[Walk, ...]  # of RIP, RSP and whatever else was asked for


def view(monitor: Monitor) -> GuestView:
    """Ask everything that does not depend on an address. Raises CaptureError."""
    status = _object(monitor.execute("query-status"))
    return GuestView(
        status=str(status.get("status")),
        running=status.get("running") is True,
        version=_version(monitor.execute("query-version")),
        ram_bytes=_ram(monitor.execute("query-memory-size-summary")),
        cpus=read_registers(monitor.human("info registers -a")),
        memory=read_map(monitor.human("info mtree -f"), monitor.execute("query-pci"), _or_empty(monitor, "info qtree")),
    )


def status(monitor: Monitor) -> str:
    """How the guest as a whole is, by QEMU's word: one question, which no vCPU notices. Raises CaptureError."""
    return str(_object(monitor.execute("query-status")).get("status"))


def read_registers(text: str) -> dict[int, Cpu]:
    """``info registers -a``: one dump after another, each behind ``CPU#N``. Pure; never raises."""
    cpus = {}
    parts = _CPU.split(text)
    for number, dump in zip(parts[1::2], parts[2::2], strict=True):
        for failure in log.read(Text(dump)).failures[:1]:
            if failure.cpu:
                cpus[int(number)] = failure.cpu
    return cpus


def around(monitor: Monitor, guest: GuestView, cpu: Cpu, addresses: tuple[int, ...] = ()) -> Seen:
    """Code at RIP or PC; of x86 also the stack at RSP, and the walk of every linear address. Raises CaptureError."""
    mode = cpu_mode(cpu)
    rip = linear_rip(cpu, mode) if mode else None
    stack = _linear_stack(cpu)
    walks = [translate(monitor, guest, cpu, gva) for gva in dict.fromkeys((rip, stack, *addresses)) if gva is not None]
    at = {w.gva: w.gpa for w in walks}
    code = _code_of_other(monitor, guest, cpu) if rip is None else _code(monitor, guest, cpu, rip)
    physical = at.get(stack) if stack is not None else None
    size = _STACK if stack is None else min(_STACK, _PAGE - stack % _PAGE)
    return Seen(code, (read(monitor, guest, physical, size) or b"") if physical is not None else b"", tuple(walks))


def translate(monitor: Monitor, guest: GuestView, cpu: Cpu, gva: int) -> Walk:
    """Walk the guest's page tables, as this vCPU would. Raises CaptureError."""
    cr0, cr3, cr4, efer = (cpu.get(name) or 0 for name in ("cr0", "cr3", "cr4", "efer"))
    return walk(gva, cr0=cr0, cr3=cr3, cr4=cr4, efer=efer, read=lambda gpa, size: read(monitor, guest, gpa, size))


def read(monitor: Monitor, guest: GuestView, gpa: int, size: int) -> bytes | None:
    """Guest memory, if all of it is RAM or ROM in one piece; None otherwise. Raises CaptureError."""
    region = guest.memory.at(gpa)
    if region is None or not region.memory or gpa + size - 1 > region.end:
        return None
    text = monitor.human(f"xp /{size}xb {gpa:#x}")
    data = bytes(int(byte, 16) for row in _BYTES.findall(text) for byte in row.split())
    return data if len(data) == size else None


def complete(failure: Failure, guest: GuestView, seen: Seen, cpu: Cpu | None) -> Failure:
    """The record of a page, with what the monitor showed of the same vCPU."""
    host = msgspec.structs.replace(failure.host, ram_bytes=guest.ram_bytes, qemu=guest.version)
    return msgspec.structs.replace(failure, cpu=cpu, code=seen.code, host=host)


def _code(monitor: Monitor, guest: GuestView, cpu: Cpu, rip: int) -> Code:
    """The window around RIP, as far as the pages it lies on are RAM."""
    start = max(0, rip - _BEFORE)
    window: list[int | None] = []
    at = start
    while at < start + _WINDOW:
        size = min(start + _WINDOW - at, _PAGE - at % _PAGE)
        gpa = translate(monitor, guest, cpu, at).gpa
        window += list((None if gpa is None else read(monitor, guest, gpa, size)) or [None] * size)
        at += size
    return Code(tuple(window), rip - start)


def _code_of_other(monitor: Monitor, guest: GuestView, cpu: Cpu) -> Code | None:
    """The code at PC of another architecture, whose page tables QEMU itself walks; None if that is no RAM."""
    pc = cpu.get("pc")
    match = None if pc is None else _GPA.search(monitor.human(f"gva2gpa {pc:#x}"))
    if pc is None or match is None:
        return None
    data = read(monitor, guest, int(match[1], 16), min(_STACK, _PAGE - pc % _PAGE))
    return Code(tuple(data), 0) if data else None


def _linear_stack(cpu: Cpu) -> int | None:
    rsp, ss = cpu.get("rsp"), cpu.segments.get("ss")
    if rsp is None:
        return None
    if paging_mode(cpu.get("cr0") or 0, cpu.get("cr4") or 0, cpu.get("efer") or 0) in {"4-level", "5-level"}:
        return rsp
    big = ss.big if ss else True
    return ((ss.base if ss else 0) + (rsp if big else rsp & 0xFFFF)) & 0xFFFF_FFFF


def _or_empty(monitor: Monitor, line: str) -> str:
    """A command that a QEMU may not have: its absence only costs names."""
    try:
        return monitor.human(line)
    except CaptureError:
        return ""


def _object(answer: Any) -> dict[str, Any]:
    return answer if isinstance(answer, dict) else {}


def _version(answer: Any) -> str | None:
    numbers = _object(_object(answer).get("qemu"))
    parts = [numbers.get(name) for name in ("major", "minor", "micro")]
    return ".".join(str(p) for p in parts) if all(isinstance(p, int) for p in parts) else None


def _ram(answer: Any) -> int | None:
    sizes = [_object(answer).get(name, 0) for name in ("base-memory", "plugged-memory")]
    total = sum(size for size in sizes if isinstance(size, int))
    return total if 0 < total < 1 << 52 else None
