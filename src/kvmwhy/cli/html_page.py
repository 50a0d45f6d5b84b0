"""``kvmwhy explain --html``: the page of the failures, with the lines that they were read from."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.record import Failure
from kvmwhy.render.html.document import Told, page
from kvmwhy.render.html.failure import Excerpt
from kvmwhy.report import PAGE_MOST


def write(path: str, failures: Sequence[tuple[Diagnosis, Sequence[Failure], Excerpt]]) -> int:
    """Write the page whole or not at all; return how many failures did not fit. Raises OSError."""
    write_whole(path, page([Told(*failure) for failure in failures[:PAGE_MOST]], made=datetime.now(UTC)))
    return max(0, len(failures) - PAGE_MOST)


def write_whole(path: str, text: str) -> None:
    """A file, or nothing; ``-`` is the standard output. Raises OSError."""
    if path == "-":
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return
    folder = os.path.dirname(os.path.abspath(path))
    handle, draft = tempfile.mkstemp(dir=folder, prefix=".kvmwhy-", suffix=".html")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def _umask() -> int:
    """There is no other way to ask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
