"""A sign: one typed fact that speaks for or against some origins, with its reason.

The weights are log-odds in half steps up to three: e^1 is "about three times as likely as among all reports of that
mechanism". Those written here are an expert's. Where labelled reports of at least two independent bugs support
others, ``weights.py`` has them, and they are used instead (tools/fit_origins.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At, HostEvent

# What a test answers: where the fact was seen, or a word for the sentence's ``{}``, or only whether it holds.
Answer = At | HostEvent | str | bool | None
Weights = dict[str, float]
Test = Callable[[Scene], Answer]

ORIGINS: Final = (
    "guest-code",
    "guest-firmware",
    "vm-configuration",
    "vmm",
    "vmm-race",
    "host-kernel",
    "host-setup",
    "outer-hypervisor",
    "cpu",
    "confidential-stack",
    "host-dying",
    "none",
)

REFUSED_ENTRY: Final = ("entry-refused-guest-state", "entry-refused-controls", "entry-vmfail-no-number")
EMULATION: Final = ("emulation-no-handler", "emulation-gives-up", "emulation-failed")
STOPPED: Final = (
    *REFUSED_ENTRY,
    *EMULATION,
    "fetch-not-ram",
    "event-delivery",
    "simultaneous-events",
    "exit-unhandled",
    "run-errno",
    "triple-fault",
    "exception-exit",
)


class OfEvents(Struct, frozen=True):
    """The test for the first line of the host's kernel of one of these kinds: not asked where there is no line."""

    kinds: tuple[str, ...]

    def __call__(self, scene: Scene) -> Answer:
        return scene.event(*self.kinds)


class Sign(Struct, frozen=True):
    """``says`` is the sentence that a person reads, with ``{}`` for a name. ``mechanisms``: ``None`` for all."""

    id: str
    mechanisms: tuple[str, ...] | None
    test: Callable[[Scene], Answer]
    says: str
    weights: Weights
    source: str


def weights(**by_origin: float) -> Weights:
    """``weights(host_kernel=2)``: log-odds by origin, in half steps."""
    return {name.replace("_", "-"): weight for name, weight in by_origin.items()}
