"""One line of a trace in whatever columns: task, PID, CPU, time, the event's name and what it printed.

          CPU 0/KVM-2844    (   2840) [001] d..1.  1042.123456: kvm_exit: vcpu 0 …      trace, trace_pipe
    CPU 0/KVM-2844      1d..1. 42123456us+: kvm_exit: vcpu 0 …                           latency-format
          CPU 0/KVM-2844  [001]  1042.123456: kvm_exit:             reason …             trace-cmd report
          CPU 0/KVM  2844 [001]  1042.123456:              kvm:kvm_exit: vcpu 0 …        perf script
    42.123 ( ): CPU 0/KVM/2844 kvm:kvm_exit(exit_reason: 48, guest_rip: …)               perf trace
    2844@1647341556.928341:kvm_run_exit cpu_index 0, reason 8                            QEMU's own trace events

What stands before the time is the same in line after line, and is looked at once. Reports leave these columns out,
and mail folds a line: then the event's name is what is looked for, and an unfinished event takes the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from kvmwhy.abi import literal
from kvmwhy.readers.trace import event_text
from kvmwhy.readers.trace.events import STORY, Fields, TraceEvent

_GAP: Final = r"[ \t]{1,80}"
_TASK_PID: Final = (
    r"(?<![^\s/-])(\d{1,10})(?:/(\d{1,10}))?"  # PID, or PID/TID
    rf"(?:{_GAP}\([ \t]{{0,10}}[\d-]{{1,10}}\))?"  # TGID
)
# [001] and flags, if any; or CPU and flags in one
_CPU: Final = rf"{_GAP}(?:\[(\d{{1,5}})\](?:[ \t]{{1,8}}[^\s:]{{4,8}})?|(\d{{1,4}})[.a-zA-Z#][.\w#]{{2,6}})"
_TASK: Final = re.compile(rf"{_TASK_PID}(?:{_CPU})?[ \t]*$")  # perf leaves out what was not recorded
_ANYWHERE: Final = re.compile(
    rf"{_TASK_PID}{_CPU}{_GAP}(\d[\d.]{{0,24}}(?:us)?[^\s\d:.]?)[ \t]?:{_GAP}"
    r"(\w{1,20}:)?(\w{1,40}):([ \t]{1,40})([^\n]{0,2000})"
)
# Without the columns: a quoted event, or perf's with its CPU and time only.
_BARE: Final = re.compile(
    r"^[ \t>|*]{0,40}(?:\[(\d{1,5})\][ \t]{1,8})?(?:(\d{1,12}\.\d{1,9}):[ \t]{1,80})?"
    r"(\w{1,20}:)?(\w{1,40}):([ \t]{1,40})([^\n]{0,2000})"
)
_PERF_TRACE: Final = re.compile(
    rf"^[ \t]{{0,40}}(\d{{1,12}}\.\d{{1,9}})[ \t]{{1,8}}(?:\([^)\n]{{0,30}}\):[ \t]{{0,8}})?[^\n]{{0,40}}?/(\d{{1,10}})"
    rf"{_GAP}(?:kvm:)?(\w{{1,40}})\(([^\n]{{0,2000}})\)"
)
_PERF_FIELD: Final = re.compile(r"(\w{1,40}): ?(\"[^\"]{0,200}\"|[^,]{1,200})")
_QEMU_RUN_EXIT: Final = re.compile(
    r"(?:\b(\d{1,10})@(\d{1,12}\.\d{1,9}):)?\bkvm_run_exit cpu_index (\d{1,5}), reason (\d{1,3})\b"
)
_FOLDED: Final = 4  # lines that an event may go on for
_LONGEST_COLUMNS: Final = 120
_MARGIN: Final = " \t\r>|"  # of quoted mail
_TIME: Final = re.compile(r"(\d{1,12}\.\d{1,9}|\d{1,16}(us))\D?$")
_LOST: Final = re.compile(r"\[LOST (\d{1,18}) EVENTS\]|\[(\d{1,18}) EVENTS DROPPED\]")
_LONGEST: Final = 4096  # of a line; the kernel prints at most a page for an event
_REMEMBERED: Final = 4096  # beginnings of lines
_NO_RESULT: Final = ("kvm_userspace_exit", "reason KVM_EXIT_UNKNOWN (0)")


class LostEvents(NamedTuple):
    events: int


class _Task(NamedTuple):
    pid: int
    cpu: int | None


def parse(lines: Iterable[str], first_line: int) -> Iterator[TraceEvent | LostEvents]:
    """The events that belong to a story, and where events were lost. All other lines are passed over."""
    tasks: dict[str, _Task | None] = {}
    held: _Held | None = None  # the last event, while the next line may go on with it
    columns = ""  # the last line without an event: mail may have folded an event behind its columns
    for number, line in enumerate(lines, first_line):
        head, _, rest = line.partition(": ")
        name, _, phrase = rest.lstrip(" \t").partition(":")
        by_tool = phrase.startswith("  ")
        if name not in STORY and phrase.startswith(("kvm_", "vcpu_", "handle_")):  # perf: kvm:kvm_exit
            name, _, phrase = phrase.partition(":")
            by_tool = True
        before, _, time = head.rstrip().rpartition(" ")  # a latency without a mark: "42us :"
        try:
            task = tasks[before]
        except KeyError:
            if len(tasks) >= _REMEMBERED:
                tasks.clear()
            task = _task(before) if len(before) < 200 else None
            if len(before) < 200:
                tasks[before] = task
        event: TraceEvent | LostEvents | None = None
        if task is not None and name in STORY and time:
            event = _event(task, name, phrase, time, number, by_tool=by_tool)
        elif task is None or not name.startswith("kvm_"):
            event = _unusual(line, number, columns)
            columns = line.strip(_MARGIN) if event is None and len(line) < _LONGEST_COLUMNS else ""
            if event is None:
                if held is not None:
                    held.offer(line)
                continue
        if held is not None:
            yield held.event
        held = _Held(event) if isinstance(event, TraceEvent) else None
        if isinstance(event, LostEvents):
            yield event
    if held is not None:
        yield held.event


class _Held:
    """An event whose line mail may have folded."""

    __slots__ = ("event", "lines", "waiting")

    def __init__(self, event: TraceEvent) -> None:
        self.event = event
        self.lines = 0
        self.waiting = ""  # lines that only make sense with the next one

    def offer(self, line: str) -> None:
        """Take the line if it is the event's own end: with it more of the event can be read than without it."""
        more = line.strip(_MARGIN)
        raw = self.event.raw
        if not more or self.lines >= _FOLDED or not isinstance(raw, tuple) or len(raw) != 2 or len(more) > 200:
            return
        name, phrase = raw
        self.lines += 1
        for glue in (" ", ""):
            longer = (name, f"{phrase}{self.waiting}{glue}{more}")
            if _known(self.event.reader.decode(longer)) > _known(self.event.fields):
                self.event.extend(longer)
                self.waiting = ""
                return
        self.waiting += f" {more}"


def _known(fields: Fields) -> int:
    """How much was read of an event; that an emulation failed is its last word."""
    return len(fields) - ("text" in fields) + bool(fields.get("failed"))


def losses(text: str) -> Iterator[LostEvents]:
    """Where the kernel, or trace-cmd, says that events were lost."""
    if " EVENTS" in text:
        for lost in _LOST.finditer(text):
            yield LostEvents(int(lost[1] or lost[2]))


def _unusual(line: str, number: int, columns: str) -> TraceEvent | LostEvents | None:
    """A line with something else than a task before the event, or no event at all. ``columns`` is the line before."""
    line = line[:_LONGEST]
    if lost := next(losses(line), None):
        return lost
    if not ("kvm_" in line or "_mmio" in line):
        return None
    match = _ANYWHERE.search(line)
    if match is None and columns:
        match = _ANYWHERE.search(f"{columns} {line.lstrip(_MARGIN)}")
    if match:
        pid, tid, cpu, latency_cpu, time, system, name, pad, phrase = match.groups()
        if name in STORY:
            task = _Task(int(tid or pid), int(cpu or latency_cpu))
            return _event(task, name, phrase, time, number, by_tool=bool(system) or len(pad) > 1)
        return None
    if "kvm_run_exit" in line and (match := _QEMU_RUN_EXIT.search(line)):
        return _qemu_event(match, number)
    if match := _PERF_TRACE.match(line):
        return _perf_event(match, number)
    if match := _BARE.match(line):
        at_cpu, time, system, name, pad, phrase = match.groups()
        if name in STORY:
            task = _Task(0, int(at_cpu) if at_cpu else None)
            return _event(task, name, phrase, time or "", number, by_tool=bool(system) or len(pad) > 1)
    return None


def _qemu_event(match: re.Match[str], number: int) -> TraceEvent:
    """QEMU's accel/kvm/trace-events: KVM_RUN came back to this QEMU."""
    pid, time, index, reason = match.groups()
    fields: Fields = {"reason": int(reason), "errno": 0}
    seconds = float(time) if time else None
    return _decoded(_Task(int(pid or 0), None), "kvm_userspace_exit", fields, time=seconds, vcpu=int(index), at=number)


def _perf_event(match: re.Match[str], number: int) -> TraceEvent | None:
    """An event of ``perf trace``: milliseconds, and the tracepoint's fields in decimal, or what the kernel prints."""
    time, thread, name, phrase = match.groups()
    if name not in STORY:
        return None
    fields: Fields = {}
    for key, value in _PERF_FIELD.findall(phrase):
        try:
            fields[key] = literal.number(value)
        except ValueError:
            fields[key] = value.strip('"')
    if not fields:
        return _event(_Task(int(thread), None), name, phrase, "", number, by_tool=True)
    vcpu = fields.get("vcpu_id")
    seconds = float(time) / 1e3
    return _decoded(
        _Task(int(thread), None), name, fields, time=seconds, vcpu=vcpu if isinstance(vcpu, int) else None, at=number
    )


def _decoded(task: _Task, name: str, fields: Fields, *, time: float | None, vcpu: int | None, at: int) -> TraceEvent:
    return TraceEvent(name, task.pid, fields, _AS_IT_IS, vcpu, task.cpu, time, at)


def _task(before: str) -> _Task | None:
    match = _TASK.search(before)
    if match is None:
        return None
    cpu = match[3] or match[4]
    return _Task(int(match[2] or match[1]), int(cpu) if cpu else None)


def _event(task: _Task, name: str, phrase: str, time: str, number: int, *, by_tool: bool) -> TraceEvent:
    phrase = phrase[:2000].strip(" \t\r")
    reader = _BY_TOOL if by_tool else _BY_KERNEL
    vcpu = event_text.vcpu_of(phrase)
    return TraceEvent(name, task.pid, (name, phrase), reader, vcpu, task.cpu, _seconds(time), number)


class _Kernel:
    """What the kernel printed itself."""

    def decode(self, raw: tuple[str, str]) -> Fields:
        return event_text.fields(*raw)

    def number(self, raw: tuple[str, str], name: str) -> int | None:
        value = self.decode(raw).get(name)
        return value if isinstance(value, int) else None


class _Tool(_Kernel):
    """perf and trace-cmd print the reason where the kernel prints the errno (measured, libtraceevent 1.7.1).

    After an ioctl that failed, the reason is as a rule 0.
    """

    def decode(self, raw: tuple[str, str]) -> Fields:
        return {"text": raw[1]} if raw == _NO_RESULT else event_text.fields(*raw)


class _Decoded:
    """Fields that the line gave by name."""

    def decode(self, raw: Fields) -> Fields:
        return raw

    def number(self, raw: Fields, name: str) -> int | None:
        value = raw.get(name)
        return value if isinstance(value, int) else None


_BY_KERNEL: Final = _Kernel()
_BY_TOOL: Final = _Tool()
_AS_IT_IS: Final = _Decoded()


def _seconds(text: str) -> float | None:
    """None for a clock that counts something else."""
    if not (match := _TIME.match(text)):
        return None
    return int(match[1][:-2]) * 1e-6 if match[2] else float(match[1])
