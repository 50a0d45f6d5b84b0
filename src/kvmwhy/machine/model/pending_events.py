"""The events that wait for the next VM entry, and how ``struct kvm_vcpu_events`` shows them."""

from __future__ import annotations

from dataclasses import dataclass

from kvmwhy.machine.model.events import EXTERNAL, HARDWARE, NON_MASKABLE, SOFTWARE, Event
from kvmwhy.machine.model.traps import BP, OF
from kvmwhy.machine.x86.state import Events

_VALID_NMI, _VALID_SHADOW = 1, 4  # KVM_VCPUEVENT_VALID_NMI_PENDING, _SHADOW


@dataclass
class Queue:
    """One event of each kind at most, as in KVM."""

    exception: Event | None = None
    interrupt: Event | None = None
    nmi: Event | None = None
    nmi_masked: bool = False
    sipi_vector: int = 0

    def next(self) -> Event | None:
        return self.exception or self.nmi or self.interrupt

    def take(self) -> Event | None:
        """The event to inject now; it is no longer in the queue."""
        event = self.next()
        if event is self.exception:
            self.exception = None
        elif event is self.nmi:
            self.nmi, self.nmi_masked = None, True
        else:
            self.interrupt = None
        return event

    def put_back(self, event: Event) -> None:
        """Its delivery did not come about."""
        if event.type == NON_MASKABLE:
            self.nmi = event
        elif event.type in {EXTERNAL, SOFTWARE}:
            self.interrupt = event
        else:
            self.exception = event

    def show(self, *, shadow: bool) -> Events:
        """KVM keeps software events to itself: their length would be lost (kvm_exception_is_soft)."""
        exception = self.exception if self.exception is None or self.exception.vector not in {BP, OF} else None
        interrupt = self.interrupt if self.interrupt is None or self.interrupt.type != SOFTWARE else None
        code = None if exception is None else exception.error_code
        return Events(
            exception_injected=int(exception is not None),
            exception_nr=0 if exception is None else exception.vector,
            exception_has_error_code=int(code is not None),
            exception_error_code=code or 0,
            interrupt_injected=int(interrupt is not None),
            interrupt_nr=0 if interrupt is None else interrupt.vector,
            interrupt_shadow=int(shadow),
            nmi_injected=int(self.nmi is not None),
            nmi_masked=int(self.nmi_masked),
            sipi_vector=self.sipi_vector,
            flags=_VALID_NMI | _VALID_SHADOW,
        )

    def load(self, events: Events) -> None:
        self.exception = self.interrupt = self.nmi = None
        if events.exception_injected or events.exception_pending:
            code = events.exception_error_code if events.exception_has_error_code else None
            self.exception = Event(events.exception_nr, HARDWARE, code)
        if events.interrupt_injected:
            self.interrupt = Event(events.interrupt_nr, SOFTWARE if events.interrupt_soft else EXTERNAL)
        if events.nmi_injected or (events.flags & _VALID_NMI and events.nmi_pending):
            self.nmi = Event(2, NON_MASKABLE)
        self.nmi_masked = bool(events.nmi_masked)
