"""The words of a record, one a line."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Declared

ANCHORS: Final[Declared] = ("data[", "suberror", "uberror:")
