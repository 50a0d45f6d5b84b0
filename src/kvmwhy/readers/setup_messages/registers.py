"""The registers that QEMU dumps behind ``Failed to put registers``: those that KVM refused."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.normalize import Text
from kvmwhy.record import Cpu

_REACH: Final = 8192
_MARKS: Final = ("EAX=", "RAX=")


def registers_behind(text: str, at: int) -> Cpu | None:
    """x86 registers that begin within a few lines; ``None``: there are none."""
    behind = text[at : at + _REACH]
    begin = min((n for mark in _MARKS if (n := behind.find(mark)) >= 0), default=-1)
    if begin < 0 or behind.count("\n", 0, begin) > 4:
        return None
    from kvmwhy.readers.qemu import log

    evidence = log.read(Text(behind[begin:]))
    return evidence.failures[0].cpu if evidence.failures else None
