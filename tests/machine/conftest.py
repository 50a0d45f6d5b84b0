"""A machine for each live test, or the reason why there is none."""

import os
from collections.abc import Iterator

import pytest

from kvmwhy.machine import KvmMachine, MachineError


@pytest.fixture(scope="session")
def _kvm_works() -> None:
    try:
        KvmMachine().close()
    except MachineError as error:
        if os.environ.get("KVMWHY_REQUIRE_LIVE") == "1":
            pytest.fail(f"KVMWHY_REQUIRE_LIVE=1, but: {error}")
        pytest.skip(str(error))


@pytest.fixture
def machine(_kvm_works: None) -> Iterator[KvmMachine]:
    with KvmMachine() as machine:
        yield machine
