"""``kvmwhy watch``: every failure on this host as it happens, explained, into a file that survives."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from contextlib import ExitStack, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from kvmwhy.cli.output import complain, counted, show
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, NOT_PERMITTED
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.live import metrics as counters
from kvmwhy.live import tracefs
from kvmwhy.live.errors import CaptureError, NotPermittedError
from kvmwhy.live.host import host_facts
from kvmwhy.live.jsonl_file import Records
from kvmwhy.live.kvm_stats import NAME, Poller, Reading
from kvmwhy.live.spool import Spool
from kvmwhy.live.watch import Seen, Watch
from kvmwhy.record import Failure
from kvmwhy.render.json import to_json
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.render.text import in_brief

if TYPE_CHECKING:
    from kvmwhy.cli.symbolise import Symbols


_BEAT: Final = 1.0  # seconds between two beats: sync, counters, what the disk held back
_METRICS_EVERY: Final = 5.0
_WARM_UP: Final = Failure(kind="internal-error", suberror=1, ndata=3, data=(1, 0x9090_9090_9003_D90F, (1 << 64) - 1))


class WatchOptions(NamedTuple):
    """What the command line asks for."""

    out: str | None
    max_size: int | None
    keep: int
    metrics: str | None
    listen: tuple[str, int] | None
    tracefs: str | None
    history: int
    duration: float | None
    as_json: bool
    quiet: bool
    name: str
    symbols: Symbols | None = None


class _Out(Protocol):
    """A file of records, or the standard output."""

    written: int
    dropped: int

    def write(self, record: bytes) -> None: ...
    def flush(self) -> str | None: ...
    def sync(self) -> None: ...


class _Stdout:
    def __init__(self) -> None:
        self.written = 0
        self.dropped = 0

    def write(self, record: bytes) -> None:
        sys.stdout.buffer.write(record + b"\n")
        sys.stdout.buffer.flush()
        self.written += 1

    def flush(self) -> str | None:
        return None

    def sync(self) -> None:
        """A pipe has no disk."""


def run(wish: WatchOptions) -> int:
    """Watch until SIGINT, SIGTERM or the end of ``duration``; return the exit status."""
    try:
        with ExitStack() as stack:
            return _Session(wish, stack).run()
    except NotPermittedError as error:
        complain(str(error))
        return NOT_PERMITTED
    except CaptureError as error:
        complain(str(error))
        return BAD_INPUT
    except BrokenPipeError:
        with suppress(OSError):  # the interpreter flushes once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


class _Session:
    """Everything that one run has open. Whatever it was given goes away with ``stack``, the newest first."""

    def __init__(self, wish: WatchOptions, stack: ExitStack) -> None:
        self.wish = wish
        self.metrics = counters.Metrics()
        self._problem: str | None = None
        self._has_said_no_count = False
        self._unwritten = 0  # records that wait for room
        self._spool: Spool | None = None
        self._is_over = False  # and nothing is left to tell
        self._is_exposed = False  # nothing is kept for a watch after this one
        self._last_metrics = 0.0
        self._wake = _wake_on_signals(stack)
        self.out: _Out = _Stdout()
        self._is_for_people = wish.out is None and not wish.as_json and sys.stdout.isatty()
        if wish.out is not None:
            self.out = records = stack.enter_context(Records(wish.out, max_size=wish.max_size, keep=wish.keep))
            self._spool = Spool(spool_of(wish.out), records.place)
            stack.callback(self._close_spool)
        if wish.listen:
            server = counters.Server(self.metrics, *wish.listen)
            stack.callback(server.close)
            self._say(f"metrics at http://{wish.listen[0]}:{server.port}/metrics")
        if wish.listen or wish.metrics:
            poller = Poller(self._counted_by_kvm)
            stack.callback(poller.close)
        diagnose(_WARM_UP)  # what it imports is not to delay the first failure
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", wish.name, re.ASCII):
            raise CaptureError(f"--name takes up to 32 letters, digits, - and _, not {wish.name!r}")
        root = tracefs.find_root(wish.tracefs)
        self.watch = stack.enter_context(
            Watch(
                root,
                host_facts(),
                history_kib=wish.history,
                wake=self._wake,
                prefix=f"{wish.name}-",
                spool=self._spool,
            )
        )

    def run(self) -> int:
        for name in self.watch.adopted:
            self._say(f"taking over {name}, which a watch left behind when it was killed")
        if self._spool and self._spool.left:
            self._say(f"reading {self._spool.path}: what that watch had taken and not told")
        self._say(f"watching every vCPU of this host; records go to {self._where}")
        end = None if self.wish.duration is None else time.monotonic() + self.wish.duration
        beat = 0.0
        while not self._stopped() and (end is None or time.monotonic() < end):
            left = _BEAT if end is None else max(0.0, min(_BEAT, end - time.monotonic()))
            self._tell(self.watch.poll(left))
            if time.monotonic() - beat >= _BEAT:
                beat = time.monotonic()
                self._beat()
        self._tell(self.watch.finish())
        self._beat(last=True)
        self._is_over = self.watch.is_settled
        return self._end()

    @property
    def _where(self) -> str:
        return self.wish.out or ("this terminal" if self._is_for_people else "the standard output")

    def _counted_by_kvm(self, total: int, reading: Reading) -> None:
        """From another thread: KVM's own count, or that there is none."""
        self.metrics.set(insn_emulation_fail_total=total, insn_emulation_fail_vms=len(reading.counts))
        if reading.source is None and not self._has_said_no_count:
            self._has_said_no_count = True
            complain(f"{NAME} is not available: {reading.why}")

    def _stopped(self) -> bool:
        try:
            return bool(os.read(self._wake, 64))
        except BlockingIOError:
            return False

    def _tell(self, seen: list[Seen]) -> None:
        for sighting in seen:
            failure, when, _ = sighting
            diagnosis = diagnose(failure)
            if isinstance(self.out, Records) and not self.out.waiting:  # what waits may be told twice, and is not lost
                self.watch.telling(sighting, self.out.place)
            if self._is_for_people:
                named = self.wish.symbols.name(diagnosis.facts).lines if self.wish.symbols else ()
                show([*_for_people(diagnosis), *named])
                self.out.written += 1
            else:
                self.out.write(self.wish.symbols.json(diagnosis) if self.wish.symbols else to_json(diagnosis))
            self._unwritten += 1
            self._acknowledge()
            self.metrics.delay(max(0.0, time.monotonic() - when))
            cause = diagnosis.findings[0].cause.id if diagnosis.findings else None
            self.metrics.count(
                kind=failure.kind,
                suberror=failure.suberror if failure.suberror in {1, 2, 3, 4} else None,
                silent=failure.silent,
                cause=cause,
                times=failure.source.count,
            )
            if not self.wish.quiet and not self._is_for_people:
                self._say(_summary(diagnosis))
        self.watch.settle()

    def _acknowledge(self) -> None:
        waiting = len(self.out.waiting) if isinstance(self.out, Records) else 0
        self.watch.told(self._unwritten - waiting)
        self._unwritten = waiting

    def _close_spool(self) -> None:
        if self._spool:
            self._spool.close(empty=self._is_over)

    def _beat(self, *, last: bool = False) -> None:
        problem = self.out.flush()
        self._acknowledge()
        if self._spool and self._spool.problem and not self._is_exposed:
            self._is_exposed = True
            complain(f"{self._spool.problem}; should this watch be killed, what it has just taken is lost")
        if problem and problem != self._problem:
            complain(f"{problem}; records wait in memory until there is room")
        elif self._problem and not problem:
            self._say("there is room again; every record that waited is written")
        self._problem = problem
        self.out.sync()
        waiting = len(self.out.waiting) if isinstance(self.out, Records) else 0
        self.metrics.set(
            lost_events_total=self.watch.lost,
            records_total=self.out.written,
            records_dropped_total=self.out.dropped,
            records_waiting=waiting,
        )
        if self.wish.metrics and (last or time.monotonic() - self._last_metrics >= _METRICS_EVERY):
            self._last_metrics = time.monotonic()
            counters.write_file(self.metrics, self.wish.metrics)

    def _end(self) -> int:
        lost = self.watch.lost
        waiting = len(self.out.waiting) if isinstance(self.out, Records) else 0
        self._say(f"stopped: {counted(self.out.written, 'record')} written")
        if lost:
            complain(f"the kernel lost {counted(lost, 'event')} for want of room: as many failures may be missing")
        if waiting or self.out.dropped:
            complain(
                f"not written: {counted(waiting + self.out.dropped, 'record')}: {self._problem or 'the disk was full'}"
            )
        return DAMAGED if lost or waiting or self.out.dropped else DONE

    def _say(self, text: str) -> None:
        """One line on the terminal, which is never where records go."""
        sys.stderr.write(f"kvmwhy: {safe(text)}\n")
        sys.stderr.flush()


def _for_people(diagnosis: Diagnosis) -> list[Line]:
    """A failure on a terminal: who and when, both answers, and what to do. What came again is one line."""
    failure = diagnosis.failure
    if failure.source.count > 1 or failure.source.last_time:
        return [Line(safe(_summary(diagnosis)), "dim")]
    when = (failure.source.time or "")[11:19]
    return [Line(), Line(safe(f"{when} {_who(failure)}".strip()), "head"), *in_brief(diagnosis)]


def _summary(diagnosis: Diagnosis) -> str:
    """One line; of what came again and again, also that the VMM goes round in it."""
    failure = diagnosis.failure
    times = "" if failure.source.count == 1 else f" {failure.source.count} times more:"
    loop = next((f" {finding.answer}" for finding in diagnosis.findings if finding.cause.id == "exit-reentered"), "")
    return f"{_who(failure)}:{times} {diagnosis.answer}{loop}"


def _who(failure: Failure) -> str:
    source = failure.source
    who = f"{source.vmm or 'a VMM'} ({source.path or 'process gone'})"
    who = f"guest {source.guest}, {who}" if source.guest else who
    return who if source.vcpu is None else f"{who} vCPU {source.vcpu}"


def spool_of(out: str) -> str:
    """A hidden file beside the records: no pattern for these takes it for one of them."""
    directory, name = os.path.split(out)
    return os.path.join(directory, f".{name}.spool")


def _wake_on_signals(stack: ExitStack) -> int:
    """A descriptor that is readable once SIGINT or SIGTERM has come; SIGPIPE becomes an error that can be handled."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)

    def stop(_number: int, _frame: FrameType | None) -> None:
        with suppress(BlockingIOError):
            os.write(writer, b"!")

    for number in (signal.SIGINT, signal.SIGTERM):
        stack.callback(signal.signal, number, signal.signal(number, stop))
    stack.callback(signal.signal, signal.SIGPIPE, signal.signal(signal.SIGPIPE, signal.SIG_IGN))
    return reader


def size(text: str) -> int | None:
    """``64M`` in bytes; 0: no limit. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,12})([KMG]?)", text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"--max-size takes a number of bytes, as 500000 or 64M, not {text!r}")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] or None


def address(text: str | None) -> tuple[str, int] | None:
    """``[HOST:]PORT``; without a host, this one only. Raises ValueError."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"--listen takes HOST:PORT, as 127.0.0.1:9748, not {text!r}")
    return (host.strip("[]") or "127.0.0.1", int(port))
