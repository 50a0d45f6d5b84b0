"""QEMU's report of a failure: the announcing lines, the words, and the lines of register dumps of any architecture."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared, Report

_ANNOUNCEMENTS: Final[Declared] = (
    "Suberror",
    "KVM internal error",
    "xtra data[",
    Anchor("KVM:", near=("entry", "unknown", "exception"), within=64),
    "kvm run failed",
    "kvm: unhandled exit",
    "kvm_run returned",
)
# Every line of a dump holds one of these, so that a window of a few lines is found, too.
_REGISTERS: Final[Declared] = (
    "RAX=", "EAX=", "RSI=", "ESI=", "R8 =", "R12=", "RIP=", "EIP=", "ES =", "CS =", "SS =", "DS =", "FS =", "GS =",
    "LDT=", "TR =", "GDT=", "IDT=", "CR0=", "DR0=", "DR6=", "EFER=", "Code=",
)  # fmt: skip
# kvm-userspace and qemu-kvm of 2007 to 2012, and other architectures.
_RARE: Final = (
    "unhandled vm exit",
    "kvm_run: ",
    "vm entry failed with error",
    "un-handled exit reason",
    "Unknown KVM exit: ",
    "kvm_arch_handle_exit: unknown",
    "Unknown intercept code",
    "panic s390: ",
    "Guest crashed on cpu",
    "GUEST_PANICKED",
    "KVM unimplemented icpt",
    "Data abort exception triggered",
    "Data abort exception with no",
    "un-handled SBI EXIT",
    "Unhandled SBI exit",
    "un-handled CSR EXIT",
    "Unmanageable ",
)
RARE: Final = (*_RARE, "exception ")  # the last is of 2007, above a register dump, whose anchors are enough
# The dumps of kvm-userspace and qemu-kvm.
OLD_DUMPS: Final = (
    "rax 00", "rax ff", "rsi 00", "rsi ff", "r8  00", "r8  ff", "r12 00", "r12 ff", "rflags 0", " dpl ", "gdt ", "cr0 ",
)  # fmt: skip
_NEAR_OLD: Final = ("rbx", "rdi", "r9 ", "r13", "rip ", " db ", "idt ", "cr2 ", "cr3 ", " avl", "/")
# Those of other architectures; three or four registers a line.
OTHER_ARCHES: Final = (
    *(f"X{n:02}=" for n in range(2, 30, 3)), "PSTATE=",
    "R00=", "R04=", "R08=", "PSR=", "PSW=mask", "C00=", "C04=", "C08=", "C12=",
    "NIP ", *(f"GPR{n:02}" for n in range(0, 32, 4)), "SRR0 ", "HSRR0",
    *(f"x{n}/" for n in range(0, 32, 4)), "mhartid", "mstatus", "FCSR0 ", "CP0 Status",
)  # fmt: skip
ANCHORS: Final[Declared] = (
    *_ANNOUNCEMENTS,
    *_REGISTERS,
    *_RARE,
    *(Anchor(text, near=_NEAR_OLD, within=200) for text in OLD_DUMPS),
    *OTHER_ARCHES,
)
REPORT: Final = Report("KVM internal error", "Code=")
