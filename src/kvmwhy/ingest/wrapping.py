"""Whether a line can have a collector's wrapping at all: what is asked of every text, before ``prefixes`` is loaded."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.deferred_re import deferred

MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"

# A line that can have a wrapping begins with one of these.
_BEGINNING: Final = (
    rf"[ \t]{{0,64}}(?:[<{{\[]|\d{{4}}-\d\d|\d{{1,4}},\d|\d{{9,10}}\.|{MONTH} [ \d]\d|{DAY} |[a-z]{{1,9}}=|[\w.@-]{{1,64}}+\[\d"  # noqa: E501
    r"|data: \{|\x1e|[a-z][\w.-]{1,64}+ {0,40}+\| "
)
_TABBED: Final = r"|[^\t\n]{1,100}+\t[^\t\n]{1,100}+\t\ufeff?\d{4}-"
HINT: Final = deferred(f"{_BEGINNING}{_TABBED})")  # asked by ``match``, of a line
_LATER: Final = re.compile(f"\n{_BEGINNING})")  # a fixed first character lets ``search`` skip to it


def can_be_wrapped(text: str) -> bool:
    """Whether any line can have a wrapping."""
    if _LATER.search("\n" + text):
        return True
    return "\t" in text and any(HINT.match(line) for line in text.split("\n") if "\t" in line)


class Peeled(NamedTuple):
    """One line without its wrappings. ``text`` may be several lines: collectors escape line ends."""

    text: str
    who: tuple[str, str] | None = None  # host, and the writer on it
    time: str | None = None
    goes_on: bool = False  # the collector cut the line here; the next of the same writer continues it
    decoded: bool = False  # escapes were undone
