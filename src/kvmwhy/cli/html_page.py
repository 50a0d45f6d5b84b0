"""``kvmwhy explain --html``: the page of the failures, with the lines that they were read from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.record import Failure
from kvmwhy.render.html.document import Told, page
from kvmwhy.render.html.failure import Excerpt
from kvmwhy.report import PAGE_MOST
from kvmwhy.whole_file import write_whole


def write(path: str, failures: Sequence[tuple[Diagnosis, Sequence[Failure], Excerpt]]) -> int:
    """Write the page whole or not at all; return how many failures did not fit. Raises OSError."""
    write_page(path, page([Told(*failure) for failure in failures[:PAGE_MOST]], made=datetime.now(UTC)))
    return max(0, len(failures) - PAGE_MOST)


def write_page(path: str, text: str) -> None:
    """A file, or nothing; ``-`` is the standard output. Raises OSError."""
    if path == "-":
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return
    write_whole(path, [text.encode()])
