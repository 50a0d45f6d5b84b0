"""Symptoms of a failure whose record is elsewhere."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

TEXTS: Final = (
    "internal-error", "Resetting the Virtual Machine", "aused (unknown)", "aused (Unknown)", "aused(unknown)",
    "PAUSED_UNKNOWN", "PausedUnknown", "paused-unknown", "paused unexpectedly", "paused due to", "internal error",
    '"STOP"', "is stuck:", "platform/kvm.(*",
)  # fmt: skip
ANCHORS: Final[Declared] = tuple(Anchor(text, weak=True) for text in TEXTS)
