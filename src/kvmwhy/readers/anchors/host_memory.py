"""What a VMM's line about a memory error of the host holds."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Declared

ANCHORS: Final[Declared] = (
    "Memory Error at QEMU addr",
    "Hardware memory error at addr",
    "Hardware memory error for",
    "Hardware memory error!",
)
