"""What a test needs of the machine that it runs on."""

from __future__ import annotations

import os
from typing import Literal, NoReturn

import pytest

# CI promises what it can install: KVMWHY_REQUIRE_CC=1 and so on.
Need = Literal["browser", "cc", "lab", "libvirt", "live", "packages", "recipes", "web"]


def missing(need: Need, reason: str) -> NoReturn:
    """Skip with the reason named; fail where the run promises that the need is met."""
    switch = f"KVMWHY_REQUIRE_{need.upper()}"
    if os.environ.get(switch) == "1":
        pytest.fail(f"{switch}=1, but: {reason}")
    pytest.skip(reason)
