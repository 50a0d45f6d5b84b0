"""What people hold, read into records: one file per format, each ``bytes → failures + damage``.

A reader never raises on damage. It returns what it could read and says what was torn. Every piece of
evidence is given to each reader that recognises it: a report to a list has the VMM's dump, the
kernel's lines and a trace of the same failure in one mail.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmwhy.readers.registry import OF_BYTES
from kvmwhy.readers.word_size import of_64_bits
from kvmwhy.record import Failure


class Evidence(NamedTuple):
    """What one piece of evidence told. ``damage`` is about the piece, not about one failure."""

    failures: tuple[Failure, ...] = ()
    damage: tuple[str, ...] = ()
    format: str | None = None


def read(data: bytes, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Read any supported evidence; the format is recognised by content, never by name."""
    for magic, kind in OF_BYTES:
        if not data.startswith(magic):
            continue
        reader = kind.load()
        if reader.detect(data):
            found: Evidence = reader.read(data, path=path)
            return found._replace(failures=tuple(map(of_64_bits, found.failures)))
    from kvmwhy.readers.reading import read_text

    own = Evidence()
    if b'"schema"' in data:
        from kvmwhy.readers import kvmwhy_json

        if kvmwhy_json.detect(data):
            own, data = kvmwhy_json.take(data, first_line=first_line)
    evidence = read_text(data, path=path, first_line=first_line)
    if own.failures:
        from kvmwhy.readers.precedence import without_echoes

        evidence = evidence._replace(failures=without_echoes(evidence.failures, own.failures))
    return Evidence(
        tuple(map(of_64_bits, (*own.failures, *evidence.failures))),
        (*own.damage, *evidence.damage),
        " + ".join(name for name in (own.format, evidence.format) if name) or None,
    )
