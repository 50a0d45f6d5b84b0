"""What people hold, read into records: one file per format, each ``bytes → failures + damage``.

A reader never raises on damage. It returns what it could read and says what was torn.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmwhy.record import Failure


class Evidence(NamedTuple):
    """What one piece of evidence told. ``damage`` is about the piece, not about one failure."""

    failures: tuple[Failure, ...] = ()
    damage: tuple[str, ...] = ()
    format: str | None = None


def read(data: bytes, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Read any supported evidence; the format is recognised by content, never by name."""
    from kvmwhy.evidence import data_dump, qemu_log, run_page
    from kvmwhy.evidence.text import clean

    if run_page.detect(data):
        return run_page.read(data, path=path)
    text = clean(data)
    evidence = Evidence()
    if qemu_log.detect(text.text):
        evidence = qemu_log.read(text, path=path, first_line=first_line)
    if not evidence.failures and data_dump.detect(text.text):
        return data_dump.read(text, path=path)
    return evidence
