"""The ``kvm_run`` pages of another process, read without stopping it."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, NamedTuple, Self

from kvmwhy.abi.kvm_run import PAGE_SIZE
from kvmwhy.live.errors import CaptureError, GoneError, of_process

MAX_READS: Final = 32


class Snapshot(NamedTuple):
    """One page, 4096 bytes. ``settled``: two reads in a row were equal, so it is no mixture of two exits."""

    page: bytes
    reads: int
    settled: bool


class Memory:
    """Another process' memory. Raises NotPermittedError, GoneError, CaptureError."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise of_process(error, pid, "mem") from None

    def page(self, address: int) -> bytes:
        """4096 bytes. An address space that has ended reads as nothing: GoneError."""
        try:
            data = os.pread(self._fd, PAGE_SIZE, address)
        except (OSError, OverflowError) as error:
            raise CaptureError(f"process {self.pid} has nothing readable at {address:#x}: {error}") from None
        if len(data) != PAGE_SIZE:
            raise GoneError(f"process {self.pid} has ended")
        return data

    def snapshot(self, address: int) -> Snapshot:
        """The page once two reads in a row agree, or the last of 32 that did not."""
        before = self.page(address)
        for reads in range(2, MAX_READS + 1):
            page = self.page(address)
            if page == before:
                return Snapshot(page, reads, settled=True)
            before = page
        return Snapshot(before, MAX_READS, settled=False)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()
