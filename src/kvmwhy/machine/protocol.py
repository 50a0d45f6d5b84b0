"""What every machine can do, whether it is /dev/kvm or a model of it.

Protocols and no base class: a function that takes a ``Machine`` runs on any. All errors are
MachineErrors (see ``errors``); addresses and sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self

from kvmwhy.machine.exits import Exit
from kvmwhy.machine.memory import Slot
from kvmwhy.machine.x86.state import CpuidEntry, DebugRegs, Events, Regs, Sregs


class Running(Protocol):
    """What a vCPU of every architecture does: run, exit, be answered, and end."""

    @property
    def id(self) -> int: ...

    def run(self, timeout: float | None = None) -> Exit:
        """Run the guest until it exits; at most ``timeout`` seconds, then the exit is TimedOut."""

    def complete(self, data: bytes) -> None:
        """Answer a read (MMIO, port, MSR) or a hypercall. Raises CompletionError if it does not fit."""

    def refuse(self) -> None:
        """Answer an MSR access with #GP. Raises CompletionError if the exit was none."""

    def settle(self) -> None:
        """Let KVM finish the I/O of the last exit without running the guest.

        Until then, registers are those of an instruction half done: settle() before they are read
        for good, or replaced.
        """

    def kick(self) -> None:
        """From any thread: make run() return Intr at once, or the next one if none is under way."""

    def page(self) -> bytes:
        """A copy of the ``kvm_run`` page, 4096 bytes, as the last exit left it."""

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Vcpu(Running, Protocol):
    """One virtual CPU of x86. It starts in the state after RESET: real mode, at 0xfffffff0."""

    def get_regs(self) -> Regs: ...
    def set_regs(self, regs: Regs) -> None: ...
    def get_sregs(self) -> Sregs: ...
    def set_sregs(self, sregs: Sregs) -> None: ...
    def get_events(self) -> Events: ...
    def set_events(self, events: Events) -> None: ...
    def restore(self, regs: Regs, sregs: Sregs, events: Events) -> None:
        """settle(), then load all three: a fresh start of the vCPU. The very same values again are loaded faster."""

    def get_debugregs(self) -> DebugRegs: ...
    def set_debugregs(self, regs: DebugRegs) -> None: ...
    def get_xcrs(self) -> dict[int, int]: ...
    def set_xcrs(self, xcrs: Mapping[int, int]) -> None:
        """``{0: XCR0}``; CPUID comes first."""

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]: ...
    def set_msrs(self, msrs: Mapping[int, int]) -> None: ...
    def get_cpuid(self) -> tuple[CpuidEntry, ...]: ...
    def set_cpuid(self, entries: Iterable[CpuidEntry]) -> None:
        """Before the vCPU runs for the first time."""

    def get_fpu(self) -> bytes:
        """``struct kvm_fpu``: 416 bytes."""

    def set_fpu(self, fpu: bytes) -> None: ...
    def get_xsave(self) -> bytes:
        """The XSAVE area: 4096 bytes."""

    def set_xsave(self, area: bytes) -> None: ...
    def interrupt(self, vector: int) -> None:
        """Queue an external interrupt (there is no interrupt controller in the kernel)."""

    def nmi(self) -> None: ...


class Memory(Protocol):
    """A VM without its vCPUs: memory slots and capabilities, the same for every architecture."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...

    def add_memory(self, gpa: int, size: int, *, readonly: bool = False, data: bytes = b"") -> Slot:
        """A new memory slot, zeroed, with ``data`` at its start. Guest writes to a read-only one exit as MMIO.

        Raises SlotAlignmentError, SlotOverlapError, ImageTooLargeError.
        """

    def remove_memory(self, slot: Slot) -> None:
        """Raises SlotError if this machine has no such slot."""

    def read(self, gpa: int, size: int) -> bytes:
        """Guest memory, across slots. Raises NoMemoryAtError where there is none."""

    def write(self, gpa: int, data: bytes) -> None:
        """Also into read-only slots: read-only is for the guest. Raises NoMemoryAtError."""

    def capability(self, cap: str | int) -> int:
        """KVM_CHECK_EXTENSION: 0 if it is absent. Raises UnknownCapabilityError for an unknown name."""

    def enable(self, cap: str | int, *args: int) -> None:
        """KVM_ENABLE_CAP with up to four numbers. Raises CapabilityAbsentError."""

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Machine(Memory, Protocol):
    """A VM of x86: memory, capabilities and vCPUs. Closing it closes its vCPUs."""

    @property
    def vcpus(self) -> tuple[Vcpu, ...]: ...

    def supported_cpuid(self) -> tuple[CpuidEntry, ...]: ...

    def create_vcpu(self, vcpu_id: int | None = None) -> Vcpu:
        """The next free id, if none is given."""
