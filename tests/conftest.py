"""What holds for all tests: hypothesis measures no time, for the machine may be busy with others.

A landing must not fail or pass by luck, so CI draws the same examples each time; ``./check`` on a developer's machine
and the fuzzers draw new ones.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable" if "KVMWHY_REPEATABLE" in os.environ else "patient")

pytest_plugins = ["browser"]

# As in kvmwhy's own main: what the tests are run with where both decoders are installed.
if decoder := os.environ.get("KVMWHY_DECODER"):
    from kvmwhy.arch.x86.decoder import NAMES, choose

    choose(next(name for name in NAMES if name == decoder))

_ENDLESS = 20  # seconds of this process's CPU, for what takes one at most


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Fail a test whose work does not end: what should be linear is not. Not a second of other processes counts."""

    def fail(*_: object) -> NoReturn:
        pytest.fail(f"not done after {_ENDLESS} seconds of CPU")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, fail)
    signal.setitimer(signal.ITIMER_PROF, _ENDLESS)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)
