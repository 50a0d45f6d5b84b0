"""A modelled vCPU: see ``protocol.Vcpu``."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from functools import partial
from math import inf
from time import monotonic, sleep
from types import TracebackType
from typing import Final, Self

from kvmwhy.abi.kvm_run import PAGE_SIZE
from kvmwhy.machine.completion import refusal
from kvmwhy.machine.errors import ClosedError, RefusedStateError, RegisterError
from kvmwhy.machine.exits import Exit, Intr, TimedOut
from kvmwhy.machine.model import fpu
from kvmwhy.machine.model import unicorn_state as layout
from kvmwhy.machine.model.clock import CLOCK
from kvmwhy.machine.model.context import Context, Settings, Work
from kvmwhy.machine.model.cpu import Cpu
from kvmwhy.machine.model.events import EXTERNAL, NON_MASKABLE, Event
from kvmwhy.machine.model.hypervisor import enter
from kvmwhy.machine.model.interruptible import interruptible
from kvmwhy.machine.model.memory import SharedMemory
from kvmwhy.machine.model.sregs_check import check_sregs
from kvmwhy.machine.x86 import state

_FRAGMENTS: Final = 64  # pieces that one instruction's I/O may come in; then settle() stops trying
_PATIENCE: Final = 0.001  # seconds between two tries of what never ends
_TRIES: Final = 64  # in which the guest gets nowhere; more would not help, so no time limit is waited for
_EFER: Final = 0xC000_0080
_MOV_SS: Final = 1  # KVM_X86_SHADOW_INT_MOV_SS
_ADDRESS_SIZES: Final = 0x8000_0008  # CPUID leaf; bits 7:0 of EAX are MAXPHYADDR
_WIDEST: Final = 52


class ModelVcpu:
    """Made by ``Model.create_vcpu``. It starts in the state after RESET."""

    def __init__(self, number: int, memory: SharedMemory, settings: Settings, reset: state.Sregs) -> None:
        self.id = number
        self._cpu = Cpu(memory, settings.mapped)
        self._memory = memory
        self._context = Context(self._cpu, memory, settings)
        self._work: Work | None = None
        self._kicked = False
        self._cr8 = 0
        self._apic_base = reset.apic_base
        self._written = memory.writes
        self._msrs: dict[int, int] = {}
        self._debug = state.DebugRegs()
        self.closed = False
        for backing in memory.backings:
            self._cpu.map(backing)
        self._cpu.pull()
        self.set_sregs(reset)
        self.set_regs(state.Regs(rip=0xFFF0, rdx=0x600))
        self._cpu.env.xcr0 = 1
        fpu.reset(self._cpu)

    def __repr__(self) -> str:
        return f"<ModelVcpu {self.id}{' closed' if self.closed else ''}>"

    # -- running -----------------------------------------------------------------------------------

    def run(self, timeout: float | None = None) -> Exit:
        return interruptible(partial(self._run, timeout), self.kick)

    def _run(self, timeout: float | None) -> Exit:
        self._check_open()
        deadline = inf if timeout is None else monotonic() + max(0.0, timeout)
        cpu = self._cpu
        if self._written != self._memory.writes:
            self._written = self._memory.writes
            cpu.forget_code()
        cpu.asked = False
        tries, moves = 0, self._context.moves
        CLOCK.enter(cpu, deadline)
        try:
            while not self._kicked:
                if self._advance():
                    self._fill_head()
                    return self._context.page.exit()
                if self.closed:
                    raise ClosedError(f"vCPU {self.id} was closed while it ran")
                tries, moves = (tries + 1 if moves == self._context.moves else 0), self._context.moves
                if timeout is None:
                    sleep(_PATIENCE if tries else 0)
                elif tries >= _TRIES or monotonic() >= deadline:
                    return TimedOut(timeout)
            self._kicked = False
            return Intr()
        finally:
            CLOCK.leave(cpu)

    def _advance(self) -> bool:
        """One more piece of the work under way, or a new VM entry; True: there is an exit."""
        if self._work is None:
            self._work = enter(self._context)
        try:
            return next(self._work)
        except StopIteration:
            self._work = None
            return False

    def _fill_head(self) -> None:
        flags = layout.get_rflags(self._cpu.env)
        interrupts = bool(flags & layout.IF)
        ready = interrupts and self._context.queue.next() is None
        self._context.page.head(ready=ready, interrupts=interrupts, cr8=self._cr8, apic_base=self._apic_base)

    def settle(self) -> None:
        for _ in range(_FRAGMENTS):
            if self._work is None:
                return
            try:
                next(self._work)
            except StopIteration:
                self._work = None

    def kick(self) -> None:
        self._kicked = True
        CLOCK.kick(self._cpu)

    def complete(self, data: bytes) -> None:
        self._context.page.complete(data)

    def refuse(self) -> None:
        refusal(self._context.page.bytes)  # no MSR access ever exits here

    def page(self) -> bytes:
        return bytes(self._context.page.bytes[:PAGE_SIZE])

    # -- state -------------------------------------------------------------------------------------

    def get_regs(self) -> state.Regs:
        self._check_open()
        return layout.get_regs(self._cpu.env)

    def set_regs(self, regs: state.Regs) -> None:
        self._check_open()
        state.regs_to_bytes(regs)  # raises RegisterError
        layout.set_regs(self._cpu.env, regs)
        self._context.queue.exception = None  # KVM_SET_REGS forgets a pending exception

    def get_sregs(self) -> state.Sregs:
        self._check_open()
        waiting = self._context.queue.interrupt
        vector = None if waiting is None else waiting.vector
        return layout.get_sregs(self._cpu.env, cr8=self._cr8, apic_base=self._apic_base, interrupt=vector)

    def set_sregs(self, sregs: state.Sregs) -> None:
        self._check_open()
        state.sregs_to_bytes(sregs)  # raises RegisterError
        check_sregs(sregs, self._context.settings.kernel, self._physical_bits)
        env = self._cpu.env
        layout.set_sregs(env, sregs)
        layout.update_hflags(env)
        self._cr8, self._apic_base = sregs.cr8, sregs.apic_base
        bits = [64 * n + bit for n, word in enumerate(sregs.interrupt_bitmap) for bit in range(64) if word >> bit & 1]
        if bits:
            self.interrupt(bits[-1])

    def restore(self, regs: state.Regs, sregs: state.Sregs, events: state.Events) -> None:
        self.settle()
        self.set_regs(regs)
        self.set_sregs(sregs)
        self.set_events(events)

    @property
    def _physical_bits(self) -> int:
        return next((e.eax & 0xFF for e in self._cpu.cpuid if e.function == _ADDRESS_SIZES), _WIDEST)

    def get_events(self) -> state.Events:
        self._check_open()
        return self._context.queue.show(shadow=bool(self._cpu.env.hflags & 1 << 3))

    def set_events(self, events: state.Events) -> None:
        self._check_open()
        state.events_to_bytes(events)  # raises RegisterError
        vector = events.exception_nr
        if (events.exception_injected or events.exception_pending) and (vector > 31 or vector == 2):
            fact = f"vector {vector} is no exception"
            raise RefusedStateError("KVM_SET_VCPU_EVENTS", errno.EINVAL, "0 to 31, but not 2", fact)
        self._context.queue.load(events)
        if events.flags & 4:
            layout.set_inhibit(self._cpu.env, shadow=bool(events.interrupt_shadow))
            self._context.mov_ss = bool(events.interrupt_shadow & _MOV_SS)

    def get_debugregs(self) -> state.DebugRegs:
        self._check_open()
        dr = self._cpu.env.dr
        return state.DebugRegs((dr[0], dr[1], dr[2], dr[3]), dr[6], dr[7])

    def set_debugregs(self, regs: state.DebugRegs) -> None:
        self._check_open()
        state.debugregs_to_bytes(regs)  # raises RegisterError
        dr = self._cpu.env.dr
        dr[0], dr[1], dr[2], dr[3] = regs.db
        dr[6], dr[7] = regs.dr6, regs.dr7

    def get_xcrs(self) -> dict[int, int]:
        self._check_open()
        return {0: self._cpu.env.xcr0}

    def set_xcrs(self, xcrs: Mapping[int, int]) -> None:
        self._check_open()
        state.xcrs_to_bytes(xcrs)  # raises RegisterError
        offered = next((e.eax for e in self._cpu.cpuid if e.function == 0xD and e.index == 0), 1)
        value = xcrs.get(0, self._cpu.env.xcr0)
        if not value & 1 or value & ~offered or value & 6 == 4 or any(xcrs.keys() - {0}):
            fact = f"XCR0 = {value:#x} is refused"
            advice = "bit 0 is always set, AVX needs SSE, and CPUID leaf 0xd must offer the rest"
            raise RefusedStateError("KVM_SET_XCRS", errno.EINVAL, advice, fact)
        self._cpu.env.xcr0 = value

    def get_msrs(self, indices: Iterable[int]) -> dict[int, int]:
        self._check_open()
        self._cpu.push()
        return {index: self._cpu.uc.msr_read(index) for index in indices}

    def set_msrs(self, msrs: Mapping[int, int]) -> None:
        self._check_open()
        state.msrs_to_bytes(msrs)  # raises RegisterError
        self._cpu.push()
        for index, value in msrs.items():
            self._cpu.uc.msr_write(index, value)
        self._cpu.pull()
        if _EFER in msrs:
            self._cpu.env.efer = msrs[_EFER]

    def get_cpuid(self) -> tuple[state.CpuidEntry, ...]:
        self._check_open()
        return self._cpu.cpuid

    def set_cpuid(self, entries: Iterable[state.CpuidEntry]) -> None:
        self._check_open()
        entries = tuple(entries)
        state.cpuid_to_bytes(entries)  # raises RegisterError
        self._cpu.cpuid = entries

    def get_fpu(self) -> bytes:
        self._check_open()
        return fpu.get_fpu(self._cpu)

    def set_fpu(self, fpu_: bytes, /) -> None:
        self._check_open()
        fpu.set_fpu(self._cpu, _exactly("kvm_fpu", fpu_, fpu.FPU_SIZE))

    def get_xsave(self) -> bytes:
        self._check_open()
        return fpu.get_xsave(self._cpu)

    def set_xsave(self, area: bytes) -> None:
        self._check_open()
        fpu.set_xsave(self._cpu, _exactly("kvm_xsave", area, fpu.XSAVE_SIZE))

    def interrupt(self, vector: int) -> None:
        self._check_open()
        if not 0 <= vector <= 255:
            raise RegisterError("interrupt vector", vector, 8)
        self._context.queue.interrupt = Event(vector, EXTERNAL)

    def nmi(self) -> None:
        self._check_open()
        self._context.queue.nmi = Event(2, NON_MASKABLE)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"vCPU {self.id} is closed")

    @property
    def cpu(self) -> Cpu:
        """For the machine, which maps memory into it."""
        return self._cpu

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the vCPU, in whatever thread it runs. Again: nothing."""
        if not self.closed:
            self.closed = True
            CLOCK.kick(self._cpu)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


def _exactly(name: str, data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise RegisterError(f"{name} of {len(data)} bytes", None, 0)
    return data
