"""Traces as text: ``trace`` and ``trace_pipe`` of tracefs in each of its column layouts, ``trace-cmd report``,
``perf script``; also behind a log's own prefix, as a kernel prints its buffer when it dies.

``lines`` takes the lines apart; here they become failures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.anchors.trace import EVENTS
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.lines import LostEvents, losses, parse
from kvmwhy.readers.trace.merge_equal import Distinct
from kvmwhy.readers.trace.summary import Summary
from kvmwhy.readers.trace.text_prefilter import Segment, segments, skim
from kvmwhy.readers.trace.vcpu_tracker import Story
from kvmwhy.record import Failure

FORMAT: Final = "KVM trace"
_LONGEST_LINE: Final = 1 << 16
_SMALL: Final = 1 << 18  # characters: what a person pastes
_LAST_SEGMENTS: Final = 8


def detect(text: str) -> bool:
    """A line of a trace of KVM."""
    if "kvm_run_exit cpu_index" in text or "kvm:kvm_" in text:
        return True
    return any(_is_event_at(text, at) for event in EVENTS for at in _places(text, event))


def _places(text: str, word: str) -> Iterator[int]:
    """The first places of a word; one that is no event's may stand in prose above the trace."""
    at = -1
    for _ in range(64):
        at = text.find(word, at + 1)
        if at < 0:
            return
        yield at


def _is_event_at(text: str, at: int) -> bool:
    start = text.rfind("\n", max(0, at - 400), at) + 1
    end = text.find("\n", at, at + 400)
    line = text[start : end if end >= 0 else at + 400]
    return any(isinstance(event, TraceEvent) for event in parse([line], 1))


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    if not detect(text.text):
        return Evidence()
    return _read((text.text,), path, first_line, whole=len(text.text) <= _SMALL)


def read_file(chunks: Iterable[bytes], *, path: str | None = None) -> Evidence:
    """A trace of any length in pieces of any size, such as ``iter(lambda: stream.read(1 << 20), b"")``.

    What is held is a piece or two, and the last events of each vCPU.
    """
    return _read((block.decode("utf-8", "replace") for block in _whole_lines(chunks)), path, 1)


def _read(blocks: Iterable[str], path: str | None, first_line: int, *, whole: bool = False) -> Evidence:
    """``whole``: also segments without the words of a failure, which mail may have folded."""
    tape = Tape(path=path)
    distinct = Distinct()
    ends = _Ends()
    for part, telling in skim(segments(blocks, first_line)):
        ends.add(part)
        if whole or telling or tape.story.waiting:
            distinct.add(tape.feed(part.text, part.line))
        else:
            tape.skip(part.text)
            distinct.add(tape.story.end())
    distinct.add(tape.story.end())
    failures = distinct.failures()
    if not failures and (healthy := ends.summary(path)):
        failures = (healthy,)
    return Evidence(failures, (*tape.damage, *distinct.damage), FORMAT)


class _Ends:
    """The first and the last segments of a trace: what is said of one in which nothing fails is read from these."""

    def __init__(self) -> None:
        self.first: Segment | None = None
        self.last: deque[Segment] = deque(maxlen=_LAST_SEGMENTS)
        self.lines_between = 0

    def add(self, segment: Segment) -> None:
        if self.first is None:
            self.first = segment
            return
        if len(self.last) == _LAST_SEGMENTS:
            self.lines_between += self.last[0].text.count(": kvm_")
        self.last.append(segment)

    def summary(self, path: str | None) -> Failure | None:
        if self.first is None:
            return None
        summary = Summary(path=path)
        for segment in (self.first, *self.last):
            summary.feed(events(segment.text, segment.line))
        summary.events = (summary.events or 0) + self.lines_between
        return summary.failure()


def events(text: str, first_line: int = 1) -> Iterator[TraceEvent]:
    """The events that belong to a story, in the order of the lines."""
    return (event for event in parse(text.split("\n"), first_line) if isinstance(event, TraceEvent))


def every_event(chunks: Iterable[bytes]) -> Iterator[TraceEvent | LostEvents]:
    """The same of a text of any length in pieces of any size, and where events were lost."""
    line = 1
    for block in _whole_lines(chunks):
        text = block.decode("utf-8", "replace")
        yield from parse(text.split("\n"), line)
        line += text.count("\n")


class Tape:
    """A trace that comes bit by bit: its failures, and what it lost."""

    def __init__(self, *, path: str | None = None) -> None:
        self.story = Story(path=path)
        self.lost = 0
        self.places = 0

    @property
    def damage(self) -> tuple[str, ...]:
        if not self.places:
            return ()
        return (f"the kernel lost {self.lost} events at {self.places} places of this trace",)

    def feed(self, text: str, first_line: int) -> Iterator[Failure]:
        """``text`` is whole lines."""
        take = self.story.take
        for event in parse(text.split("\n"), first_line):
            if isinstance(event, LostEvents):
                self.lost += event.events
                self.places += 1
                self.story.lost()
            elif failures := take(event):
                yield from failures

    def skip(self, text: str) -> None:
        """Lines without a failure near them: only what was lost is counted."""
        for lost in losses(text):
            self.lost += lost.events
            self.places += 1

    def follow(self, chunks: Iterable[bytes]) -> Iterator[Failure]:
        """Each failure as soon as it is over; at the end what was still open. For ``trace_pipe``, too."""
        line = 1
        for block in _whole_lines(chunks):
            text = block.decode("utf-8", "replace")
            yield from self.feed(text, line)
            line += text.count("\n")
        yield from self.story.end()


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield held + chunk[:end]
            held = chunk[end:]
        elif len(held) + len(chunk) > _LONGEST_LINE:  # no line of a trace, however it goes on
            yield held + chunk
            held = b""
        else:
            held += chunk
    if held:
        yield held
