"""What a log collector put before each line of a block, taken off: host, writer and time, and the block without them.

Equal failures behind different times are equal then, and read once. A block whose lines do not all have the same
wrapping is left as it is: it holds the lines of several writers, and readers know how to part them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Final, NamedTuple

from kvmwhy.fleet.fields import messages
from kvmwhy.ingest.log_prefix import peel
from kvmwhy.ingest.wrapping import HINT

_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_SYSLOG_TIME: Final = re.compile(r"[A-Z][a-z]{2} [ \d]\d (?:\d{4} )?\d\d:\d\d:\d\d")
LONGEST_PREFIX: Final = 400


class Wrapped(NamedTuple):
    """``text`` is the block without wrappings; the others are as the log has them, or empty.

    ``digest`` is that of ``text``, where it is known already. ``fields``: each line was a record with fields, whose
    times may differ.
    """

    text: bytes
    host: str = ""
    writer: str = ""
    time: str = ""
    digest: bytes = b""
    fields: bool = False


def digest_of(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


def unwrap(block: bytes) -> Wrapped:
    """Take the wrapping of the first line off every line, if every line has it."""
    head, _, _ = block.partition(b"\n")
    line = head.decode("utf-8", "replace")
    said = peel(line) if HINT.match(line) else None
    if said is None:
        return Wrapped(block)
    host, writer = said.who or ("", "")
    told = Wrapped(block, host, writer, said.time or "")
    size = len(head) - len(said.text.encode())
    if said.decoded:
        bare = messages(block)
        return told if bare is None else told._replace(text=bare, fields=True)
    if not 0 < size <= LONGEST_PREFIX or not line.endswith(said.text):
        return told
    text = take_off(block, head[:size], time_ends(head[:size], told.time))
    return told if text is None else told._replace(text=text)


def time_in(block: bytes, line: int) -> str:
    """The time of a block's line, counted from 1, or nothing."""
    text = block.split(b"\n", line)[line - 1].decode("utf-8", "replace")
    said = peel(text) if HINT.match(text) else None
    return (said and said.time) or ""


def shape_of(prefix: bytes) -> bytes:
    """What prefixes of one kind have in common: all but their digits."""
    return prefix.translate(_DIGITS)


def time_ends(prefix: bytes, time: str) -> int:
    """Where the time ends in a prefix; 0 if that cannot be said."""
    stamp = time.encode()
    return prefix.find(stamp) + len(stamp) if stamp and prefix.count(stamp) == 1 else 0


def take_off(block: bytes, prefix: bytes, end: int) -> bytes | None:
    """The block without the prefix of its first line, and without those of the others, if all are one writer's.

    They may differ in digits up to ``end``, where the time ends; behind it, if they still name the same writer.
    """
    size = len(prefix)
    if block.startswith(prefix, block.find(b"\n") + 1):  # within one second all are equal
        bare = block.replace(b"\n" + prefix, b"\n")
        if len(block) - len(bare) == size * (block.count(b"\n") - block.endswith(b"\n")):
            return bare[size:]
    lines = block.split(b"\n")
    number = len(lines) - block.endswith(b"\n")
    stamps = b"".join(map(itemgetter(slice(end)), lines))
    names = b"".join(map(itemgetter(slice(end, size)), lines))
    if names != prefix[end:] * number or shape_of(stamps) != shape_of(prefix[:end]) * number:
        shape, who = shape_of(prefix), _who(lines[0])
        for line in lines:
            if line and shape_of(line[:size]) != shape and line.rstrip() != shape.rstrip():
                return None
            if line and line[end:size] != prefix[end:] and _who(line) != who:
                return None
    return b"\n".join(map(itemgetter(slice(size, None)), lines))


def _who(line: bytes) -> tuple[str, str] | None:
    said = peel(line.decode("utf-8", "replace"))
    return said and said.who


@lru_cache(maxsize=4096)
def instant(time: str, *, near: float) -> datetime | None:
    """A log's time as an instant in UTC; ``near``, in seconds since 1970, tells the year where the log has none.

    A time without zone is taken as UTC. A time since boot is none.
    """
    made: datetime | None
    try:
        made = datetime.fromisoformat(time.removesuffix(" UTC").replace(",", "."))
    except ValueError:
        made = _without_year(time, near) if _SYSLOG_TIME.match(time) else _since_1970(time)
    if made is None:
        return None
    return made.replace(tzinfo=UTC) if made.tzinfo is None else made.astimezone(UTC)


def _without_year(time: str, near: float) -> datetime | None:
    """The year that puts it before ``near``, give or take a day for clocks and zones."""
    around = datetime.fromtimestamp(near, UTC)
    form = "%b %d %Y %H:%M:%S" if re.match(r"\w+ +\d+ \d{4} ", time) else "%Y %b %d %H:%M:%S"
    try:
        if form.startswith("%b"):
            return datetime.strptime(time[:20], form).replace(tzinfo=UTC)
        made = datetime.strptime(f"{around.year} {time[:15]}", form).replace(tzinfo=UTC)
        late = (made - around).total_seconds() > 86400
        return made.replace(year=around.year - 1) if late else made
    except ValueError:
        return None


def _since_1970(time: str) -> datetime | None:
    digits, _, rest = time.partition(".")
    if not digits.isdigit() or not (rest.isdigit() or not rest):
        return None
    try:
        if 9 <= len(digits) <= 10:
            return datetime.fromtimestamp(float(time), UTC)
        if len(digits) == 16:  # journald: microseconds
            return datetime.fromtimestamp(int(digits) / 1e6, UTC)
    except (OverflowError, OSError, ValueError):
        pass
    return None
