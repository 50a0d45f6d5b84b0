"""The lines of a log that stand beside an answer."""

from __future__ import annotations

import pytest

from kvmwhy.pipeline import records
from kvmwhy.report import excerpt_of

FAILURE = b"KVM internal error. Suberror: 1\nemulation failure\nEAX=00000000 EBX=00000001 ECX=00000002 EDX=00000003\n"


ENDS = [b"\r\n", b"\r\r\n", b"\x0c\n", b"\xc2\x85\n", b"\xe2\x80\xa8\n"]


@pytest.mark.parametrize("between", [*ENDS, b"\rprogress 1\rprogress 2\n"])
def test_lines_are_numbered_as_they_were_read(between: bytes) -> None:
    """Whatever else Unicode takes for a line's end: the marked line is the banner."""
    log = b"line" + between + b"another" + between + FAILURE
    (record,) = records(iter((log,)), "guest.log")
    excerpt = excerpt_of(record.window, record.failure)
    line = record.failure.source.line
    assert line is not None
    assert excerpt.lines[line - excerpt.first].startswith("KVM internal error")


@pytest.mark.parametrize("between", ENDS)
def test_lines_are_those_of_grep(between: bytes) -> None:
    """A serial console's log has two carriage returns for each line end; its third line is the third."""
    (record,) = records(iter((b"line" + between + b"another" + between + FAILURE,)), "guest.log")
    assert record.failure.source.line == 3
