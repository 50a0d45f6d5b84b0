"""A long text in segments, and which of them are worth reading line by line.

A segment is, if it or one soon after it has the words of a failure: what comes before may be that vCPU's history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from kvmwhy.readers.anchors.trace import HOT

SEGMENT: Final = 1 << 16  # characters
BEFORE: Final = 8  # segments: some thousand events, for hosts with many vCPUs
AFTER: Final = 1


class Segment(NamedTuple):
    text: str  # whole lines
    line: int  # the number of its first
    hot: bool  # has the words of a failure


def segments(blocks: Iterable[str], first_line: int = 1) -> Iterator[Segment]:
    """``blocks`` are whole lines, too. All segments but the last have a fair size, whatever the blocks have."""
    line = first_line
    for block in _at_least(blocks):
        at = 0
        while at < len(block):
            end = block.find("\n", at + SEGMENT) + 1 or len(block)
            text = block[at:end]
            yield Segment(text, line, any(word in text for word in HOT))
            line += text.count("\n")
            at = end


def _at_least(blocks: Iterable[str]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for block in blocks:
        held.append(block)
        size += len(block)
        if size >= SEGMENT:
            yield "".join(held)
            held.clear()
            size = 0
    if held:
        yield "".join(held)


def skim(parts: Iterable[Segment]) -> Iterator[tuple[Segment, bool]]:
    """Each segment, and whether to read it."""
    ahead: deque[Segment] = deque()
    since_hot = AFTER + 1
    hot_ahead = 0
    for part in parts:
        ahead.append(part)
        hot_ahead += part.hot
        if len(ahead) > BEFORE:
            first = ahead.popleft()
            since_hot = 0 if first.hot else since_hot + 1
            yield first, hot_ahead > 0 or since_hot <= AFTER
            hot_ahead -= first.hot
    while ahead:
        first = ahead.popleft()
        since_hot = 0 if first.hot else since_hot + 1
        yield first, hot_ahead > 0 or since_hot <= AFTER
        hot_ahead -= first.hot
