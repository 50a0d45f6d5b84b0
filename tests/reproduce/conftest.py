"""The lab's cases are used as guests here; a machine for live tests, or the reason why there is none."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from kvmwhy.machine import KvmMachine, MachineError
from needs import missing

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: boots another kernel under an emulator; runs only if KVMWHY_LAB is set")


@pytest.fixture(scope="session")
def kvm() -> type[KvmMachine]:
    """What makes an empty machine on /dev/kvm."""
    try:
        KvmMachine().close()
    except MachineError as error:
        missing("live", str(error))
    return KvmMachine


@pytest.fixture(scope="session")
def cc() -> str:
    """A C compiler."""
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        missing("cc", "no C compiler")
    return str(found)
