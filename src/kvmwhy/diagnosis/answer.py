"""What a diagnosis says: what happened, whose doing it was, and where each proof was seen."""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct

from kvmwhy.record import At

Certainty = Literal["certain", "likely", "possible"]


class Proof(Struct, frozen=True):
    """One fact that speaks for or against an answer, in words, and where it was seen."""

    text: str
    at: At | None = None


class Mechanism(NamedTuple):
    """What happened, as KVM, the kernel or the VMM saw it: exactly one for each failure."""

    id: str
    text: str
    certainty: Certainty
    for_: tuple[Proof, ...] = ()
    against: tuple[Proof, ...] = ()


class Origin(Struct, frozen=True):
    """Whose doing it may have been. The shares of all origins of one failure sum to 1."""

    id: str
    share: float
    reports: int = 0  # labelled public reports of this mechanism and origin
    for_: tuple[Proof, ...] = ()
    against: tuple[Proof, ...] = ()


class Advice(Struct, frozen=True):
    """What one of the three can do, chosen by the facts. ``origin`` is whose doing it then was."""

    role: Literal["guest", "vmm", "host"]
    text: str
    origin: str | None = None
