"""Builds a guest: bytes of code become a VM that is about to execute the first of them.

No boot code runs: the vCPU is put straight into its mode, with flat segments and the first 4 GiB
identity-mapped. Every vector has a handler that halts at an address of its own, so that a halted
guest tells which exception it took; behind the code lies HLT, so that it also tells when it ran
through. See ``tables`` for what lies where.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import Final, cast

import msgspec

from kvmwhy.abi.kvm_run import PAGE_SIZE
from kvmwhy.machine.errors import GuestError, ImageTooLargeError, RegisterError, SlotAlignmentError, UnknownModeError
from kvmwhy.machine.memory import pieces
from kvmwhy.machine.protocol import Machine, Vcpu
from kvmwhy.machine.x86 import boot_state
from kvmwhy.machine.x86.boot_state import MODES, ORIGIN, STUB_SIZE, STUBS, VECTORS, Mode
from kvmwhy.machine.x86.state import Dtable, Events, Regs, Sregs

HLT: Final = b"\xf4"
_NOTHING_PENDING: Final = Events()
# #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX push an error code, but not in real mode.
_ERROR_CODES: Final = {8, 10, 11, 12, 13, 14, 17, 21, 29, 30}
_GP: Final = 13
_FRAMES: Final = {"real16": "<HHH", "prot32": "<III", "long64": "<QQQ"}


class Fault(msgspec.Struct, frozen=True):
    """The exception (or interrupt) whose handler the guest halted in. ``rip`` is where it came from."""

    vector: int
    error_code: int | None
    rip: int
    cs: int
    rflags: int


class Guest(msgspec.Struct, frozen=True, dict=True):
    """A guest that is about to run ``code``.

    >>> guest = Guest("long64", bytes.fromhex("d9 03"), cpl=3, regs={"rbx": 0xD0000000})
    >>> guest.entry
    65536

    ``memory`` bytes of RAM start at 0, in whole pages, with a hole for each (address, size) in
    ``mmio``; everything above is a hole, too. ``origin`` is where the code lies; in real mode IP starts
    at 0, with CS.base there. ``regs`` are the registers it starts with. ``idt`` is another (base,
    limit) for IDTR than that of the table of handlers. ``xcr0`` turns on XSAVE with these components.
    ``cpuid`` gives the guest all that KVM supports; without, CPUID is empty.

    Raises UnknownModeError, GuestError, RegisterError, SlotAlignmentError, ImageTooLargeError.
    """

    mode: Mode
    code: bytes
    cpl: int = 0
    memory: int = 1 << 20
    mmio: tuple[tuple[int, int], ...] = ()
    origin: int = ORIGIN
    regs: dict[str, int] = {}
    idt: tuple[int, int] | None = None
    xcr0: int = 0
    cpuid: bool = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownModeError(self.mode, MODES)
        if self.cpl not in {0, 3}:
            raise GuestError(f"CPL is {self.cpl}", "0 or 3")
        if self.cpl and self.mode == "real16":
            raise GuestError("real mode has no CPL 3", "use prot32 or long64")
        self._check_registers()
        self._check_memory()

    def _check_registers(self) -> None:
        bits = 64 if self.mode == "long64" else 32
        for name, value in self.regs.items():
            if name not in Regs.__struct_fields__:
                raise RegisterError(name, value, 0)
            if not 0 <= value < 1 << bits:
                raise RegisterError(name, value, bits)
        base, limit = self.idt or (0, 0)
        for name, value, width in (("xcr0", self.xcr0, 64), ("idt base", base, 64), ("idt limit", limit, 16)):
            if not 0 <= value < 1 << width:
                raise RegisterError(name, value, width)
        if self.xcr0 and not self.cpuid:
            raise GuestError("XCR0 needs CPUID", "leave cpuid=True")

    def _check_memory(self) -> None:
        if self.memory <= 0 or self.memory % PAGE_SIZE:
            raise SlotAlignmentError(
                f"{self.memory:#x} bytes of memory are not whole pages", 0, self.memory, "pages are 4096 bytes"
            )
        below = boot_state.USER_STACK
        if self.origin < below or self.origin % 16:
            raise GuestError(f"code cannot start at {self.origin:#x}", f"from {below:#x} on, in steps of 16")
        if self.mode == "real16" and self.origin + len(self.code) > 0x100000:
            raise GuestError("real mode ends at 1 MiB", "a lower origin, or less code")
        room = self.memory - self.origin
        if len(self.code) > room:
            raise ImageTooLargeError(len(self.code), room, self.origin)
        end = self.origin + max(1, len(self.code))
        for gpa, size in self.mmio:
            if gpa < 0 or size <= 0 or gpa % PAGE_SIZE or size % PAGE_SIZE:
                raise SlotAlignmentError(
                    f"a hole of {size:#x} bytes at {gpa:#x} is not made of whole pages", gpa, size, "4096 bytes each"
                )
            if gpa < below or (gpa < end and self.origin < gpa + size):
                raise GuestError(f"the hole at {gpa:#x} would take the guest's own tables, stack or code")

    # -- what it is made of ------------------------------------------------------------------------

    @property
    def entry(self) -> int:
        """The linear address of the first byte of code."""
        return self.origin

    @property
    def ram(self) -> tuple[tuple[int, int], ...]:
        """(address, size) of each piece of RAM between the holes."""
        return pieces(0, self.memory, self.mmio)

    @property
    def padding(self) -> int:
        """How many HLT follow the code: to the end of its page, or of the RAM before the next hole."""
        end = self.origin + len(self.code)
        return -end % PAGE_SIZE

    def start_regs(self, vcpu_id: int = 0) -> Regs:
        """The registers at the start; each vCPU has a stack of its own."""
        rip = 0 if self.mode == "real16" else self.origin
        top = boot_state.USER_STACK if self.cpl else boot_state.KERNEL_STACK
        stack = top - boot_state.STACK_SIZE * (vcpu_id % 4)
        return Regs(**{"rip": rip, "rsp": stack, **self.regs})

    # -- on a machine ------------------------------------------------------------------------------

    def load(self, machine: Machine) -> Vcpu:
        """Put it into an empty machine. The vCPU that is about to run it."""
        self.place(machine)
        return self.add_vcpu(machine)

    def place(self, machine: Machine) -> None:
        """Memory, tables and code, without a vCPU."""
        for gpa, size in self.ram:
            machine.add_memory(gpa, size)
        machine.write(0, boot_state.low_memory(self.mode))
        machine.write(self.origin, self.code + HLT * self.padding)

    def add_vcpu(self, machine: Machine) -> Vcpu:
        """One more vCPU that is about to run the code."""
        vcpu = machine.create_vcpu()
        if self.cpuid:
            vcpu.set_cpuid(machine.supported_cpuid())
        sregs, regs = self._state(vcpu.id)
        vcpu.set_sregs(sregs)
        vcpu.set_regs(regs)
        if self.xcr0:
            vcpu.set_xcrs({0: self.xcr0})
        return vcpu

    def restart(self, vcpu: Vcpu) -> None:
        """Forget what is pending and start again. Memory, MSRs and FPU stay as the guest left them."""
        sregs, regs = self._states.get(vcpu.id) or self._state(vcpu.id)
        vcpu.restore(regs, sregs, _NOTHING_PENDING)

    @cached_property
    def _states(self) -> dict[int, tuple[Sregs, Regs]]:
        """What each vCPU starts with; the same values every time, as a machine may know them again."""
        return {}

    def _state(self, vcpu_id: int) -> tuple[Sregs, Regs]:
        idt = None if self.idt is None else Dtable(*self.idt)
        xsave, bsp = self.xcr0 != 0, vcpu_id == 0
        sregs = boot_state.sregs(self.mode, cpl=self.cpl, origin=self.origin, idt=idt, xsave=xsave, bsp=bsp)
        return self._states.setdefault(vcpu_id, (sregs, self.start_regs(vcpu_id)))

    # -- afterwards --------------------------------------------------------------------------------

    def fault(self, machine: Machine, vcpu: Vcpu) -> Fault | None:
        """The exception in whose handler the vCPU has halted, or None if it is somewhere else."""
        regs = vcpu.get_regs()
        in_stub = STUBS <= regs.rip < STUBS + VECTORS * STUB_SIZE and vcpu.get_sregs().cs.base == 0
        if not in_stub:
            return None
        vector = (regs.rip - STUBS) // STUB_SIZE
        frame, at = struct.Struct(_FRAMES[self.mode]), regs.rsp
        error_code = None
        if vector in _ERROR_CODES and self.mode != "real16":
            width = frame.size // 3
            error_code = int.from_bytes(machine.read(at, width), "little")
            at += width
        rip, cs, rflags = cast("tuple[int, int, int]", frame.unpack(machine.read(at, frame.size)))
        return Fault(vector, error_code, rip, cs & 0xFFFF, rflags)

    def ran_through(self, machine: Machine, vcpu: Vcpu) -> bool:
        """It came to the HLT behind the code; at CPL 3 that is #GP, as HLT is privileged."""
        fault = self.fault(machine, vcpu)
        if fault is None:
            base = self.origin if self.mode == "real16" else 0
            return self._in_padding(vcpu.get_regs().rip - 1 + base)  # HLT leaves RIP behind itself
        return self.cpl == 3 and fault.vector == _GP and self._in_padding(fault.rip)

    def _in_padding(self, address: int) -> bool:
        end = self.origin + len(self.code)
        return end <= address < end + self.padding
