"""What the options of ``kvmwhy serve`` are unless they are given.

Every command imports it when it starts, so it has numbers and names alone.
"""

from __future__ import annotations

from typing import Final

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")  # what --host can be without a warning; the first is its default
BODY: Final = 32  # MiB, as the next two
UNPACKED: Final = 512
MEMORY: Final = 1024
SECONDS: Final = 20
DAYS: Final = 30
