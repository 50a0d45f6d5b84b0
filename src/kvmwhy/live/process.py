"""VMMs of this host, whatever program they are: the processes that hold KVM's descriptors.

All that /proc says of a process was chosen by that process, except the kernel's own words. A mapping of
a vCPU is known by the kernel's name for it, which no file can have: those begin with a slash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from kvmwhy.live.errors import CaptureError, GoneError, of_process

MAX_MAPPINGS: Final = 8192  # of vCPUs in one process; KVM has at most 4096 vCPUs in a VM
_MAX_COMMAND: Final = 128 << 10
_MAX_FDS: Final = 1 << 16
_VCPU: Final = re.compile(
    rb"([0-9a-f]{1,16})-[0-9a-f]{1,16} \S{4} 0{8,16} \S{1,16} \d{1,20} {1,40}anon_inode:\[?kvm-vcpu:(\d{1,5})\]?\n?"
)


class VcpuMapping(NamedTuple):
    """Where a process has mapped a vCPU: ``address`` is that of its ``kvm_run`` page."""

    vcpu: int
    address: int


class Vmm(NamedTuple):
    pid: int
    name: str  # the process' own name for itself, at most 15 characters
    command: tuple[str, ...]
    vcpus: tuple[VcpuMapping, ...]

    @property
    def is_qemu(self) -> bool:
        """By its program's name: enough to look for a monitor, which then has to prove itself."""
        program = os.path.basename(self.command[0]) if self.command else ""
        return program.startswith(("qemu-system-", "qemu-kvm", "kvm")) or self.name.startswith("qemu")


def vmm(pid: int) -> Vmm:
    """The process ``pid`` with its vCPUs. Raises NotPermittedError, GoneError, CaptureError."""
    vcpus = vcpu_mappings(pid)  # first: it may be about to end
    return Vmm(pid, _name(pid), command_line(pid), vcpus)


def vcpu_mappings(pid: int) -> tuple[VcpuMapping, ...]:
    """Every mapping of a vCPU's first page, in the order of their addresses."""
    mappings = []
    try:
        with open(f"/proc/{pid}/maps", "rb") as lines:
            for line in lines:
                if b"kvm-vcpu:" in line and (match := _VCPU.fullmatch(line)):
                    mappings.append(VcpuMapping(int(match[2]), int(match[1], 16)))
                    if len(mappings) >= MAX_MAPPINGS:
                        break
    except OSError as error:
        raise of_process(error, pid, "maps") from None
    return tuple(mappings)


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments, cut at 128 KiB. Empty if there are none to be read."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            raw = stream.read(_MAX_COMMAND)
    except OSError:
        return ()
    return tuple(part.decode("utf-8", "replace") for part in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as stream:
            return stream.read(64).decode("utf-8", "replace").rstrip("\n")
    except OSError as error:
        raise of_process(error, pid, "comm") from None


class Found(NamedTuple):
    vmms: tuple[Vmm, ...]
    closed: int  # processes that could not be looked into, and may be VMMs


def all_vmms() -> Found:
    """Every process that holds a VM."""
    vmms, closed = [], 0
    for pid in _pids():
        try:
            if any(link == "anon_inode:kvm-vm" for _, link in descriptors(pid)):
                vmms.append(vmm(pid))
        except GoneError:
            continue  # it ended while we looked
        except CaptureError:
            closed += 1
    return Found(tuple(vmms), closed)


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """(number, what it leads to) of each open descriptor. Raises NotPermittedError, GoneError."""
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise of_process(error, pid, "fd") from None
    for name in names[:_MAX_FDS]:
        try:
            yield int(name), os.readlink(f"{directory}/{name}")
        except OSError:
            continue  # closed meanwhile


def process_of(tid: int) -> int | None:
    """The process that a thread belongs to; None if the thread is gone."""
    try:
        with open(f"/proc/{tid}/status", "rb") as stream:
            match = re.search(rb"^Tgid:\s{1,8}(\d{1,10})$", stream.read(8192), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None


def is_thread_of(tid: int, pid: int) -> bool:
    """Whether this number is still a thread of that process: it may be another's by now."""
    return os.path.exists(f"/proc/{pid}/task/{tid}")


def descendants(pid: int, most: int = 1024) -> set[int]:
    """``pid`` and what descends from it, as far as the kernel lists children."""
    family, waiting = {pid}, [pid]
    while waiting and len(family) < most:
        parent = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", "rb") as stream:
                    children = {int(word) for word in stream.read(_MAX_COMMAND).split()} - family
                family |= children
                waiting += children
        except (OSError, ValueError):
            continue
    return family
