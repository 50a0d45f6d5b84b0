"""What one request may cost, and how many there may be."""

from __future__ import annotations

import msgspec

from kvmwhy.serve import defaults


class ServerLimits(msgspec.Struct, frozen=True):
    """Sizes are bytes. The server refuses what is above ``body``; the rest is what a request's own process may use."""

    body: int = defaults.BODY << 20
    unpacked: int = defaults.UNPACKED << 20
    members: int = 2000  # of archives
    failures: int = 200
    seconds: int = defaults.SECONDS  # of wall clock for one explanation, and of CPU
    memory: int = defaults.MEMORY << 20  # address space
    upload: int = 60  # seconds for the whole of a body
    silence: int = 10  # seconds between two parts of a body
    workers: int = 2  # at once
    waiting: int = 64  # requests that send or wait; more are turned away
    kept: int = 10_000  # redacted records
    kept_bytes: int = 256 << 20  # of all of them
    days: int = defaults.DAYS  # that a record is kept
