"""The lab is no part of the package: its tests bring it into reach themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: boots another kernel under an emulator; runs only if KVMWHY_LAB is set")
