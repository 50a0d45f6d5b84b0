"""Builds a guest of arm64 or riscv64 out of bytes of code: no boot code runs, and address translation is off.

Every exception has a handler that rings a bell, a store to an address without memory, and so has the end of the code:
such an exit is MMIO on any KVM, and where the PC is tells which of them rang. What the guest took is in its registers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from kvmwhy.abi.error_numbers import NAMES
from kvmwhy.abi.kvm_run import PAGE_SIZE
from kvmwhy.abi.uname import Arch
from kvmwhy.machine.errors import (
    GuestError,
    ImageTooLargeError,
    IoctlError,
    RegisterError,
    SlotAlignmentError,
)
from kvmwhy.machine.exits import ArmNisv, Exit, Mmio, TimedOut
from kvmwhy.machine.memory import pieces
from kvmwhy.machine.one_reg import OneRegVcpu, OneRegVm

CODE: Final = 0x1000  # of the RAM: before it lie the handlers
_U64: Final = 1 << 64


class Isa(NamedTuple):
    """What a bare guest needs of an architecture. ``saved``: the register that ringing takes, and where it is kept."""

    arch: Arch
    ram: int
    bells: tuple[int, int]  # two pages that a guest may have no use for
    ring: Callable[[int], bytes]
    handlers: Callable[[int], bytes]
    vector_size: int
    start: Mapping[str, int]
    vectors: str  # the register that holds the handlers' address
    stack: str
    saved: tuple[str, str]
    trap: tuple[str, str, str]  # cause, address, and PC of an exception
    general: tuple[str, ...]


class Trap(msgspec.Struct, frozen=True):
    """An exception that the guest took. ``cause`` is ESR_EL1 or SCAUSE, ``address`` FAR_EL1 or STVAL."""

    cause: int
    address: int
    pc: int
    vector: int = 0  # the offset of its handler


class Stopped(msgspec.Struct, frozen=True):
    """How a guest ended. ``exits`` are those before, the last included if it was one.

    ``how``: end (it came to the end of its code), trap, errno (KVM_RUN failed), exit, timeout, many (too many exits).
    """

    how: Literal["end", "trap", "errno", "exit", "timeout", "many"]
    exits: tuple[Exit, ...] = ()
    errno: int | None = None
    trap: Trap | None = None

    @property
    def errno_name(self) -> str:
        return NAMES.get(self.errno or 0, str(self.errno))


class BareGuest(msgspec.Struct, frozen=True):
    """A guest that is about to run ``code``, at ``origin``; ``memory`` bytes of RAM start at ``ram``, without ``mmio``.

    Raises GuestError, RegisterError, SlotAlignmentError, ImageTooLargeError.
    """

    isa: Isa
    code: bytes
    memory: int = 1 << 20
    ram: int = -1  # where the architecture has it, unless the guest says otherwise
    mmio: tuple[tuple[int, int], ...] = ()
    regs: Mapping[str, int] = {}
    bell: int = -1

    def __post_init__(self) -> None:
        if self.ram < 0:
            msgspec.structs.force_setattr(self, "ram", self.isa.ram)
        if self.bell < 0:
            msgspec.structs.force_setattr(self, "bell", self.isa.bells[0])
        for gpa, size in ((self.ram, self.memory), *self.mmio):
            if gpa < 0 or size <= 0 or gpa % PAGE_SIZE or size % PAGE_SIZE:
                fact = f"{size:#x} bytes at {gpa:#x} are not made of whole pages"
                raise SlotAlignmentError(fact, gpa, size, "pages are 4096 bytes")
        ring = len(self.isa.ring(self.bell))
        room = self.memory - CODE - ring
        if len(self.code) > room:
            raise ImageTooLargeError(len(self.code), room, self.entry)
        end = self.entry + len(self.code) + ring
        for gpa, size in self.mmio:
            if gpa < end and self.ram < gpa + size:
                raise GuestError(f"the hole at {gpa:#x} would take the guest's own handlers or code")
        for name, value in self.regs.items():
            if name not in {*self.isa.general, self.isa.stack, *self.isa.start}:
                raise RegisterError(name, value, 0)
            if not 0 <= value < _U64:
                raise RegisterError(name, value, 64)

    @property
    def entry(self) -> int:
        """The address of the first byte of code."""
        return self.ram + CODE

    @property
    def end(self) -> int:
        return self.entry + len(self.code)

    def load(self, machine: OneRegVm) -> OneRegVcpu:
        """Put it into an empty machine. The vCPU that is about to run it."""
        for gpa, size in pieces(self.ram, self.memory, self.mmio):
            machine.add_memory(gpa, size)
        machine.write(self.ram, self.isa.handlers(self.bell))
        machine.write(self.entry, self.code + self.isa.ring(self.bell))
        vcpu = machine.create_vcpu()
        self.start(vcpu)
        return vcpu

    def start(self, vcpu: OneRegVcpu) -> None:
        """Every register as the code is to find it."""
        vcpu.settle()
        top = (self.ram + self.memory) & ~0xF
        values = {
            **dict.fromkeys(self.isa.general, 0),
            **self.isa.start,
            self.isa.vectors: self.ram,
            self.isa.stack: top,
            "pc": self.entry,
            **self.regs,
        }
        for name, value in values.items():
            vcpu.set(name, value)

    # -- running -----------------------------------------------------------------------------------

    def run(
        self,
        vcpu: OneRegVcpu,
        *,
        timeout: float,
        limit: int = 64,
        inject: bool = False,
        seen: Callable[[Exit], None] = lambda _: None,
    ) -> Stopped:
        """Run it to where it ends. Reads are answered with zeros.

        ``inject``: KVM_EXIT_ARM_NISV is answered with an external abort, as QEMU does. ``seen`` gets each exit.
        """
        exits: list[Exit] = []
        for _ in range(limit):
            try:
                exit_ = vcpu.run(timeout)
            except IoctlError as error:
                return Stopped("errno", tuple(exits), errno=error.errno)
            is_bell = isinstance(exit_, Mmio) and exit_.is_write and exit_.phys_addr == self.bell
            if is_bell and (stopped := self._rung(vcpu, tuple(exits))):
                return stopped
            exits.append(exit_)
            seen(exit_)
            match exit_:
                case TimedOut():
                    return Stopped("timeout", tuple(exits))
                case Mmio(is_write=False, len=size):
                    vcpu.complete(bytes(size))
                case ArmNisv() if inject:
                    vcpu.inject_abort()
                case Mmio():
                    pass
                case _:
                    return Stopped("exit", tuple(exits))
        return Stopped("many", tuple(exits))

    def _rung(self, vcpu: OneRegVcpu, exits: tuple[Exit, ...]) -> Stopped | None:
        """Which of them rang; None: it is a store of the guest's own code, to the same address."""
        pc = vcpu.get("pc")
        if self.end <= pc < self.end + len(self.isa.ring(self.bell)):
            return Stopped("end", exits)
        if not self.ram <= pc < self.ram + CODE:
            return None
        cause, address, origin = (vcpu.get(name) for name in self.isa.trap)
        offset = pc - self.ram
        vector = offset // self.isa.vector_size * self.isa.vector_size if self.isa.vector_size else 0
        return Stopped("trap", exits, trap=Trap(cause, address, origin, vector))

    def registers(self, vcpu: OneRegVcpu, stopped: Stopped) -> dict[str, int]:
        """The vCPU's registers as the code left them: what a handler changed is put back."""
        values = vcpu.all()
        if stopped.how in {"end", "trap"}:
            values[self.isa.saved[0]] = values[self.isa.saved[1]]
        if stopped.trap:
            values["pc"] = stopped.trap.pc
        elif stopped.how == "end":
            values["pc"] = self.end
        return values
