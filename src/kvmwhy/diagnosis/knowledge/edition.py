"""The edition of what kvmwhy knows: stored answers say by which they were given."""

from __future__ import annotations

from typing import Final

EDITION: Final = "2026-11-30"  # the day on which causes, bugs, weights or priors last changed
