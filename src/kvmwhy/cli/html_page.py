"""``kvmwhy explain --html``: the page of the failures, with the lines that they were read from."""

from __future__ import annotations

import os
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
    text = page([Told(*told) for told in failures[:PAGE_MOST]], made=datetime.now(UTC))
    if path == "-":
        os.write(1, text.encode())
        return max(0, len(failures) - PAGE_MOST)
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
    return max(0, len(failures) - PAGE_MOST)


def _umask() -> int:
    """There is no other way to ask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
