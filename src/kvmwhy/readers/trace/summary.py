"""What a trace shows in which nothing fails: how much, from when to when, and how it ends.

It may still answer a question: an exit that comes back for ever is a guest that makes no progress, and the last thing
that KVM did may be an exception that it put into the guest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.readers.trace import symbols, to_record
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.record import Arch, Cpu, Failure, Kind, Source, Symptom

HEALTHY: Final = "healthy-trace"
REPEATS: Final = "exit-repeats"
_EVENTS: Final = 16
_LEAST: Final = 3  # events: fewer are quoted in a sentence
_REPEATED: Final = 8  # exits without progress before that is called a loop
_VCPUS: Final = 4096
# Exits that end when what they ask for has been done: the same again means that it was not.
_VMX_FAULTS: Final = {vmx.EPT_VIOLATION, vmx.EPT_MISCONFIG, 0}  # 0: EXCEPTION_NMI
_GUEST_FAULTS: Final = {0x20, 0x24}  # arm64: instruction and data abort from a lower exception level
_RISCV_FAULTS: Final = {20, 21, 23}
_GIVES_EXCEPTION: Final = {6, 13}  # #UD, #GP


class _Last:
    """The end of one vCPU's story."""

    __slots__ = ("address", "exit", "recent", "repeats", "signature")

    def __init__(self) -> None:
        self.recent: deque[TraceEvent] = deque(maxlen=_EVENTS)
        self.exit: TraceEvent | None = None
        self.signature: tuple[object, ...] | None = None
        self.address: int | None = None
        self.repeats = 0


class Summary:
    """Feed it events in order; ``failure`` is what there is to say."""

    def __init__(self, *, path: str | None = None) -> None:
        self.path = path
        self.events: int | None = 0  # ``None``: not all were read
        self.first: TraceEvent | None = None
        self.last: TraceEvent | None = None
        self._vcpus: dict[tuple[int, int | None], _Last] = {}

    def feed(self, events: Iterable[TraceEvent]) -> None:
        for event in events:
            if self.events is not None:
                self.events += 1
            self.first = self.first or event
            self.last = event
            if len(self._vcpus) < _VCPUS or (event.pid, event.vcpu) in self._vcpus:
                _take(self._vcpus.setdefault((event.pid, event.vcpu if not event.pid else None), _Last()), event)

    def failure(self) -> Failure | None:
        """``None`` if these are no events of a guest's life."""
        is_story = (self.events is None or self.events >= _LEAST) and any(vcpu.exit for vcpu in self._vcpus.values())
        if self.first is None or self.last is None or not is_story:
            return None
        looping = max(self._vcpus.values(), key=lambda vcpu: vcpu.repeats)
        if looping.repeats >= _REPEATED and looping.exit is not None:
            return self._loop(looping)
        vcpu = next(v for v in self._vcpus.values() if v.recent and v.recent[-1] is self.last)
        kind: Kind = "undef-injected" if _refused(vcpu) else "healthy"
        return self._record(kind, vcpu, {"ends_in": self.last.name}, HEALTHY)

    def _loop(self, vcpu: _Last) -> Failure:
        fields: dict[str, int | str] = {"repeats": vcpu.repeats}
        if vcpu.address is not None:
            fields["address"] = vcpu.address
        return self._record("symptom", vcpu, fields, REPEATS)

    def _record(self, kind: Kind, vcpu: _Last, fields: dict[str, int | str], symptom: str) -> Failure:
        assert self.first is not None  # noqa: S101 -- asked for by ``failure``
        assert self.last is not None  # noqa: S101
        event = vcpu.exit or vcpu.recent[-1]
        arch = _arch(vcpu.recent)
        times = {
            name: round(event.time * 1e9)
            for name, event in (("first_ns", self.first), ("last_ns", self.last))
            if event.time is not None
        }
        counted: dict[str, int | str] = {} if self.events is None else {"events": self.events}
        registers = to_record.registers_of(event)
        return Failure(
            kind=kind,
            arch=arch,
            arch_from="event format" if arch else None,
            source=Source(
                path=self.path,
                line=self.first.place or None,
                last_line=self.last.place or None,
                vcpu=next((e.vcpu for e in reversed(vcpu.recent) if e.vcpu is not None), None),
                time=None if self.first.time is None else f"{self.first.time:.6f}",
                last_time=None if self.last.time is None else f"{self.last.time:.6f}",
                writer=f"thread {event.pid}" if event.pid else None,
            ),
            cpu=Cpu(registers=registers) if registers else None,
            exit=to_record.vm_exit(vcpu.exit, None),
            symptom=Symptom(kind=symptom, fields={**counted, **times, **fields}),
            trace=tuple(map(to_record.shown, vcpu.recent)),
        )


def _take(vcpu: _Last, event: TraceEvent) -> None:
    vcpu.recent.append(event)
    if event.name == "kvm_exit":
        signature = _signature(event)
        if signature is None or signature != vcpu.signature:
            vcpu.signature, vcpu.repeats = signature, 0
        vcpu.exit = event
        vcpu.repeats += signature is not None
    elif event.name in {"kvm_page_fault", "kvm_guest_fault"}:
        address = event.number("fault_address") if event.name == "kvm_page_fault" else event.number("ipa")
        if address != vcpu.address:
            vcpu.address, vcpu.repeats = address, min(vcpu.repeats, 1)
    elif event.name in {"kvm_userspace_exit", "kvm_mmio", "kvm_pio"}:
        vcpu.signature, vcpu.repeats = None, 0  # a device answers: polling is no loop of KVM's


def _signature(event: TraceEvent) -> tuple[object, ...] | None:
    """An exit that says why and where; ``None`` for one that may well come again."""
    reason, isa = event.number("exit_reason"), event.number("isa")
    if reason is not None:
        is_fault = reason in _VMX_FAULTS if isa == symbols.VMX else reason == svm.NPF or 0x40 <= reason < 0x60
        return (reason, event.number("guest_rip"), event.number("info1")) if is_fault else None
    if (cause := event.number("scause")) is not None:
        return (cause, event.number("sepc"), event.number("stval")) if cause in _RISCV_FAULTS else None
    if (exception_class := event.number("esr_ec")) in _GUEST_FAULTS:
        return (exception_class, event.number("vcpu_pc"))
    return None


def _refused(vcpu: _Last) -> bool:
    """The last thing that KVM did was to put #UD or #GP into the guest for an instruction that it had emulated."""
    events = list(vcpu.recent)[-3:]
    if events and events[-1].name == "kvm_entry":
        events.pop()
    if len(events) < 2 or events[-1].name != "kvm_inj_exception" or events[-1].number("reinjected"):
        return False
    return events[-1].number("exception") in _GIVES_EXCEPTION and events[-2].name == "kvm_emulate_insn"


def _arch(events: Iterable[TraceEvent]) -> Arch | None:
    return next((arch for event in events if (arch := to_record.arch_of(event))), None)
