"""What holds for all tests: hypothesis measures no time, for the machine may be busy with others.

A landing must not fail or pass by luck, so CI draws the same examples each time; ``./check`` on a developer's machine
and the fuzzers draw new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable" if "KVMWHY_REPEATABLE" in os.environ else "patient")

pytest_plugins = ["browser"]

# As in kvmwhy's own main: what the tests are run with where both decoders are installed.
if decoder := os.environ.get("KVMWHY_DECODER"):
    from kvmwhy.arch.x86.decoder import NAMES, choose

    choose(next(name for name in NAMES if name == decoder))
