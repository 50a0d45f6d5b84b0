"""A vCPU of /dev/kvm: its state, its ``kvm_run`` page, and KVM_RUN."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fcntl import ioctl
from functools import lru_cache
from math import inf
from threading import get_ident
from time import monotonic, sleep
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.kvm_run import HEAD, PAGE_SIZE
from kvmwhy.machine import state, sync_regs
from kvmwhy.machine.completion import answer, refusal
from kvmwhy.machine.errors import ClosedError, RefusedStateError, RegisterError
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

_T = TypeVar("_T")
_exit_reason = EXIT_REASON.unpack_from
# Looked up once: an enum's member costs a tenth of a microsecond.
_SET_REGS, _SET_SREGS, _SET_VCPU_EVENTS = Ioctl.KVM_SET_REGS, Ioctl.KVM_SET_SREGS, Ioctl.KVM_SET_VCPU_EVENTS
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
_CPUID_ENTRIES: Final = 256  # KVM_MAX_CPUID_ENTRIES


class KvmVcpu:
    """See ``protocol.Vcpu``. Made by ``KvmMachine.create_vcpu``."""

    __slots__ = ("__weakref__", "_accepted", "_caller", "_fd", "_packed", "_page", "_syncs", "id")

    def __init__(self, number: int, fd: int, mapping_size: int, *, syncs: bool = False) -> None:
        self.id = number
        self._fd = fd
        self._caller = Caller()  # its thread is the one that KVM_SET_SIGNAL_MASK was done for
        self._syncs = syncs  # KVM_RUN can load registers from the page
        self._accepted: tuple[tuple[object, object, object], bytes] | None = None  # the state that KVM took last
        self._packed: dict[Ioctl, tuple[object, bytearray]] = {}  # what was set last, and its bytes
        try:
            self._page = mmap.mmap(fd, mapping_size, mmap.MAP_SHARED)
        except OSError as error:
            os.close(fd)
            raise refused("mmap", error) from None

    def __repr__(self) -> str:
        return f"<KvmVcpu {self.id}{' closed' if self._fd < 0 else ''}>"

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

    # -- state -------------------------------------------------------------------------------------

    def get_regs(self) -> state.Regs:
        return state.regs_from_bytes(self._get(Ioctl.KVM_GET_REGS, abi.REGS))

    def set_regs(self, regs: state.Regs) -> None:
        self._put(_SET_REGS, regs, state.regs_to_bytes)

    def get_sregs(self) -> state.Sregs:
        return state.sregs_from_bytes(self._get(Ioctl.KVM_GET_SREGS, abi.SREGS))

    def set_sregs(self, sregs: state.Sregs) -> None:
        self._put(_SET_SREGS, sregs, state.sregs_to_bytes)

    def get_events(self) -> state.Events:
        return state.events_from_bytes(self._get(Ioctl.KVM_GET_VCPU_EVENTS, abi.VCPU_EVENTS))

    def set_events(self, events: state.Events) -> None:
        self._put(_SET_VCPU_EVENTS, events, state.events_to_bytes)

    def restore(self, regs: state.Regs, sregs: state.Sregs, events: state.Events) -> None:
        """The first time by ioctls, which say what is wrong; the same values again go with KVM_RUN itself."""
        self.settle()
        last = self._accepted
        if last is not None and last[0][0] is regs and last[0][1] is sregs and last[0][2] is events:
            self._page[sync_regs.START : sync_regs.END] = last[1]
            self._page[sync_regs.DIRTY] = sync_regs.ALL
            return
        self.set_regs(regs)
        self.set_sregs(sregs)
        self.set_events(events)
        if self._syncs:
            whole = state.regs_to_bytes(regs) + state.sregs_to_bytes(sregs) + state.events_to_bytes(events)
            self._accepted = (regs, sregs, events), bytes(whole)

    def _flush(self) -> None:
        """Load what was left to KVM_RUN, before something else reads or sets the state."""
        try:
            if not self._page[sync_regs.DIRTY]:
                return
        except ValueError:  # mmap's word for a page that was closed
            self._check_open()
            raise
        self._page[sync_regs.DIRTY] = 0
        for request, data in sync_regs.parts(self._page[sync_regs.START : sync_regs.END]):
            self._set(request, data)

    def get_debugregs(self) -> state.DebugRegs:
        return state.debugregs_from_bytes(self._get(Ioctl.KVM_GET_DEBUGREGS, abi.DEBUGREGS))

    def set_debugregs(self, regs: state.DebugRegs) -> None:
        self._put(Ioctl.KVM_SET_DEBUGREGS, regs, state.debugregs_to_bytes)

    def get_xcrs(self) -> dict[int, int]:
        return state.xcrs_from_bytes(self._get(Ioctl.KVM_GET_XCRS, abi.XCRS))

    def set_xcrs(self, xcrs: Mapping[int, int]) -> None:
        self._set(Ioctl.KVM_SET_XCRS, bytearray(state.xcrs_to_bytes(xcrs)))

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        wanted = dict.fromkeys(indices, 0)
        table = state.msrs_to_bytes(wanted)
        self._whole_table(Ioctl.KVM_GET_MSRS, table, tuple(wanted))
        return state.msrs_from_bytes(table)

    def set_msrs(self, msrs: Mapping[int, int]) -> None:
        self._whole_table(Ioctl.KVM_SET_MSRS, state.msrs_to_bytes(msrs), tuple(msrs))

    def _whole_table(self, request: Ioctl, table: bytearray, indices: tuple[int, ...]) -> None:
        """KVM goes through the table until it meets an MSR that it refuses, and says how far it came."""
        done = self._set(request, table)
        if done < len(indices):
            fact = f"{request.name} did {done} of {len(indices)} MSRs: {indices[done]:#x} was refused"
            raise RefusedStateError(
                request.name, errno.EINVAL, "this vCPU has no such MSR, or not with this value", fact
            )

    def get_cpuid(self) -> tuple[state.CpuidEntry, ...]:
        size = abi.CPUID2.size + _CPUID_ENTRIES * abi.CPUID_ENTRY2.size
        table = bytearray(size)
        abi.CPUID2.whole.pack_into(table, 0, _CPUID_ENTRIES)
        self._set(Ioctl.KVM_GET_CPUID2, table)
        return state.cpuid_from_bytes(table)

    def set_cpuid(self, entries: Iterable[state.CpuidEntry]) -> None:
        entries = tuple(entries)
        self._set(Ioctl.KVM_SET_CPUID2, bytearray(_cpuid_bytes(entries)))

    def get_fpu(self) -> bytes:
        return self._get(Ioctl.KVM_GET_FPU, abi.FPU)

    def set_fpu(self, fpu: bytes) -> None:
        self._set(Ioctl.KVM_SET_FPU, _exactly(fpu, abi.FPU))

    def get_xsave(self) -> bytes:
        return self._get(Ioctl.KVM_GET_XSAVE, abi.XSAVE)

    def set_xsave(self, area: bytes) -> None:
        self._set(Ioctl.KVM_SET_XSAVE, _exactly(area, abi.XSAVE))

    def interrupt(self, vector: int) -> None:
        if not 0 <= vector <= 255:
            raise RegisterError("interrupt vector", vector, 8)
        self._set(Ioctl.KVM_INTERRUPT, bytearray(abi.INTERRUPT.whole.pack(vector)))

    def nmi(self) -> None:
        self._set(Ioctl.KVM_NMI, bytearray())

    def _get(self, request: Ioctl, structure: abi.Structure) -> bytes:
        data = bytearray(structure.size)
        self._set(request, data)
        return bytes(data)

    def _put(self, request: Ioctl, value: _T, pack: Callable[[_T], bytes]) -> None:
        """Set ``value``; a value is frozen, so that the same one again has the same bytes."""
        self._flush()
        last = self._packed.get(request)
        if last is None or last[0] is not value:
            last = self._packed[request] = (value, bytearray(pack(value)))
        try:
            ioctl(self._fd, request, last[1])
        except (OSError, ValueError) as error:
            self._refused(request, error)

    def _set(self, request: Ioctl, data: bytearray) -> int:
        """Also for structures that KVM fills in. Anything but a bytearray costs fcntl a detour."""
        self._flush()
        try:
            result: int = ioctl(self._fd, request, data)  # of a bytearray it is the kernel's number
        except (OSError, ValueError) as error:
            self._refused(request, error)
        return result

    def _refused(self, request: Ioctl, error: Exception) -> NoReturn:
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


@lru_cache(maxsize=8)
def _cpuid_bytes(entries: tuple[state.CpuidEntry, ...]) -> bytes:
    return bytes(state.cpuid_to_bytes(entries))


def _exactly(data: bytes, structure: abi.Structure) -> bytearray:
    if len(data) != structure.size:
        raise RegisterError(f"{structure.name} of {len(data)} bytes", None, 0)
    return bytearray(data)
