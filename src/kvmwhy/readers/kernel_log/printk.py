"""The lines of a kernel log, whatever carried them: dmesg, a serial console, syslog, the journal.

``[  12.345678] text``, with ``printk.caller`` ``[  12.345678][ T1234] text``, on a raw console ``<3>`` before
it, from syslog ``Jan  2 03:04:05 host kernel: [  12.345678] text``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_STAMP: Final = re.compile(r"\[ {0,8}([0-9]{1,9}\.[0-9]{1,9})\] ?(?:\[ {0,8}([TC][0-9]{1,9})\])?")
_LONGEST: Final = 4096  # the kernel's own limit is 1 KiB; what is longer is no line of its log


class Line(NamedTuple):
    number: int  # from 0
    text: str
    time: float | None  # seconds since the host started
    caller: str | None  # the thread or CPU that printed it, with printk.caller


def lines_of(text: str) -> Iterator[Line]:
    """Every line; the stamp is read where there is one, and stays in the text."""
    for number, line in enumerate(text.split("\n")):
        stamp = _STAMP.search(line, 0, 200) if "[" in line else None
        yield Line(
            number,
            line[:_LONGEST],
            float(stamp[1]) if stamp else None,
            stamp[2] if stamp else None,
        )
