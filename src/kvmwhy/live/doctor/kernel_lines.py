"""What KVM said in the kernel's log as it started, as far as the log still has it and may be read."""

from __future__ import annotations

import os
from contextlib import suppress

_MOST: int = 20_000  # records
_LARGEST: int = 8192  # bytes of one


def kernel_lines(path: str = "/dev/kmsg", word: bytes = b"kvm") -> str:
    """The messages that have ``word`` in them, one a line. Empty if the log may not be read."""
    found = []
    try:
        log = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with suppress(OSError):  # EAGAIN: that was the last one
        for _ in range(_MOST):
            try:
                record = os.read(log, _LARGEST)
            except BrokenPipeError:  # overwritten meanwhile: the next one is there
                continue
            if not record:
                break
            if word in record:
                found.append(record.partition(b";")[2].partition(b"\n")[0].decode("utf-8", "replace"))
    os.close(log)
    return "\n".join(found)
