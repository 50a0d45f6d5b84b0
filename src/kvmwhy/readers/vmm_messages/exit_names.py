"""Names of KVM's exits as programs spell them, and the kinds of failure that they are.

The kernel's KVM_EXIT_FAIL_ENTRY is FailEntry in kvm-ioctls and crosvm, EXITFAILENTRY in gokvm, fail_entry in gVisor:
without case and underscores they are one name.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.kvm_run import EXIT_HYPERCALL, EXITS, ROUTINE
from kvmwhy.record import Kind

# Variants of kvm-ioctls' and crosvm's VcpuExit that are not the kernel's name.
_OTHER_NAMES: Final = {
    "IOIN": 2,
    "IOOUT": 2,
    "MMIOREAD": 6,
    "MMIOWRITE": 6,
    "HALT": 5,
    "RDMSR": 29,
    "WRMSR": 30,
    "SYSTEMEVENTSHUTDOWN": 24,
    "SYSTEMEVENTRESET": 24,
    "SYSTEMEVENTCRASH": 24,
    "TRIPLEFAULT": 8,
    "HWERROR": 0,
}
_NUMBERS: Final = {each.name.replace("_", ""): number for number, each in EXITS.items()} | _OTHER_NAMES
# Exits that a VMM meets all the time. Named alone they report no failure.
ORDINARY: Final = ROUTINE | {EXIT_HYPERCALL}
FAILURES: Final = frozenset({0, 1, 8, 9, 17, 39})
_KINDS: Final[dict[int, Kind]] = {
    0: "unknown-exit",
    1: "exception-exit",
    8: "shutdown",
    9: "entry-failure",
    17: "internal-error",
}


def number_of(name: str) -> int | None:
    """KVM_EXIT_… of a name in any spelling."""
    folded = name.upper().replace("_", "").replace(" ", "")
    for prefix in ("", "KVMEXIT", "EXIT", "VCPUEXIT", "VMEXIT"):
        if folded.startswith(prefix) and folded[len(prefix) :] in _NUMBERS:
            return _NUMBERS[folded[len(prefix) :]]
    return None


def kind_of(reason: int) -> Kind:
    return _KINDS.get(reason, "other")
