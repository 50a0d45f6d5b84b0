"""A machine for each live test, or the reason why there is none."""

from collections.abc import Iterator

import pytest

from kvmwhy.machine import KvmMachine, MachineError
from needs import missing


@pytest.fixture(scope="session")
def _kvm_works() -> None:
    try:
        KvmMachine().close()
    except MachineError as error:
        missing("live", str(error))


@pytest.fixture
def machine(_kvm_works: None) -> Iterator[KvmMachine]:
    with KvmMachine() as machine:
        yield machine
