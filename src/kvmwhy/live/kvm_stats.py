"""KVM's own count of failed emulations, ``insn_emulation_fail``: also of those that no VMM hears of.

KVM hands its statistics to the process that made the VM, and to debugfs. So they come from debugfs where that may be
read, else from QEMU, which passes them on (``query-stats``, since 7.1), else not at all.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple

from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import Vmm, all_vmms
from kvmwhy.live.qemu_command import domain_of
from kvmwhy.live.qemu_socket import qmp_paths
from kvmwhy.live.qmp import Monitor, QmpSocket, Virsh

NAME: Final = "insn_emulation_fail"
EVERY: Final = 15.0  # seconds: a monitor serves one client at a time
_DEBUGFS: Final = "/sys/kernel/debug/kvm"
_VM: Final = re.compile(r"\d{1,10}-\d{1,10}")  # PID, and a descriptor of that process
_MOST_VMS: Final = 4096

Source = Literal["debugfs", "qmp"]


class Reading(NamedTuple):
    """The count of each VM that shows it, by a name that no other VM has; or why there is none."""

    counts: dict[str, int]
    source: Source | None = None
    why: str | None = None


def read_counts(debugfs: str = _DEBUGFS) -> Reading:
    """Ask debugfs, else every QEMU whose monitor answers. Never raises."""
    try:
        return Reading(_from_debugfs(debugfs), "debugfs")
    except OSError as error:
        why = f"{debugfs}: {(error.strerror or str(error)).lower()}"
    counts, qemus = {}, 0
    with suppress(OSError):
        for process in all_vmms().vmms[:_MOST_VMS]:
            if process.is_qemu:
                qemus += 1
                with suppress(CaptureError, OSError):
                    counts[str(process.pid)] = _from_qemu(process)
    if not counts:
        asked = f"none of {qemus} QEMUs answers query-stats" if qemus else "no QEMU runs here"
        return Reading({}, why=f"{why}; {asked}")
    return Reading(counts, "qmp")


def _from_debugfs(root: str) -> dict[str, int]:
    """Raises OSError if it may not be read; a VM that ends meanwhile is left out."""
    with open(f"{root}/{NAME}", "rb") as stream:
        stream.read(64)  # of all VMs that run now: no counter, as it falls when one of them ends
    counts = {}
    for name in os.listdir(root)[:_MOST_VMS]:
        if _VM.fullmatch(name):
            with suppress(OSError, ValueError), open(f"{root}/{name}/{NAME}", "rb") as stream:
                counts[name] = int(stream.read(64))
    return counts


def _from_qemu(process: Vmm) -> int:
    """The sum over its vCPUs. Raises CaptureError, OSError."""
    if domain := domain_of(process):
        return _sum(Virsh(domain.name, uri=domain.uri))
    for path in qmp_paths(process):
        with QmpSocket(path, owner=os.stat(f"/proc/{process.pid}").st_uid) as monitor:
            return _sum(monitor)
    raise CaptureError(f"process {process.pid} has no QMP socket")


def _sum(monitor: Monitor) -> int:
    answer: Any = monitor.execute("query-stats", target="vcpu", providers=[{"provider": "kvm", "names": [NAME]}])
    values = [
        stat["value"]
        for vcpu in answer
        for stat in vcpu.get("stats", ())
        if stat.get("name") == NAME and isinstance(stat.get("value"), int)
    ]
    if not values:
        raise CaptureError("QEMU has no such counter")
    return sum(values)


class Total:
    """A counter that only grows, from counts that end with their VMs. What was there before it began does not count."""

    def __init__(self) -> None:
        self.value = 0
        self._last: dict[str, int] | None = None

    def add(self, counts: dict[str, int]) -> None:
        if self._last is None:
            self.begin_at(counts)
            return
        for name, count in counts.items():
            before = self._last.get(name, 0)
            self.value += count - before if count >= before else count  # a number that another VM has now
        self._last |= counts  # one that did not answer this time goes on from where it was

    def begin_at(self, counts: dict[str, int]) -> None:
        """Count from here: at the beginning, and when another source names the VMs in another way."""
        self._last = dict(counts)


class Poller:
    """Reads the counts now and then, in a thread of its own: a monitor may take its time to answer."""

    def __init__(
        self, tell: Callable[[int, Reading], None], *, read: Callable[[], Reading] = read_counts, every: float = EVERY
    ) -> None:
        self._told, self._read, self._every = tell, read, every
        self._end = threading.Event()
        self._total = Total()
        self._thread = threading.Thread(target=self._run, name="kvm-stats", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        source = None
        while not self._end.is_set():
            reading = self._read()
            if reading.source:
                if source not in {None, reading.source}:
                    self._total.begin_at(reading.counts)
                self._total.add(reading.counts)
                source = reading.source
            self._told(self._total.value, reading)
            self._end.wait(self._every)

    def close(self) -> None:
        self._end.set()
        self._thread.join(timeout=2)
