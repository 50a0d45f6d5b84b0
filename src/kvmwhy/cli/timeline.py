"""``kvmwhy timeline``: a trace as a file for the Perfetto UI."""

from __future__ import annotations

import mmap
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from kvmwhy.cli.output import complain, counted
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.diagnosis import diagnose
from kvmwhy.record import Failure
from kvmwhy.render.timeline import Owner, Timeline
from kvmwhy.whole_file import write_whole

if TYPE_CHECKING:
    from kvmwhy.readers.trace.events import TraceEvent
    from kvmwhy.readers.trace.formats import Buffer
    from kvmwhy.readers.trace.lines import LostEvents


_CHUNK: Final = 1 << 20
_BLOCK: Final = 1 << 16  # of packets that are written at a time
_HEAD: Final = 1 << 16
_WHOLE: Final = 512 << 20  # of a trace.dat that comes out of an archive or a pipe
_WORTH_A_BAR: Final = 32 << 20
_MOST_ANSWERS: Final = 1000
_RECORDS: Final = re.compile(rb"[\s\[]{0,16}\{\s{0,16}\"schema\"\s{0,4}:")
_THREAD: Final = re.compile(r"thread (\d{1,10})")


def run(path: str, out: str) -> int:
    """Write the timeline of one input; return the exit status."""
    job = _Job(path)
    try:
        job.write(out)
    except PermissionError as error:
        complain(f"{error.filename or path}: not permitted")
        return NOT_PERMITTED
    except OSError as error:
        complain(f"{error.filename or path}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT
    except _EmptyError:
        complain(f"{path}: no events of a vCPU are in it; `kvmwhy explain` names what it is, if it knows it")
        return NOTHING
    return job.close(out)


class _EmptyError(Exception):
    """There is nothing to draw."""


class _Job:
    """One input on its way to one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.remarks: list[str] = []
        self.timeline = Timeline("standard input" if path == "-" else os.path.basename(path))
        self._answers: dict[object, str] = {}
        self._owners: dict[tuple[int, str], Owner] = {}
        self._done = _Progress(0)

    def write(self, out: str) -> None:
        """Raises OSError; _EmptyError, and leaves no file, if there is nothing to draw."""
        if out == "-":
            sys.stdout.buffer.writelines(self._blocks_of(self._packets()))
            sys.stdout.buffer.flush()
            return
        write_whole(out, self._blocks_of(self._packets()))

    def close(self, out: str) -> int:
        """Say what was written, and what of the trace is not in it."""
        timeline = self.timeline
        where = "" if out == "-" else f" in {out}: open it at https://ui.perfetto.dev, which reads it in the browser"
        seconds = (timeline.latest - (timeline.first or 0)) / 1e9
        complain(
            f"{counted(timeline.events, 'event')}, {counted(timeline.lanes, 'lane')},"
            f" {counted(timeline.failures, 'failure')},"
            f" {seconds:,.3f} s{where}"
        )
        if timeline.untimed:
            self.remarks.append(
                f"{counted(timeline.untimed, 'event')} without a time: drawn a microsecond behind the last"
            )
        if timeline.backwards:
            self.remarks.append(
                f"{counted(timeline.backwards, 'event')} before those in front: drawn where their lane was"
            )
        if timeline.left_out:
            self.remarks.append(f"left out: {counted(timeline.left_out, 'event')} of more threads than are drawn")
        for remark in dict.fromkeys(self.remarks):
            complain(f"{self.path}: {remark}")
        return DAMAGED if self.remarks else DONE

    # -- from bytes to packets -----------------------------------------------------------------------

    @staticmethod
    def _blocks_of(packets: Iterable[bytes]) -> Iterator[bytes]:
        """Some packets at a time."""
        held = bytearray()
        for packet in packets:
            held += packet
            if len(held) >= _BLOCK:
                yield bytes(held)
                held.clear()
        yield bytes(held)

    def _packets(self) -> Iterator[bytes]:
        yield self.timeline.begin()
        if self.path == "-":
            yield from self._stream(sys.stdin.buffer, 0)
        else:
            info = os.stat(self.path)
            if stat.S_ISBLK(info.st_mode):
                raise OSError(0, "it is a device", self.path)
            with open(self.path, "rb") as stream:
                yield from self._stream(stream, info.st_size if stat.S_ISREG(info.st_mode) else 0)
        if not (self.timeline.events or self.timeline.failures):
            raise _EmptyError
        yield from self.timeline.end()

    def _stream(self, stream: BinaryIO, size: int) -> Iterator[bytes]:
        from kvmwhy.pipeline import inputs
        from kvmwhy.readers.trace import trace_dat

        with _Progress(size) as self._done:
            if size and trace_dat.detect(stream.peek(16)):  # type: ignore[attr-defined]  # open() gives a BufferedReader
                # Never closed by hand: events that are drawn later still point into it.
                yield from self._trace_dat(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
                return
            for member in inputs(self._read(stream), self.path, self.remarks.append):
                yield from self._member(member.chunks, member.path)

    def _read(self, stream: BinaryIO) -> Iterator[bytes]:
        while chunk := stream.read(_CHUNK):
            self._done.add(len(chunk))
            yield chunk

    def _member(self, chunks: Iterator[bytes], path: str | None) -> Iterator[bytes]:
        from kvmwhy.ingest.encoding import recoded, utf_16
        from kvmwhy.readers.trace import ftrace, trace_dat

        head = b""
        while len(head) < _HEAD and (chunk := next(chunks, b"")):
            head += chunk
        chunks = chain((head,), chunks)
        if trace_dat.detect(head):
            data = bytearray()
            for chunk in chunks:
                data += chunk[: _WHOLE - len(data)]
            if len(data) >= _WHOLE:
                self.remarks.append(f"of an archive or a pipe, the first {_WHOLE >> 20} MiB of a trace.dat are read")
            yield from self._trace_dat(bytes(data))
        elif _RECORDS.match(head):
            yield from self._records(chunks, path)
        else:
            chunks = recoded(chunks, codec) if (codec := utf_16(head)) else chunks
            yield from self._events(ftrace.every_event(chunks), "")

    def _trace_dat(self, data: Buffer) -> Iterator[bytes]:
        from kvmwhy.readers.trace import trace_dat

        for recording in trace_dat.recordings(data, self.remarks):
            yield from self._events(self._done.over(recording.span, recording.events), recording.name)

    def _events(self, events: Iterable[TraceEvent | LostEvents], buffer: str) -> Iterator[bytes]:
        """Events, and the failures that they are the story of."""
        from kvmwhy.readers.trace.events import TraceEvent
        from kvmwhy.readers.trace.vcpu_tracker import Story

        story, timeline = Story(path=self.path), self.timeline
        for event in events:
            if not isinstance(event, TraceEvent):
                story.lost()
                self.remarks.append("the kernel lost events of this trace; slices end where some are missing")
                del self.remarks[64:]
                yield from timeline.lost(event.events)
                continue
            owner = self._owner(event.pid, buffer)
            yield from timeline.take(owner, event.vcpu, event.time, event)
            for failure in story.take(event):
                yield from self._fail(failure, buffer)
        for failure in story.end():
            yield from self._fail(failure, buffer)

    def _records(self, chunks: Iterator[bytes], path: str | None) -> Iterator[bytes]:
        """Failures that `kvmwhy watch` recorded, each with the events before it; those of the last are not repeated."""
        from kvmwhy.pipeline import records_of

        timeline = self.timeline
        drawn: dict[tuple[Owner, int | None], float] = {}
        for failure, *_ in records_of(chunks, path, self.remarks.append):
            source = failure.source
            owner = Owner(source.writer or source.vmm or "recorded", known=source.writer is not None)
            last = drawn.get((owner, source.vcpu), -1.0)
            for event in failure.trace:
                if event.time is None or event.time > last:
                    yield from timeline.take(owner, source.vcpu, event.time, event)
                    drawn[owner, source.vcpu] = last if event.time is None else event.time
            if failure.kind != "healthy":
                yield from timeline.fail(owner, failure, self._answer(failure))

    def _fail(self, failure: Failure, buffer: str) -> Iterator[bytes]:
        thread = _THREAD.fullmatch(failure.source.writer or "")
        owner = self._owner(int(thread[1]) if thread else 0, buffer)
        yield from self.timeline.fail(owner, failure, self._answer(failure))

    def _owner(self, pid: int, buffer: str) -> Owner:
        owner = self._owners.get((pid, buffer))
        if owner is None:
            name = f"thread {pid}" + (f" in {buffer}" if buffer else "")
            if len(self._owners) >= 1 << 16:
                self._owners.clear()
            owner = self._owners[pid, buffer] = Owner(name, known=pid != 0)
        return owner

    def _answer(self, failure: Failure) -> str:
        """What `kvmwhy explain` says; of a storm of failures, once for those that are alike."""
        seen = failure.exit and (failure.exit.reason, failure.exit.info1, failure.exit.info2)
        key = (failure.kind, failure.suberror, failure.errno, failure.emulation, seen, failure.silent)
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) >= _MOST_ANSWERS:
                return failure.kind
            answer = self._answers[key] = diagnose(failure).answer
        return answer


class _Progress:
    """A bar on a terminal, for what takes a while: by bytes read, or by the trace's own time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._size >= _WORTH_A_BAR and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("drawing", total=self._size)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, done: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, done)

    def over(
        self, span: tuple[int, int], events: Iterable[TraceEvent | LostEvents]
    ) -> Iterable[TraceEvent | LostEvents]:
        """The same events; how far they are is told by their times."""
        return events if self._bar is None else self._told(span, events)

    def _told(
        self, span: tuple[int, int], events: Iterable[TraceEvent | LostEvents]
    ) -> Iterator[TraceEvent | LostEvents]:
        first, last = span[0] / 1e9, span[1] / 1e9
        for number, event in enumerate(events):
            if number % 4096 == 0 and (time := getattr(event, "time", None)) is not None:
                self._bar.update(self._task, completed=self._size * min(1.0, (time - first) / max(last - first, 1e-9)))
            yield event
