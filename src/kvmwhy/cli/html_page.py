"""``kvmwhy explain --html``: the page of the failures, with the lines that they were read from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.ingest.window import Window
from kvmwhy.record import Failure
from kvmwhy.render.html.document import Told, page
from kvmwhy.render.html.failure import Excerpt

_BEFORE: Final = 10  # lines in front of the first that was read
_BEHIND: Final = 30
_MOST: Final = 400
_LONGEST: Final = 2000  # characters of a line
_PAGE_MOST: Final = 100  # failures on one page


def excerpt_of(window: Window | None, failure: Failure) -> Excerpt:
    """The lines of a window around those that a failure was read from."""
    if window is None or failure.source.line is None:
        return Excerpt()
    lines = window.data.decode("utf-8", "replace").splitlines()
    last = max(failure.source.line, *failure.seen_at.values(), 0)
    first = max(window.first_line, failure.source.line - _BEFORE)
    stop = min(window.first_line + len(lines), last + _BEHIND, first + _MOST)
    shown = lines[first - window.first_line : max(0, stop - window.first_line)]
    return Excerpt(first, tuple(line[:_LONGEST] for line in shown))


def write(path: str, failures: Sequence[tuple[Diagnosis, Sequence[Failure], Excerpt]]) -> int:
    """Write the page whole or not at all; return how many failures did not fit. Raises OSError."""
    text = page([Told(*told) for told in failures[:_PAGE_MOST]], made=datetime.now(UTC))
    if path == "-":
        os.write(1, text.encode())
        return max(0, len(failures) - _PAGE_MOST)
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
    return max(0, len(failures) - _PAGE_MOST)


def _umask() -> int:
    """There is no other way to ask."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
