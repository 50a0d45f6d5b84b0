"""What can go wrong between a VMM and a machine, named by the fact.

Every error is a MachineError and also the builtin that fits, so that ``except OSError`` and ``except
ValueError`` mean what they always mean. Those of the kernel carry ``ioctl`` and ``errno``; all of
them say in ``advice`` what to do, where something can be done.
"""

from __future__ import annotations

import errno
import os

from kvmwhy.abi.error_numbers import NAMES


class MachineError(Exception):
    """The root. ``advice`` is one sentence, empty where there is nothing to advise."""

    def __init__(self, fact: str, advice: str = "") -> None:
        super().__init__(f"{fact}: {advice}" if advice else fact)
        self.fact = fact
        self.advice = advice


class IoctlError(MachineError, OSError):
    """The kernel refused a request on /dev/kvm. ``ioctl`` is its name, or ``open``/``mmap``."""

    def __init__(self, ioctl: str, number: int, advice: str = "", fact: str | None = None) -> None:
        name = NAMES.get(number, str(number))
        super().__init__(fact or f"{ioctl} failed with {name} ({os.strerror(number)})", advice)
        self.ioctl = ioctl
        self.errno = number
        self.strerror = os.strerror(number)

    def __str__(self) -> str:  # OSError's would be "[Errno …] …"
        return f"{self.fact}: {self.advice}" if self.advice else self.fact


class NoKvmError(IoctlError, FileNotFoundError):
    """This host has no /dev/kvm, or no hardware behind it."""


class WrongArchitectureError(NoKvmError):
    """A guest of another architecture than this host's: its KVM runs none."""

    def __init__(self, guest: str, host: str) -> None:
        fact = f"this host is {host}, and its KVM runs no {guest} guests"
        super().__init__("open", errno.ENOEXEC, f"it takes a host that is {guest}", fact)
        self.guest = guest
        self.host = host


class NotPermittedError(IoctlError, PermissionError):
    """/dev/kvm is there, but not for this user."""


class BusyError(IoctlError):
    """Another hypervisor holds the CPU's virtualization. ``holders`` are its modules, if loaded."""

    def __init__(self, ioctl: str, holders: tuple[str, ...]) -> None:
        advice = f"stop its guests or unload {', '.join(holders)}" if holders else "stop the other hypervisor"
        who = f"the module {holders[0]}" if holders else "another hypervisor"
        super().__init__(ioctl, errno.EBUSY, advice, f"{ioctl} failed with EBUSY: {who} holds VMX or SVM")
        self.holders = holders


class CapabilityAbsentError(MachineError, OSError):
    """This KVM does not have that capability (KVM_CHECK_EXTENSION is 0), or refuses the value."""

    def __init__(self, name: str, number: int, advice: str = "", fact: str | None = None) -> None:
        super().__init__(fact or f"this KVM lacks {name} ({number})", advice)
        self.name = name
        self.number = number
        self.errno = errno.EOPNOTSUPP

    def __str__(self) -> str:
        return f"{self.fact}: {self.advice}" if self.advice else self.fact


class UnknownCapabilityError(MachineError, ValueError):
    """A capability's name that is in no table here; its number works."""


class SlotError(MachineError, ValueError):
    """A memory slot that KVM cannot have. ``gpa`` and ``size`` are the slot's, in bytes."""

    def __init__(self, fact: str, gpa: int, size: int, advice: str = "") -> None:
        super().__init__(fact, advice)
        self.gpa = gpa
        self.size = size


class SlotAlignmentError(SlotError):
    """Address or size is no multiple of a page, or the size is zero."""


class SlotOverlapError(SlotError):
    """Part of it is in another slot already."""


class NoMemoryAtError(MachineError, ValueError):
    """Reading or writing guest memory where no slot is."""

    def __init__(self, gpa: int, size: int) -> None:
        super().__init__(f"no slot holds {size} bytes at {gpa:#x}", "add_memory() makes one")
        self.gpa = gpa
        self.size = size


class ImageTooLargeError(MachineError, ValueError):
    """The guest's code does not fit where it is to be loaded. Sizes in bytes."""

    def __init__(self, size: int, room: int, origin: int) -> None:
        super().__init__(
            f"the image has {size} bytes, and from {origin:#x} there are {max(room, 0)} of memory",
            "give the guest more memory",
        )
        self.size = size
        self.room = room


class UnknownModeError(MachineError, ValueError):
    """A CPU mode that the guest builder does not make."""

    def __init__(self, mode: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown mode {mode!r}", f"one of {', '.join(known)}")
        self.mode = mode
        self.known = known


class GuestError(MachineError, ValueError):
    """A guest that contradicts itself: CPL 3 in real mode, a hole over its own tables."""


class RegisterError(MachineError, ValueError):
    """A register that does not exist, or a value that does not fit it. ``bits`` is its width, 0 if it has none."""

    def __init__(self, register: str, value: object, bits: int) -> None:
        shown = f"{value:#x}" if isinstance(value, int) else repr(value)
        fact = f"{register} has {bits} bits, {shown} does not fit" if bits else f"there is no register {register!r}"
        super().__init__(fact, "values are unsigned" if isinstance(value, int) and value < 0 else "")
        self.register = register
        self.value = value
        self.bits = bits


class RefusedStateError(IoctlError, ValueError):
    """KVM read the state and refused it: a value or a combination that no CPU of this kind can have."""


class CompletionError(MachineError, ValueError):
    """An answer to an exit that asks for none, or of another size."""


class ClosedError(MachineError, ValueError):
    """The machine or vCPU was closed."""
