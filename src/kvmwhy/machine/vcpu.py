"""A vCPU of /dev/kvm, whatever its architecture: its ``kvm_run`` page, and KVM_RUN."""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from enum import IntEnum
from math import inf
from threading import get_ident
from time import monotonic, sleep
from types import TracebackType
from typing import Final, NoReturn, Self

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.kvm_run import HEAD, PAGE_SIZE
from kvmwhy.machine.completion import answer, refusal
from kvmwhy.machine.errors import ClosedError
from kvmwhy.machine.exits import (
    EXIT_REASON,
    Exit,
    FailEntry,
    Hlt,
    InternalError,
    Intr,
    MemoryFault,
    Shutdown,
    TimedOut,
    Unknown,
    decode_exit,
)
from kvmwhy.machine.ioctl_errors import refused
from kvmwhy.machine.kick import WATCH, Caller, blocked_while_running, drain
from kvmwhy.machine.linux import ioctl

_exit_reason = EXIT_REASON.unpack_from
_KVM_RUN: Final = int(Ioctl.KVM_RUN)
_IMMEDIATE_EXIT: Final = next(f.offset for f in HEAD if f.name == "immediate_exit")
_EHWPOISON: Final = 133  # of <asm-generic/errno.h>; not every Python has it
_FRAGMENTS: Final = 64  # pieces that one instruction's I/O may come in; then settle() stops trying
# Exits after which KVM has nothing to finish (complete_userspace_io); 0 is a vCPU that has not run.
_NOTHING_LEFT: Final = {
    Unknown.number,
    Hlt.number,
    Shutdown.number,
    FailEntry.number,
    Intr.number,
    InternalError.number,
}


class KvmVcpu:
    """See ``protocol.Running``. Made by a ``KvmVm``."""

    __slots__ = ("__weakref__", "_caller", "_fd", "_page", "id")

    def __init__(self, number: int, fd: int, mapping_size: int) -> None:
        self.id = number
        self._fd = fd
        self._caller = Caller()  # its thread is the one that KVM_SET_SIGNAL_MASK was done for
        try:
            self._page = mmap.mmap(fd, mapping_size, mmap.MAP_SHARED)
        except OSError as error:
            os.close(fd)
            raise refused("mmap", error) from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}{' closed' if self._fd < 0 else ''}>"

    # -- running -----------------------------------------------------------------------------------

    def run(self, timeout: float | None = None) -> Exit:
        """Run the guest until it exits; at most ``timeout`` seconds. Signals have their handlers run, and it goes on.

        Raises IoctlError if KVM_RUN fails; EFAULT with KVM_EXIT_MEMORY_FAULT is an exit, though.
        """
        caller = self._caller
        if caller.thread != get_ident():
            self._adopt()
        deadline = inf if timeout is None else monotonic() + max(0.0, timeout)
        while True:
            failure = None
            try:
                caller.running = True
                if timeout is not None:
                    WATCH.due[caller] = deadline
                    if deadline < WATCH.wakes_at:
                        WATCH.wake_at(deadline)
                ioctl(self._fd, _KVM_RUN)  # without its 0: an argument that is no buffer costs fcntl a microsecond
            except OSError as error:
                failure = error
            except ValueError:  # fcntl's word for a descriptor below 0
                raise ClosedError(f"vCPU {self.id} is closed") from None
            finally:
                caller.running = False
                if timeout is not None:
                    WATCH.due.pop(caller, None)
                if caller.calling:
                    caller.taken()
            try:
                exit_ = self._stopped(failure, deadline, timeout) if failure else decode_exit(self._page)
            except ValueError:  # mmap's word for a page that was closed
                self._check_open()
                raise
            if exit_ is not None:
                return exit_

    def _stopped(self, error: OSError, deadline: float, timeout: float | None) -> Exit | None:
        """What it means that KVM_RUN failed; None: nothing, try again."""
        self._check_open()
        if error.errno == errno.EINTR:
            if self._page[_IMMEDIATE_EXIT]:
                self._page[_IMMEDIATE_EXIT] = 0
                return Intr()
            if timeout is not None and monotonic() >= deadline:
                return TimedOut(timeout)
            # A call for an earlier run, or a signal whose handler has run and did not raise (PEP 475).
            drain()
            return None
        if error.errno in {errno.EFAULT, _EHWPOISON}:
            reason = _exit_reason(self._page)[0]
            if reason == MemoryFault.number:
                return decode_exit(self._page)
        raise refused("KVM_RUN", error) from None

    def _adopt(self) -> None:
        """Let KVM_RUN in this thread be interrupted by KICK, and by nothing that the thread blocks."""
        mask = abi.SIGNAL_MASK.whole.pack(8) + blocked_while_running()
        self._set(Ioctl.KVM_SET_SIGNAL_MASK, bytearray(mask))
        self._caller.thread = get_ident()

    def settle(self) -> None:
        try:
            left = _exit_reason(self._page)[0] not in _NOTHING_LEFT
        except ValueError:  # mmap's word for a page that was closed
            self._check_open()
            raise
        if left:
            self._finish()

    def _finish(self) -> None:
        """KVM_RUN that does not run the guest; again for each further piece of the same I/O."""
        for _ in range(_FRAGMENTS):
            self._page[_IMMEDIATE_EXIT] = 1
            try:
                ioctl(self._fd, _KVM_RUN)
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise refused("KVM_RUN", error) from None
                return
            finally:
                self._page[_IMMEDIATE_EXIT] = 0

    def kick(self) -> None:
        with suppress(ValueError):  # closed: then it is not running
            self._page[_IMMEDIATE_EXIT] = 1
        self._caller.call_back()

    def complete(self, data: bytes) -> None:
        try:
            offset = answer(self._page, data)
            self._page[offset : offset + len(data)] = data
        except ValueError:  # CompletionError, or mmap's word for a page that was closed
            self._check_open()
            raise

    def refuse(self) -> None:
        self._check_open()
        self._page[refusal(self._page)] = 1

    def page(self) -> bytes:
        self._check_open()
        return self._page[:PAGE_SIZE]

    # -- ioctls ------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Load what was left to KVM_RUN, before something else reads or sets the state."""

    def _get(self, request: IntEnum, structure: abi.Structure) -> bytes:
        data = bytearray(structure.size)
        self._set(request, data)
        return bytes(data)

    def _set(self, request: IntEnum, data: bytearray) -> int:
        """Also for structures that KVM fills in. Anything but a bytearray costs fcntl a detour."""
        self._flush()
        try:
            result: int = ioctl(self._fd, request, data)  # of a bytearray it is the kernel's number
        except (OSError, ValueError) as error:
            self._refused(request, error)
        return result

    def _refused(self, request: IntEnum, error: Exception) -> NoReturn:
        self._check_open()  # a ValueError is fcntl's word for a descriptor below 0
        if isinstance(error, OSError):
            raise refused(request.name, error) from None
        raise error

    def _check_open(self) -> None:
        if self._fd < 0:
            raise ClosedError(f"vCPU {self.id} is closed")

    @property
    def closed(self) -> bool:
        return self._fd < 0

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the vCPU, in whatever thread it runs, and free it. Again: nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        while self._caller.running and self._caller.thread != get_ident():  # until that thread has left the page alone
            self.kick()
            sleep(0.0005)
        self._page.close()
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_page", None) is not None:
            self.close()
