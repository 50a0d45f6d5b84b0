"""The page that belongs to a failure of which the trace told, while the VMM still has it."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from kvmwhy.live.errors import CaptureError, GoneError, NotPermittedError
from kvmwhy.live.process import Vmm, is_thread_of, process_of, vmm
from kvmwhy.live.process_memory import Memory
from kvmwhy.live.qemu_command import guest_name
from kvmwhy.live.vcpus import failure_of, of_this_host
from kvmwhy.record import Failure, Host

ENDED: Final = "the VMM had ended before its page could be read: the words are those of the trace"
WENT_ON: Final = "the VMM had gone on before its page could be read: the words are those of the trace"
SEVERAL: Final = "several vCPUs of this VMM show such a failure, and nothing tells which page is this one's"
FORBIDDEN: Final = "the VMM's memory may not be read (it takes CAP_SYS_PTRACE): the words are those of the trace"
_MAX_OPEN: Final = 64  # VMMs whose memory stays open
_LATELY: Final = 2.0  # seconds


class _Open(NamedTuple):
    vmm: Vmm
    memory: Memory


class _Taken(NamedTuple):
    """The pages of a VMM at one moment; or why there are none."""

    vmm: Vmm | None
    pages: tuple[tuple[int, bytes], ...] = ()  # vCPU, page
    why: str = ENDED
    fresh: bool = True  # its mappings were looked up for this


class Recall:
    """VMMs by thread, with their memory open, so that a page is read as soon as its failure is known.

    take() as soon as the trace names a thread, for its VMM may end any moment; then complete(); then clear().
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: OrderedDict[int, _Open] = OrderedDict()  # by PID
        self._process: dict[int, int] = {}  # thread → PID
        self._last: OrderedDict[int, tuple[Vmm, float]] = OrderedDict()  # thread → its VMM, and when that was seen
        self._taken: dict[int, _Taken] = {}  # by thread

    def take(self, thread: int) -> None:
        """Read every vCPU's page of this thread's VMM. Never raises."""
        if thread not in self._taken:
            self._taken[thread] = self._read(thread, fresh=False)

    def meet(self, thread: int) -> None:
        """A failure of this thread may be coming: have its VMM's memory open by then. Never raises."""
        with suppress(CaptureError):
            self._vmm(thread, fresh=False)

    def clear(self) -> None:
        """What take() has read is of the past now."""
        self._taken.clear()

    def complete(self, failure: Failure, thread: int) -> Failure:
        """What the trace told of ``thread``, with what the vCPU's page adds. Never raises."""
        failure = of_this_host(msgspec.structs.replace(failure, host=self._host))
        self.take(thread)
        taken = self._taken[thread]
        fitting = self._fitting(taken, failure)
        if not fitting and not taken.fresh and not failure.silent:  # the VMM may have made vCPUs since
            taken = self._taken[thread] = self._read(thread, fresh=True)
            fitting = self._fitting(taken, failure)
        if known := taken.vmm or self._lately(thread):
            source = msgspec.structs.replace(
                failure.source, vmm=known.name, guest=guest_name(known), path=f"process {known.pid}", line=None
            )
            failure = msgspec.structs.replace(failure, source=source)
        if taken.vmm is None:  # an errno of KVM_RUN stands in no page: nothing is missing then
            return failure if failure.kind == "run-error" else _with(failure, taken.why)
        return failure if failure.silent else _merged(failure, fitting)

    def _lately(self, thread: int) -> Vmm | None:
        """The VMM that this thread was of a moment ago: the number may be another's later."""
        vmm_, when = self._last.get(thread, (None, 0.0))
        return vmm_ if monotonic() - when < _LATELY else None

    def _read(self, thread: int, *, fresh: bool) -> _Taken:
        try:
            opened, fresh = self._vmm(thread, fresh=fresh)
            pages = tuple((m.vcpu, opened.memory.snapshot(m.address).page) for m in opened.vmm.vcpus)
        except NotPermittedError:
            return _Taken(None, why=FORBIDDEN)
        except CaptureError:
            if not fresh:  # what was known of it is of an address space that has ended
                return self._read(thread, fresh=True)
            return _Taken(None)
        return _Taken(opened.vmm, pages, fresh=fresh) if pages else _Taken(None)

    def _fitting(self, taken: _Taken, traced: Failure) -> list[Failure]:
        """The records in the pages that can be the failure."""
        if taken.vmm is None:
            return []
        name, pid, mine = taken.vmm.name, taken.vmm.pid, traced.source.vcpu
        pages = [(vcpu, page) for vcpu, page in taken.pages if mine is None or vcpu == mine]
        seen = [failure_of(page, vmm=name, pid=pid, vcpu=vcpu, host=self._host) for vcpu, page in pages]
        return [failure for failure in seen if _fits(failure, traced)]

    def _vmm(self, thread: int, *, fresh: bool) -> tuple[_Open, bool]:
        """The VMM, and whether it was looked up just now. Raises NotPermittedError, GoneError, CaptureError."""
        pid = self._process.get(thread)
        known = self._open.get(pid) if pid is not None and not fresh and is_thread_of(thread, pid) else None
        if known:
            self._open.move_to_end(known.vmm.pid)
            self._last[thread] = known.vmm, monotonic()
            return known, False
        pid = process_of(thread)
        if pid is None:
            raise GoneError(f"there is no thread {thread}")
        self._forget(pid)
        memory = Memory(pid)
        try:
            opened = self._open[pid] = _Open(vmm(pid), memory)
        except CaptureError:
            memory.close()
            raise
        if len(self._process) > 64 * _MAX_OPEN:
            self._process.clear()
        self._process[thread] = pid
        self._last[thread] = opened.vmm, monotonic()
        if len(self._last) > 64 * _MAX_OPEN:
            self._last.popitem(last=False)
        if len(self._open) > _MAX_OPEN:
            self._forget(next(iter(self._open)))
        return opened, True

    def _forget(self, pid: int) -> None:
        known = self._open.pop(pid, None)
        if known:
            known.memory.close()

    def close(self) -> None:
        for pid in list(self._open):
            self._forget(pid)


def _fits(seen: Failure, failure: Failure) -> bool:
    """Whether a page can be what the trace told of: the same exit, and the same instruction where both show it."""
    if seen.exit_reason != (failure.exit_reason if failure.exit_reason is not None else seen.exit_reason):
        return False
    if seen.kind != failure.kind or (failure.suberror is not None and seen.suberror != failure.suberror):
        return False
    if failure.emulation and failure.emulation.insn and len(seen.data) >= 3 and seen.data[0] & 1:
        window = b"".join(word.to_bytes(8, "little") for word in seen.data[1:3])  # insn_size, insn_bytes
        return window[1 : 1 + len(failure.emulation.insn)] == failure.emulation.insn
    return True


def _merged(failure: Failure, pages: list[Failure]) -> Failure:
    if not pages:
        return _with(failure, WENT_ON) if failure.kind not in {"run-error", "other"} else failure
    first = pages[0]
    if any(_words(page) != _words(first) for page in pages):
        return _with(failure, SEVERAL)
    vcpus = {page.source.vcpu for page in pages}
    return msgspec.structs.replace(
        failure,
        source=msgspec.structs.replace(failure.source, vcpu=failure.source.vcpu if len(vcpus) > 1 else vcpus.pop()),
        suberror=first.suberror,
        ndata=first.ndata,
        data=first.data,
        hardware_error=first.hardware_error,
        hardware_reason=first.hardware_reason,
        exception=first.exception,
        exception_error_code=first.exception_error_code,
        exit_reason=first.exit_reason,
        exit_fields=first.exit_fields,
        damage=failure.damage + first.damage,
    )


def _words(failure: Failure) -> tuple[object, ...]:
    return (failure.suberror, failure.data, failure.hardware_error, failure.hardware_reason, failure.exception)


def _with(failure: Failure, damage: str) -> Failure:
    return msgspec.structs.replace(failure, damage=(*failure.damage, damage))
