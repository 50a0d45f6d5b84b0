"""Of what takes long ``./check`` takes a sample, the same each time; ``.ci/run --all`` takes all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, TypeVar

EVERY_CASE: Final = "KVMWHY_EVERY_CASE" in os.environ

Case = TypeVar("Case")


def sample(cases: Iterable[Case], step: int) -> list[Case]:
    """One case of so many; with KVMWHY_EVERY_CASE all of them."""
    return [*cases][:: 1 if EVERY_CASE else step]
