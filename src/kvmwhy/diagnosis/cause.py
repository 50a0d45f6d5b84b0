"""A cause: its catalogue page, and the finding that a rule makes of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

Confidence = Literal["certain", "likely", "possible"]
FAMILIES = (
    "emulator-gap",
    "fetch-non-ram",
    "event-delivery",
    "simultaneous-events",
    "invalid-guest-state",
    "smm",
    "outer-hypervisor",
    "host-kernel-bug",
    "cpu-erratum",
    "confidential-guest",
    "host-memory",
    "memslot-race",
    "vcpu-state",
    "other-hypervisor",
    "unhandled-exit",
    "host-dying",
    "split-lock",
    "guest-drives-missing-hardware",
    "undecided",
    "arm64-no-syndrome",
    "not-x86-kvm",
)


class Fix(NamedTuple):
    """What each of the three can do; ``None`` where there is nothing for them to do."""

    guest: str | None = None  # the author of the code in the guest
    vmm: str | None = None  # the author of the VMM
    host: str | None = None  # whoever runs the host


class Cause(Struct, frozen=True):
    """The page of one cause. ``id`` never changes its meaning; ``family`` is one of FAMILIES."""

    id: str
    family: str
    title: str
    what: str
    recognise: str
    confused_with: str
    fix: Fix
    references: tuple[str, ...]
    example: str


class Finding(NamedTuple):
    """A cause that fits one failure, with the facts that speak for it and against it.

    ``answer`` is the first line a person reads if this finding comes first. ``fix`` overrides the
    page's advice where the facts allow a better one.
    """

    cause: Cause
    confidence: Confidence
    answer: str
    for_: tuple[str, ...]
    against: tuple[str, ...] = ()
    fix: Fix | None = None
    also: tuple[str, ...] = ()  # other entries that say the same, and are in this finding

    @property
    def advice(self) -> Fix:
        return self.fix or self.cause.fix
