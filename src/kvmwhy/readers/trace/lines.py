"""One line of a trace in whatever columns: task, PID, CPU, time, the event's name and what it printed.

          CPU 0/KVM-2844    (   2840) [001] d..1.  1042.123456: kvm_exit: vcpu 0 …      trace, trace_pipe
    CPU 0/KVM-2844      1d..1. 42123456us+: kvm_exit: vcpu 0 …                           latency-format
          CPU 0/KVM-2844  [001]  1042.123456: kvm_exit:             reason …             trace-cmd report
          CPU 0/KVM  2844 [001]  1042.123456:              kvm:kvm_exit: vcpu 0 …        perf script

What stands before the time is the same in line after line, and is looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

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
        if task is not None and name in STORY and time:
            yield _event(task, name, phrase, time, number, by_tool=by_tool)
        elif task is None or not name.startswith("kvm_"):
            yield from _unusual(line, number)


def losses(text: str) -> Iterator[LostEvents]:
    """Where the kernel, or trace-cmd, says that events were lost."""
    if " EVENTS" in text:
        for lost in _LOST.finditer(text):
            yield LostEvents(int(lost[1] or lost[2]))


def _unusual(line: str, number: int) -> Iterator[TraceEvent | LostEvents]:
    """A line with something before the task, or no event at all."""
    yield from losses(line[:_LONGEST])
    if not ("kvm_" in line or "_mmio" in line) or not (found := _ANYWHERE.search(line[:_LONGEST])):
        return
    pid, tid, cpu, latency_cpu, time, system, name, pad, phrase = found.groups()
    if name in STORY:
        task = _Task(int(tid or pid), int(cpu or latency_cpu))
        yield _event(task, name, phrase, time, number, by_tool=bool(system) or len(pad) > 1)


def _task(before: str) -> _Task | None:
    found = _TASK.search(before)
    if found is None:
        return None
    cpu = found[3] or found[4]
    return _Task(int(found[2] or found[1]), int(cpu) if cpu else None)


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


_BY_KERNEL: Final = _Kernel()
_BY_TOOL: Final = _Tool()


def _seconds(text: str) -> float | None:
    """None for a clock that counts something else."""
    if not (found := _TIME.match(text)):
        return None
    return int(found[1][:-2]) * 1e-6 if found[2] else float(found[1])
