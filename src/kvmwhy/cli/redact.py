"""``kvmwhy redact``: a report of a failure that is safe to post, and what was taken out of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

from kvmwhy.cli.damage import Complaints, lost_what_matters
from kvmwhy.cli.output import complain, counted, show
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, NOTHING
from kvmwhy.diagnosis import diagnose
from kvmwhy.fleet.redact import Redacted, redact
from kvmwhy.pipeline import records
from kvmwhy.record import Failure
from kvmwhy.render.json import to_json, to_record
from kvmwhy.render.page import Line
from kvmwhy.render.text import explanation

_CHUNK: Final = 1 << 20


def run(path: str, *, as_json: bool, limit: int) -> int:
    """Redact every distinct failure of one input; return the exit status."""
    complaints = Complaints()
    try:
        if path == "-":
            redactions = _distinct(sys.stdin.buffer, path, limit, complaints)
        else:
            with open(path, "rb") as stream:
                redactions = _distinct(stream, path, limit, complaints)
    except OSError as error:
        complain(f"{path}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT
    for n, redacted in enumerate(redactions):
        if as_json:
            sys.stdout.buffer.write(to_json(diagnose(redacted.failure)) + b"\n")
        else:
            show([*([Line(), Line("─" * 60, "dim"), Line()] if n else []), *report(redacted)])
            sys.stdout.write(to_record(redacted.failure).decode() + "\n")
    sys.stdout.flush()
    if as_json:
        for what in dict.fromkeys(what for redacted in redactions for what in redacted.removed):
            complain(f"removed: {what}")
    complaints.close()
    if not redactions:
        return NOTHING
    damaged = complaints.made or any(lost_what_matters(redacted.failure) for redacted in redactions)
    return DAMAGED if damaged else DONE


def report(redacted: Redacted) -> list[Line]:
    """The explanation, and what is gone."""
    lines = explanation(diagnose(redacted.failure))
    lines += [Line(), Line(style="head", label="Removed from this report", label_style="head")]
    lines += [Line(what, "plain", "- ", 2) for what in redacted.removed or ("nothing: there was nothing to remove",)]
    lines += [Line(), Line(style="head", label="Kept", label_style="head")]
    lines += [Line(what, "plain", "- ", 2) for what in redacted.kept]
    return [*lines, Line(), Line("The same for `kvmwhy explain`:", "dim")]


def _distinct(stream: BinaryIO, path: str, limit: int, complaints: Complaints) -> list[Redacted]:
    out: dict[str, Redacted] = {}
    left = 0
    for failure in _failures(stream, path, complaints):
        redacted = redact(failure)
        key = repr(redacted.failure)
        if key not in out and len(out) >= limit:
            left += 1
        else:
            out.setdefault(key, redacted)
    if left:
        complain(f"not shown: {counted(left, 'more failure')}; see --limit")
    if not out and not complaints.made:
        complain("no KVM failure found")
    return list(out.values())


def _failures(stream: BinaryIO, path: str, complaints: Complaints) -> Iterator[Failure]:
    def chunks() -> Iterator[bytes]:
        while chunk := stream.read(_CHUNK):
            yield chunk

    return (record.failure for record in records(chunks(), path, complaints))
