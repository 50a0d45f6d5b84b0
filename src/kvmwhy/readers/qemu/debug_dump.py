"""A register dump that ``qemu -d`` logs: those of failures, with a line about the emulator's own flags in it."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers.qemu import log
from kvmwhy.record import Cpu

LONGEST: Final = 4000  # characters of one
_FLAGS: Final = re.compile(r"^[ \t]{0,8}CCS=[^\n]{0,120}\n", re.MULTILINE)  # target/i386/cpu-dump.c: CPU_DUMP_CCOP


def registers(dump: str) -> Cpu | None:
    """The registers of a dump that begins here."""
    for failure in log.read(Text(_FLAGS.sub("", dump[:LONGEST]))).failures[:1]:
        return failure.cpu
    return None
