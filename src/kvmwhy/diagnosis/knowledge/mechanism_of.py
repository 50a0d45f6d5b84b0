"""By which mechanisms a cause leaves its failure: what KVM says of it, or what its family has in common."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Cause
from kvmwhy.diagnosis.knowledge.bug import Bug

_EMULATION: Final = ("emulation-no-handler", "emulation-gives-up", "emulation-failed")
_ENTRY: Final = ("entry-refused-guest-state", "entry-refused-controls", "entry-vmfail-no-number")
# include/uapi/linux/kvm.h: KVM_INTERNAL_ERROR_*
OF_SUBERROR: Final[dict[int, tuple[str, ...]]] = {
    1: _EMULATION,
    2: ("simultaneous-events",),
    3: ("event-delivery",),
    4: ("exit-unhandled",),
}
OF_KIND: Final[dict[str, tuple[str, ...]]] = {
    "entry-failure": _ENTRY,
    "run-error": ("run-errno",),
    "setup-refused": ("setup-refused",),
    "shutdown": ("triple-fault",),
    "exception-exit": ("exception-exit",),
    "unknown-exit": ("exit-unknown-to-kvm",),
    "other": ("exit-unknown-to-vmm",),
    "undef-injected": ("undef-injected",),
    "host-trouble": ("host-trouble",),
}
OF_FAMILY: Final[dict[str, tuple[str, ...]]] = {
    "emulator-gap": _EMULATION,
    "fetch-non-ram": ("fetch-not-ram",),
    "memslot-race": ("fetch-not-ram",),
    "event-delivery": ("event-delivery",),
    "simultaneous-events": ("simultaneous-events",),
    "invalid-guest-state": _ENTRY,
    "smm": _ENTRY,
    "unhandled-exit": ("exit-unhandled",),
    "host-dying": ("exit-unhandled",),
    "host-memory": ("run-errno",),
    "arm64-no-syndrome": ("run-errno",),
    "not-x86-kvm": ("not-this",),
    "undecided": ("not-shown",),
}


def mechanisms_of(cause: Cause, bug: Bug | None) -> tuple[str, ...]:
    """Of a bug by what it must look like, else by the family; none if it is of several mechanisms."""
    if bug is not None and bug.shape.suberror is not None:
        return OF_SUBERROR.get(bug.shape.suberror, ())
    if bug is not None and bug.shape.kind in OF_KIND:
        return OF_KIND[bug.shape.kind]
    return OF_FAMILY.get(cause.family, ())
