"""Where a guest runs: one protocol, and machines that have it. /dev/kvm is KvmMachine.

A VMM in twenty lines. This guest reads a byte from a device that is not memory, adds one, and writes
it to a port; then it loads a float from the device, which KVM's emulator cannot do:

>>> from kvmwhy.machine import Guest, InternalError, Io, KvmMachine, Mmio
>>> code = bytes.fromhex("8a 03 04 01 e6 80 d9 03")  # mov (%rbx),%al; add $1,%al; out %al,$0x80; flds (%rbx)
>>> guest = Guest("long64", code, regs={"rbx": 0xD0000000})
>>> def vmm(guest):
...     with KvmMachine() as machine:
...         vcpu = guest.load(machine)
...         while True:
...             match vcpu.run(timeout=1.0):
...                 case Mmio(phys_addr=gpa, is_write=False, len=size):
...                     vcpu.complete(bytes([41]) * size)
...                     print(f"read {size} at {gpa:#x}")
...                 case Io(port=port, is_write=True, data=data):
...                     print(f"port {port:#x}: {data[0]}")
...                 case InternalError(suberror=suberror):
...                     return print("KVM gave up, suberror", suberror)
...                 case exit:
...                     return print(exit)
>>> vmm(guest)  # doctest: +SKIP
read 1 at 0xd0000000
port 0x80: 42
KVM gave up, suberror 1
"""

from __future__ import annotations

from kvmwhy.machine.errors import (
    BusyError,
    CapabilityAbsentError,
    ClosedError,
    CompletionError,
    GuestError,
    ImageTooLargeError,
    IoctlError,
    MachineError,
    NoKvmError,
    NoMemoryAtError,
    NotPermittedError,
    RefusedStateError,
    RegisterError,
    SlotAlignmentError,
    SlotError,
    SlotOverlapError,
    UnknownCapabilityError,
    UnknownModeError,
    WrongArchitectureError,
)
from kvmwhy.machine.exits import (
    ApResetHold,
    ArmLdst64b,
    ArmNisv,
    ArmSea,
    Debug,
    DirtyRingFull,
    ExceptionExit,
    Exit,
    FailEntry,
    Hlt,
    Hypercall,
    Hyperv,
    InternalError,
    Intr,
    Io,
    IoapicEoi,
    IrqWindowOpen,
    MemoryFault,
    Mmio,
    Nmi,
    Notify,
    Other,
    SetTpr,
    Shutdown,
    SnpReqCerts,
    SystemEvent,
    Tdx,
    TimedOut,
    TprAccess,
    Unknown,
    X86BusLock,
    X86Rdmsr,
    X86Wrmsr,
    Xen,
    decode_exit,
)
from kvmwhy.machine.kvm import KvmMachine
from kvmwhy.machine.memory import Slot
from kvmwhy.machine.protocol import Machine, Vcpu
from kvmwhy.machine.x86.boot_state import Mode
from kvmwhy.machine.x86.guest import Fault, Guest
from kvmwhy.machine.x86.state import CpuidEntry, DebugRegs, Dtable, Events, Regs, Segment, Sregs, replace

__all__ = [
    "ApResetHold",
    "ArmLdst64b",
    "ArmNisv",
    "ArmSea",
    "BusyError",
    "CapabilityAbsentError",
    "ClosedError",
    "CompletionError",
    "CpuidEntry",
    "Debug",
    "DebugRegs",
    "DirtyRingFull",
    "Dtable",
    "Events",
    "ExceptionExit",
    "Exit",
    "FailEntry",
    "Fault",
    "Guest",
    "GuestError",
    "Hlt",
    "Hypercall",
    "Hyperv",
    "ImageTooLargeError",
    "InternalError",
    "Intr",
    "Io",
    "IoapicEoi",
    "IoctlError",
    "IrqWindowOpen",
    "KvmMachine",
    "Machine",
    "MachineError",
    "MemoryFault",
    "Mmio",
    "Mode",
    "Nmi",
    "NoKvmError",
    "NoMemoryAtError",
    "NotPermittedError",
    "Notify",
    "Other",
    "RefusedStateError",
    "RegisterError",
    "Regs",
    "Segment",
    "SetTpr",
    "Shutdown",
    "Slot",
    "SlotAlignmentError",
    "SlotError",
    "SlotOverlapError",
    "SnpReqCerts",
    "Sregs",
    "SystemEvent",
    "Tdx",
    "TimedOut",
    "TprAccess",
    "Unknown",
    "UnknownCapabilityError",
    "UnknownModeError",
    "Vcpu",
    "WrongArchitectureError",
    "X86BusLock",
    "X86Rdmsr",
    "X86Wrmsr",
    "Xen",
    "decode_exit",
    "replace",
]
