"""Events, one at a time, into failures: which vCPU, why it had left the guest, and whether userspace heard of it.

A failed emulation ends in one of two ways (``handle_emulation_failure``): KVM returns to userspace with
KVM_EXIT_INTERNAL_ERROR, or it queues #UD and enters the guest again, and no VMM ever hears of it. Which it was is
told by what this vCPU does next; where nothing tells, the failure says so.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from kvmwhy.abi import kvm_run
from kvmwhy.abi.tracepoints import ENTRIES, EXITS, RETURNS
from kvmwhy.readers.trace import to_record
from kvmwhy.readers.trace.events import STORY, TraceEvent
from kvmwhy.record import Arch, Failure

EVENTS: Final = 16  # how many of a vCPU's last events a failure keeps
_THREADS: Final = 4096  # followed at once; the one silent for longest is forgotten
_VCPUS: Final = 1024  # of one thread

FATAL: Final = {
    kvm_run.EXIT_UNKNOWN,
    kvm_run.EXIT_EXCEPTION,
    kvm_run.EXIT_SHUTDOWN,
    kvm_run.EXIT_FAIL_ENTRY,
    kvm_run.EXIT_INTERNAL_ERROR,
}
# A signal, or a VMM that wants to inject an interrupt: what KVM was about to do, it does later.
_INTERLUDES: Final = {7, 10}  # KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_INTR
BENIGN_ERRNOS: Final = {-4, -11}  # EINTR; EAGAIN: the vCPU waits to be started
# Events that come only after KVM has decided what to do about a failed emulation.
_WENT_ON: Final = {"kvm_entry", "kvm_exit", "kvm_page_fault", "kvm_emulate_insn"}
_WALKS: Final = {"kvm_mmu_pagetable_walk", "kvm_mmu_walker_error"}
_FAULTS: Final = {"kvm_guest_fault", "kvm_mmio_nisv"}
_NESTED_EXITS: Final = {"kvm_nested_vmexit", "kvm_nested_vmexit_inject"}
_UD: Final = to_record.UD
_INJECTS_UD: Final = 0x80000306  # valid, hardware exception, #UD: the same in VMX and SVM


class _Vcpu:
    """What is remembered of one vCPU."""

    __slots__ = (
        *("exit", "failed", "fatal", "fault", "id", "injected", "recent", "silent_at", "torn", "walk", "walk_failed"),
    )

    def __init__(self, number: int | None, *, torn: bool) -> None:
        self.id = number
        self.recent: deque[TraceEvent] = deque(maxlen=EVENTS)
        self.exit: TraceEvent | None = None  # the VM-exit that is being handled
        self.failed: TraceEvent | None = None  # an emulation whose end has not been seen
        self.injected: int | None = None  # the exception that the guest got after that
        self.silent_at: int | None = None  # where the guest got #UD for one before, and nobody was told
        self.torn = torn  # events are missing before the first of ``recent``
        self.fatal: TraceEvent | None = None  # an exit after which KVM leaves for userspace: that has not been seen
        self.fault: TraceEvent | None = None  # arm64: the fault of that exit
        self.walk: TraceEvent | None = None  # the last walk of the guest's page tables
        self.walk_failed: TraceEvent | None = None  # the same, if it ended in an error since the exit


class _Thread:
    """A thread runs one vCPU at a time, but need not run the same one always.

    After a return to userspace it may enter with another one, and not every event says which. Such events wait in
    ``unclaimed`` until one says so; if this thread was only ever seen with one vCPU, they are that one's.
    """

    __slots__ = ("current", "epoch", "unclaimed", "vcpus")

    def __init__(self, epoch: int, *, torn: bool) -> None:
        self.epoch = epoch
        self.vcpus: dict[int, _Vcpu] = {}
        self.current: _Vcpu | None = None
        self.unclaimed = _Vcpu(None, torn=torn)


class Story:
    """Feed it events in the order of their times, by ``take``; then ``end``.

    >>> story = Story()
    >>> failures = [failure for event in events for failure in story.take(event)]  # doctest: +SKIP
    >>> failures += story.end()
    """

    def __init__(self, *, path: str | None = None, userspace_exits: bool = False) -> None:
        self.path = path
        self._threads: OrderedDict[int, _Thread] = OrderedDict()
        self._epoch = 0
        self._given_up: list[Failure] = []  # to be handed out next: their end will not be seen any more
        self.waiting = 0  # failed emulations whose end has not been seen
        self._isa: int | None = None  # of this host: a reason without a name does not tell
        self._arch: Arch | None = None
        self._userspace_exits = userspace_exits  # this trace has them: known beforehand, or seen

    def lost(self) -> None:
        """Events are missing here. Nothing seen before explains what comes behind: any vCPU may be concerned."""
        self._epoch += 1

    def take(self, event: TraceEvent) -> tuple[Failure, ...]:
        """The failures that this event completes: hardly ever one."""
        name = event.name
        if name not in STORY:
            return ()
        thread = self._thread(event.pid)
        if name == "kvm_track_tsc":
            self._forget(thread)
            self._threads[event.pid] = _Thread(self._epoch, torn=False)
            return self._handed_out()
        vcpu = thread.current
        if event.vcpu is not None and (vcpu is None or vcpu.id != event.vcpu):
            vcpu = self._claim(thread, event.vcpu)
        elif vcpu is None:
            vcpu = thread.unclaimed
        ended: tuple[Failure, ...] = ()
        if vcpu.failed is not None and name in _WENT_ON:
            ended = (self._went_on(vcpu, event),)
        if name in _WALKS:
            self._walked(vcpu, event)
            return self._handed_out() + ended if self._given_up else ended
        vcpu.recent.append(event)
        if name in EXITS:
            ended += self._exited(vcpu, event)
        elif name in ENTRIES:
            ended += self._entered(vcpu, event)
        elif name == "kvm_emulate_insn":
            if event.number("failed"):
                vcpu.failed, vcpu.injected = event, None
                self.waiting += 1
        elif name == "kvm_inj_exception":
            if (vcpu.failed is not None or vcpu.id is None) and not event.number("reinjected"):
                vcpu.injected = event.number("exception")
        elif name in _FAULTS:
            vcpu.fault = event
            self._arch = self._arch or to_record.arch_of(event)
        elif name in _NESTED_EXITS:
            vcpu.fatal = None  # the nested guest's: its own hypervisor gets it
        elif name in RETURNS:
            ended += self._left(thread, vcpu, event)
        return self._handed_out() + ended if self._given_up else ended

    def _walked(self, vcpu: _Vcpu, event: TraceEvent) -> None:
        """KVM walks the guest's page tables for every operand: only a walk that failed is history."""
        if event.name == "kvm_mmu_pagetable_walk":
            vcpu.walk = event
            return
        vcpu.walk_failed = vcpu.walk
        vcpu.recent.extend((vcpu.walk, event) if vcpu.walk else (event,))

    def _exited(self, vcpu: _Vcpu, event: TraceEvent) -> tuple[Failure, ...]:
        ended = (self._fatal(vcpu, is_last=False),) if vcpu.fatal is not None and not self._userspace_exits else ()
        vcpu.exit, vcpu.fault, vcpu.walk, vcpu.walk_failed = event, None, None, None
        vcpu.fatal = event if to_record.is_fatal(event) else None
        self._isa = self._isa or event.number("isa")
        self._arch = self._arch or to_record.arch_of(event)
        return ended

    def _entered(self, vcpu: _Vcpu, event: TraceEvent) -> tuple[Failure, ...]:
        ended = (self._fatal(vcpu, is_last=False),) if vcpu.fatal is not None and not self._userspace_exits else ()
        vcpu.exit, vcpu.fatal = None, None
        if self._arch is None:
            self._arch = to_record.arch_of(event)
        return ended

    def _fatal(self, vcpu: _Vcpu, *, is_last: bool) -> Failure:
        """The exit that was waiting for a return to userspace."""
        event, vcpu.fatal = vcpu.fatal, None
        assert event is not None  # noqa: S101 -- asked for by every caller
        recent = tuple(vcpu.recent) if is_last else tuple(vcpu.recent)[:-1]
        exit_ = to_record.vm_exit(event, self._isa)
        return self._torn(vcpu, to_record.fatal_exit(vcpu.id, event, exit_, recent, is_last=is_last, path=self.path))

    def end(self) -> tuple[Failure, ...]:
        """No more events, or none that follow on these: what was still open. All is forgotten."""
        for thread in self._threads.values():
            self._forget(thread)
        self._threads.clear()
        return self._handed_out()

    def _handed_out(self) -> tuple[Failure, ...]:
        given_up = tuple(self._given_up)
        self._given_up.clear()
        return given_up

    # -- threads and vCPUs -------------------------------------------------------------------------

    def _thread(self, pid: int) -> _Thread:
        thread = self._threads.get(pid)
        if thread is None:
            thread = self._threads[pid] = _Thread(self._epoch, torn=self._epoch > 0)
            if len(self._threads) > _THREADS:
                self._forget(self._threads.popitem(last=False)[1])
        elif len(self._threads) > _THREADS // 2:
            self._threads.move_to_end(pid)
        if thread.epoch != self._epoch:
            thread.epoch = self._epoch
            for vcpu in (thread.unclaimed, *thread.vcpus.values()):
                self._give_up(vcpu)
                vcpu.recent.clear()
                vcpu.exit = None
                vcpu.torn = True
        return thread

    def _claim(self, thread: _Thread, number: int) -> _Vcpu:
        """From here on it is this vCPU that the thread runs; what nobody had claimed was its, too."""
        vcpu = thread.vcpus.get(number)
        if vcpu is None:
            if len(thread.vcpus) >= _VCPUS:  # no thread has so many
                for one in thread.vcpus.values():
                    self._give_up(one)
                thread.vcpus.clear()
            vcpu = thread.vcpus[number] = _Vcpu(number, torn=thread.unclaimed.torn)
        self._give(thread, vcpu)
        thread.current = vcpu
        return vcpu

    def _give(self, thread: _Thread, vcpu: _Vcpu) -> None:
        waiting = thread.unclaimed
        if waiting.recent:
            if waiting.failed is not None:
                self._give_up(vcpu)
                vcpu.failed = waiting.failed
            vcpu.recent.extend(waiting.recent)
            vcpu.exit = waiting.exit or vcpu.exit
            vcpu.fatal = waiting.fatal or vcpu.fatal
            vcpu.fault = waiting.fault or vcpu.fault
            vcpu.walk_failed = waiting.walk_failed or vcpu.walk_failed
            if vcpu.failed is not None and waiting.injected is not None:
                vcpu.injected = waiting.injected
        thread.unclaimed = _Vcpu(None, torn=waiting.torn)

    def _owner(self, thread: _Thread, vcpu: _Vcpu) -> _Vcpu:
        """Whose events these are, as far as that can be told now."""
        if vcpu.id is None and len(thread.vcpus) == 1:
            (owner,) = thread.vcpus.values()
            self._give(thread, owner)
            return owner
        return vcpu

    def _forget(self, thread: _Thread) -> None:
        """A new vCPU begins its life in this thread, or no more will be seen of it."""
        self._owner(thread, thread.unclaimed)
        for vcpu in (thread.unclaimed, *thread.vcpus.values()):
            self._give_up(vcpu)

    def _give_up(self, vcpu: _Vcpu) -> None:
        if vcpu.failed is not None:
            self._given_up.append(self._close(vcpu, told=None))
        elif vcpu.fatal is not None:
            self._given_up.append(self._fatal(vcpu, is_last=True))

    # -- how it ends -------------------------------------------------------------------------------

    def _went_on(self, vcpu: _Vcpu, event: TraceEvent) -> Failure:
        """KVM did not stop for the failed emulation."""
        if event.name == "kvm_entry" and vcpu.injected is None and event.number("intr_info") == _INJECTS_UD:
            vcpu.injected = _UD
        last = (event,) if event.name == "kvm_entry" else ()
        return self._close(vcpu, told=False if self._userspace_exits else None, last=last)

    def _left(self, thread: _Thread, vcpu: _Vcpu, event: TraceEvent) -> tuple[Failure, ...]:
        """KVM returned to userspace: for the failed emulation, for another failure, or in the course of things."""
        self._userspace_exits = True
        errno = event.number("errno") or 0
        reason = None if errno < 0 else event.number("exit" if event.name == "kvmppc_run_vcpu_exit" else "reason")
        is_legible = errno < 0 or reason is not None
        ended: tuple[Failure, ...] = ()
        if errno in BENIGN_ERRNOS or reason in _INTERLUDES:
            pass
        elif vcpu.failed is not None and reason == kvm_run.EXIT_INTERNAL_ERROR:
            ended = (self._close(self._owner(thread, vcpu), told=True),)
        else:
            if vcpu.failed is not None:
                ended = (self._close(self._owner(thread, vcpu), told=False if is_legible else None),)
            if errno < 0 or reason in FATAL or reason in kvm_run.ARM_LEFT_TO_VMM:
                ended += (self._returned(self._owner(thread, vcpu), event),)
            elif vcpu.fatal is not None and not is_legible:
                ended += (self._fatal(self._owner(thread, vcpu), is_last=True),)
        vcpu.fatal = vcpu.fault = None
        thread.current = None  # the next KVM_RUN may be another vCPU's
        if len(thread.vcpus) > 1 and vcpu.id is None:
            self._give_up(thread.unclaimed)
            thread.unclaimed = _Vcpu(None, torn=thread.unclaimed.torn)  # nobody will ever claim the others
        elif thread.vcpus:
            self._owner(thread, thread.unclaimed)
        return ended

    def _returned(self, owner: _Vcpu, event: TraceEvent) -> Failure:
        exit_ = to_record.vm_exit(owner.exit, self._isa, owner.fault)
        registers = to_record.registers_of(owner.exit) if owner.exit else {}
        registers |= to_record.registers_of(owner.fault) if owner.fault else {}
        failure = to_record.userspace_exit(
            owner.id, event, exit_, tuple(owner.recent), arch=self._arch, registers=registers, path=self.path
        )
        return self._torn(owner, failure)

    def _close(self, vcpu: _Vcpu, *, told: bool | None, last: tuple[TraceEvent, ...] = ()) -> Failure:
        """``told``: whether userspace heard of it; None if that cannot be known."""
        event, vcpu.failed = vcpu.failed, None
        injected, vcpu.injected = vcpu.injected, None
        assert event is not None  # noqa: S101 -- asked for by every caller
        self.waiting -= 1
        if told is None and injected is None and vcpu.silent_at == event.number("rip"):
            told, injected = False, _UD  # the same again: by CPL and capability, not by chance (x86.c)
        vcpu.silent_at = event.number("rip") if injected == _UD and not told else None
        recent = (*vcpu.recent, *last)[-EVENTS:]
        exit_ = to_record.vm_exit(vcpu.exit, self._isa)
        failure = to_record.failed_emulation(
            vcpu.id, event, exit_, recent, injected=injected, told=told, walk=vcpu.walk_failed, path=self.path
        )
        return self._torn(vcpu, failure)

    @staticmethod
    def _torn(vcpu: _Vcpu, failure: Failure) -> Failure:
        return to_record.incomplete(failure) if vcpu.torn and len(vcpu.recent) < EVENTS else failure
