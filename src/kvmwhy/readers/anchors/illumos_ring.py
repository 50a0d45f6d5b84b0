"""illumos' ring buffer of each vCPU."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Declared

ANCHORS: Final[Declared] = ("efail-1",)
