"""Resets of a CPU, as ``qemu -d cpu_reset`` logs them."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

ANCHORS: Final[Declared] = (Anchor("CPU Reset (CPU ", weak=True),)
