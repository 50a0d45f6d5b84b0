"""Waiting for a failure of VMMs that run: their pages are read now and then, nothing else is done to them."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from kvmwhy.live.errors import CaptureError, GoneError
from kvmwhy.live.process import Vmm, all_vmms, vmm
from kvmwhy.live.process_memory import Memory
from kvmwhy.live.staleness import is_fatal

PAUSE: Final = 0.02  # seconds between two looks at a page
_LOOK_AROUND: Final = 1.0  # seconds between two looks for VMMs and vCPUs that are new


class Following:
    """The pages of ``processes``, or of every VMM of this host as they come and go."""

    pause = PAUSE

    def __init__(self, processes: tuple[Vmm, ...], *, every: bool) -> None:
        self._every = every
        self._vmms: dict[int, Vmm] = {}
        self._memories: dict[int, Memory] = {}
        self._next_look = time.monotonic() + _LOOK_AROUND
        for process in processes:
            self._meet(process)

    @property
    def is_over(self) -> bool:
        """Nobody is left to wait for."""
        return not self._every and not self._vmms

    def suspects(self) -> list[Vmm]:
        """The VMMs of which a page shows an exit by which KVM gives up, at this moment."""
        if time.monotonic() >= self._next_look:
            self._look_around()
        suspects = []
        for pid, process in list(self._vmms.items()):
            try:
                if any(is_fatal(self._memories[pid].page(m.address)) for m in process.vcpus):
                    suspects.append(process)
            except CaptureError:
                self._forget(pid)
        return suspects

    def _look_around(self) -> None:
        self._next_look = time.monotonic() + _LOOK_AROUND
        for pid in list(self._vmms):
            try:
                self._vmms[pid] = vmm(pid)  # it may have made vCPUs since
            except GoneError:
                self._forget(pid)
            except CaptureError:
                continue
        for process in all_vmms().vmms if self._every else ():
            if process.pid not in self._vmms:
                self._meet(process)

    def _meet(self, process: Vmm) -> None:
        try:
            self._memories[process.pid] = Memory(process.pid)
        except CaptureError:
            return
        self._vmms[process.pid] = process

    def _forget(self, pid: int) -> None:
        self._vmms.pop(pid, None)
        self._memories.pop(pid).close()

    def close(self) -> None:
        for pid in list(self._vmms):
            self._forget(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()
