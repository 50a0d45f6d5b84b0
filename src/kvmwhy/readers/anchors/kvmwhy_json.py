"""kvmwhy's own records."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

ANCHORS: Final[Declared] = (
    Anchor('{"schema":', near=('"kind"',), within=256),
    Anchor('"schema" :', near=('"kind"',), within=256),
    Anchor('"schema": ', near=('"kind"',), within=256),
)
