"""One instruction and one guest physical address without memory, asked of this host's KVM: arm64 and riscv64.

Each question gets a VM of its own, so that no answer hangs on another and the instruction cache holds nothing old.
"""

from __future__ import annotations

import platform
from typing import Final, Literal, NamedTuple

from kvmwhy.abi.arm64 import esr
from kvmwhy.abi.riscv64.causes import cause
from kvmwhy.abi.riscv64.one_reg import BY_NUMBER
from kvmwhy.abi.uname import Arch, arch_of
from kvmwhy.arch.arm64 import operand as arm64_operand
from kvmwhy.arch.riscv64 import operand as riscv64_operand
from kvmwhy.machine import arm64, riscv64
from kvmwhy.machine.bare_guest import BareGuest, Isa, Stopped
from kvmwhy.machine.exits import ArmNisv, Mmio
from kvmwhy.machine.one_reg import OneRegVm

Setup = Literal["plain", "nisv", "abort"]
"""plain: as a VMM that asks for nothing; nisv: with KVM_CAP_ARM_NISV_TO_USER; abort: the same, and the guest gets an
external abort, as from QEMU 5.1 and later."""

NISV: Final = "KVM_CAP_ARM_NISV_TO_USER"
ABORT: Final = "KVM_CAP_ARM_INJECT_EXT_DABT"
_MEMORY: Final = 1 << 16
_ELSEWHERE: Final = 0x1000_0000  # how far the RAM moves where the address would be in it
_BELL_SIZE: Final = 1 << 16
_DEFAULT_IPA_BITS: Final = 40  # of a VM of type 0 (Documentation/virt/kvm/api.rst: KVM_CREATE_VM)
_HIGHEST: Final = 1 << 52
_U64: Final = (1 << 64) - 1


class Bare(NamedTuple):
    """What makes VMs of an architecture."""

    machine: type[OneRegVm]
    isa: Isa


BARE: Final[dict[Arch, Bare]] = {
    "arm64": Bare(arm64.Arm64Machine, arm64.ISA),
    "riscv64": Bare(riscv64.Riscv64Machine, riscv64.ISA),
}


def host_arch() -> Arch | None:
    return arch_of(platform.machine())


def setups(arch: Arch) -> tuple[Setup, ...]:
    """Those that this host's KVM has. Raises MachineError."""
    if arch != "arm64":
        return ("plain",)
    with BARE[arch].machine() as machine:
        if not machine.capability(NISV):
            return ("plain",)
        return ("plain", "nisv", "abort") if machine.capability(ABORT) else ("plain", "nisv")


def points_at(arch: Arch, code: bytes, address: int) -> dict[str, int] | None:
    """The registers with which the instruction accesses ``address``; None if it is no load or store with a base."""
    if arch == "arm64":
        operand = arm64_operand.operand(int.from_bytes(code[:4], "little"))
        if operand is None or (operand.added == operand.base != arm64_operand.STACK_POINTER):
            return None  # an index that is the base register cannot be zero
        stack = arm64.ISA.stack if operand.base == arm64_operand.STACK_POINTER else f"x{operand.base}"
        return {stack: address - operand.offset & _U64}
    access = riscv64_operand.operand(code)
    if access is None or not access.base:
        return None
    return {BY_NUMBER[access.base]: address - access.offset & _U64}


def ask(
    arch: Arch, code: bytes, address: int, setup: Setup = "plain", *, regs: dict[str, int] | None = None
) -> Stopped:
    """Run the instruction. ``regs`` instead of those that make it access ``address``. Raises MachineError."""
    bare = BARE[arch]
    if regs is None:
        regs = points_at(arch, code, address) or {}
    page = address & ~(_BELL_SIZE - 1)
    ram = bare.isa.ram
    while ram - _BELL_SIZE <= page <= ram + _MEMORY:
        ram += _ELSEWHERE
    bell = next(bell for bell in bare.isa.bells if bell != page)
    bits = address.bit_length() if address.bit_length() > _DEFAULT_IPA_BITS and address < _HIGHEST else 0
    with bare.machine(vm_type=bits if arch == "arm64" else 0) as machine:
        if setup != "plain":
            machine.enable(NISV)
        guest = BareGuest(bare.isa, code, memory=_MEMORY, ram=ram, bell=bell, regs=regs)
        return guest.run(guest.load(machine), timeout=1.0, limit=16, inject=setup == "abort")


# -- in words ------------------------------------------------------------------------------------------


def kind(stopped: Stopped) -> str:
    """For programs: mmio, nisv, an errno's name, trap, done, loops, or the exit's name."""
    match stopped.how:
        case "errno":
            return stopped.errno_name
        case "timeout" | "many":
            return "loops"
        case "trap":
            return "trap"
        case "exit":
            last = stopped.exits[-1]
            return "nisv" if isinstance(last, ArmNisv) else last.name
    return "mmio" if any(isinstance(exit_, Mmio) for exit_ in stopped.exits) else "done"


def in_words(arch: Arch, stopped: Stopped) -> str:
    """What became of the access, in one clause."""
    accesses = [exit_ for exit_ in stopped.exits if isinstance(exit_, Mmio)]
    match kind(stopped):
        case "mmio":
            size = "+".join(str(access.len) for access in accesses)
            size += " byte" if size == "1" else " bytes"
            return f"KVM_EXIT_MMIO, a {'write' if accesses[0].is_write else 'read'} of {size}"
        case "done":
            return "done without an exit"
        case "nisv":
            last = stopped.exits[-1]
            direction = "write" if isinstance(last, ArmNisv) and last.esr_iss & _WNR else "read"
            return f"KVM_EXIT_ARM_NISV, a {direction}"
        case "loops":
            return "the guest goes round for ever, and KVM_RUN does not return"
        case "trap":
            assert stopped.trap is not None  # noqa: S101 -- how it stopped
            return f"the guest takes {_trap(arch, stopped.trap.cause)}"
    if stopped.how == "errno":
        return f"KVM_RUN fails with {kind(stopped)}"
    return kind(stopped)


def _trap(arch: Arch, number: int) -> str:
    """An exception that the guest took: ESR_EL1 or SCAUSE. Kernels before 6.2 give ESR_EL1 the sign of its bit 31."""
    if arch != "arm64":
        return f"{cause(number)} (SCAUSE {number:#x})"
    number &= 0xFFFF_FFFF
    name = _ABORTS.get(esr.exception_class(number))
    text = (
        f"{name}, {esr.fault_status(number & 0x3F)}"
        if name
        else esr.CLASSES.get(esr.exception_class(number), "an exception")
    )
    return f"{text} (ESR_EL1 {number:#x})"


_WNR: Final = 1 << 6
# Classes of ESR_EL1: from EL0 and from EL1 itself.
_ABORTS: Final = {
    0x20: "an instruction abort",
    0x21: "an instruction abort",
    0x24: "a data abort",
    0x25: "a data abort",
}
