"""The events of a host's kernel log: each line that a message is known for, typed, with its line and its time.

A line is the host's if it begins as the kernel begins its lines. A message that any kernel prints (an oops, a warning,
a hardware error) may as well be a guest's, on a console that QEMU writes into its own log. It is the host's if it names
KVM or a VMM, or if nothing of a VMM stands in the same text; a virtual machine's is left out, else its ``owner`` is
"unclear".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple

from kvmwhy.ingest.multi_search import finder, present
from kvmwhy.readers.kernel_log import host_messages
from kvmwhy.readers.kernel_log.host_messages import GENERAL, PARTS, REPORTS, TELLING_ALONE, Reading
from kvmwhy.readers.kernel_log.host_messages.printf import Value
from kvmwhy.readers.kernel_log.oops import Report, report_of
from kvmwhy.readers.kernel_log.printk import Line, Origin, messages, quotes
from kvmwhy.readers.vmm_output import has_vmm_output
from kvmwhy.record import At, HostEvent

_FOLDED: Final = 2  # lines that a mailer may have folded off one
_PART_REACH: Final = 12  # lines from a message to its last part
_NOBODY: Final = Origin()
_BEHIND: Final = 80  # lines that a report may take
_COMPANY: Final = 4  # lines
# What prints a call trace of its own right behind its line: mm/oom_kill.c, dump_header; mm/page_alloc.c, warn_alloc.
_OOM_KILLER: Final = "oom_kill_process"
_WITH_TRACE: Final = frozenset({"oom-called", "page-allocation-failed"})
_CUT: Final = "cut-report"  # what it tells of is not shown: it counts where KVM took part
_MOST: Final = 20_000  # events of one text: a flood says no more than its first lines
_EFER: Final = 0xC0000080
_SVME: Final = 1 << 12  # svm_hardware_enable sets it
# VM_HSAVE_PA, which svm_hardware_enable writes, and what VMX can do, which setup_vmcs_config reads.
_KVMS_MSRS: Final = frozenset((0xC0010117, *range(0x480, 0x494)))
_VMMS: Final = re.compile(
    r"^(?:qemu|kvm|CPU [0-9]|vcpu|fc_vcpu|crosvm|cloud-hyp|firecracker|vhost|VBox|vmx)", re.IGNORECASE
)


class Place(NamedTuple):
    """An event with its line of the text, from 0, and the last line of it."""

    event: HostEvent
    line: int
    last: int


@cache
def _search() -> tuple[object, object, tuple[str, ...]]:
    marks = host_messages.marks()
    encoded = [mark.encode() for mark in marks]
    return finder(encoded), present(encoded), marks


def events_of(text: str, origin: Origin = _NOBODY) -> tuple[Place, ...]:
    """Every event of the host's kernel in a text, in order."""
    if origin.is_vmm:
        return ()
    places: list[Place] = []
    has_vmm: bool | None = None
    skip = -1
    for number, line_text, following in _candidates(text):
        line = origin.line(number, line_text)
        message = _read(line, following, origin)
        if message is None:
            continue
        reading, fields, last = message
        if number <= skip and reading.slug in REPORTS:
            continue  # "Oops: 0000" behind "BUG: unable to handle": one report
        if reading.slug in PARTS:
            whole = PARTS[reading.slug]
            if _complete(places, whole, reading.fields, number) or reading.slug not in TELLING_ALONE:
                continue
            reading = reading._replace(slug=whole)
        if reading.slug in GENERAL:
            if has_vmm is None:
                has_vmm = has_vmm_output(text)
            report = (
                report_of(reading.slug, line, following[last - number :], origin)
                if reading.slug in REPORTS
                else Report()
            )
            owner = _owner(line, fields, report, has_vmm=has_vmm)
            if owner is None or (reading.slug == _CUT and not (report.names_kvm or _is_vmms(fields | report.fields))):
                continue
            fields = fields | report.fields | owner
            last = max(last, number + report.lines)
            skip = last if reading.slug in REPORTS else skip
            if reading.slug == _CUT and _has_its_head(places, number):
                places[-1] = _with_report(places[-1], fields, last)
                continue
            if reading.slug == _CUT and _OOM_KILLER in str(fields.get("trace", "")):
                reading = reading._replace(slug="oom-called")
        event = HostEvent(kind=reading.slug, at=At(line=number + 1), time=line.time, fields=fields)
        places.append(Place(event, number, last))
        if len(places) >= _MOST:
            break
    return tuple(_with_company(places))


def _has_its_head(places: list[Place], number: int) -> bool:
    """Whether the message before is one that a call trace belongs to."""
    return bool(places) and places[-1].event.kind in _WITH_TRACE and number - places[-1].last <= _COMPANY


def _with_report(place: Place, fields: dict[str, Value], last: int) -> Place:
    event = place.event
    whole = HostEvent(kind=event.kind, at=event.at, time=event.time, fields=fields | event.fields)
    return Place(whole, place.line, last)


def concerns_kvm(event: HostEvent) -> bool:
    """Whether KVM's modules printed it, or it names KVM or a VMM: a kernel has other troubles, too."""
    if event.kind not in GENERAL:
        return True
    return "kvm" in event.fields or _is_vmms(event.fields) or _is_kvms_msr(event.fields)


def _is_vmms(fields: Mapping[str, Value]) -> bool:
    return _VMMS.match(str(fields.get("comm", ""))) is not None


def _is_kvms_msr(fields: Mapping[str, Value]) -> bool:
    """Whether an access was refused that nobody but KVM makes, to switch VMX or SVM on or to ask what they can do."""
    msr, value = fields.get("msr"), fields.get("value", 0)
    if not isinstance(msr, int) or not isinstance(value, int):
        return False
    return msr in _KVMS_MSRS or (msr == _EFER and bool(value & _SVME))


def _with_company(places: list[Place]) -> Iterator[Place]:
    """What stands in one block with the host's own lines is the host's, too."""
    sure = [place for place in places if "owner" not in place.event.fields]
    for place in places:
        fields = place.event.fields
        if "owner" in fields and any(
            abs(place.line - other.last) <= _COMPANY or abs(other.line - place.last) <= _COMPANY for other in sure
        ):
            fields = {name: value for name, value in fields.items() if name != "owner"}
            event = HostEvent(kind=place.event.kind, at=place.event.at, time=place.event.time, fields=fields)
            yield Place(event, place.line, place.last)
        else:
            yield place


def _candidates(text: str) -> Iterator[tuple[int, str, list[str]]]:
    """Each line that holds a mark: its number, its text, and some lines behind it."""
    find, _, _ = _search()
    data = text.encode("utf-8", "surrogatepass")
    number, at, behind = 0, 0, 0
    lines: list[str] | None = None
    for _, start, _ in find(data):  # type: ignore[operator]  # a Finder
        if start < behind:
            continue
        number += data.count(b"\n", at, start)
        at = start
        end = data.find(b"\n", start)
        behind = len(data) if end < 0 else end
        if lines is None:
            lines = text.split("\n")
        yield number, lines[number], lines[number + 1 : number + 1 + _BEHIND]


def _read(line: Line, following: Sequence[str], origin: Origin) -> tuple[Reading, dict[str, Value], int] | None:
    """What a line says, together with what was folded off its end; and the last line of it."""
    best: tuple[Reading, dict[str, Value], int] | None = None
    for more, last in _folds(line, following, origin):
        longest, reading, before = 0, None, dict[str, Value]()
        for candidate in messages(line, more):
            parsed = _message(candidate.text)
            reach = len(line.text) + len(more) - len(candidate.text) + parsed.end if parsed else 0
            if parsed and reach >= longest:
                longest, reading, before = reach, parsed, candidate.fields
        # A fold must be needed: it gives a value more.
        if reading and (best is None or len(reading.fields) > len(best[0].fields)):
            best = reading, before | reading.fields, line.number + last
    return best or _quoted(line)


def _quoted(line: Line) -> tuple[Reading, dict[str, Value], int] | None:
    for quoted in quotes(line):
        for message in messages(Line(line.number, quoted, None, None)):
            if reading := _message(message.text):
                return reading, message.fields | reading.fields, line.number
    return None


def _folds(line: Line, following: Sequence[str], origin: Origin) -> Iterator[tuple[str, int]]:
    yield "", 0
    more = ""
    for n, text in enumerate(following[:_FOLDED]):
        following_line = origin.line(line.number + n + 1, text)
        rest = following_line.text[following_line.start :].strip()
        if not rest or following_line.stamped:
            return
        more += " " + rest
        yield more, n + 1


@lru_cache(maxsize=4096)
def _message(text: str) -> Reading | None:
    """A flood prints one message again and again."""
    _, find, marks = _search()
    numbers = find(text.encode("utf-8", "surrogatepass"))  # type: ignore[operator]
    return host_messages.read(text, [marks[n] for n in sorted(numbers)]) if numbers else None


def _complete(places: list[Place], slug: str, fields: dict[str, Value], number: int) -> bool:
    """Put the second line of a message to its first, if that is there."""
    for n in range(len(places) - 1, max(len(places) - 4, -1), -1):
        event, line, _ = places[n]
        if number - line > _PART_REACH:
            return False
        if event.kind == slug and not fields.keys() & event.fields.keys():
            whole = HostEvent(kind=slug, at=event.at, time=event.time, fields=event.fields | fields)
            places[n] = Place(whole, line, number)
            return True
    return False


def _owner(line: Line, fields: dict[str, Value], report: Report, *, has_vmm: bool) -> dict[str, Value] | None:
    """Whose a message is that any kernel prints: nothing to add for the host's, ``None`` for a guest's."""
    comm = str(fields.get("comm") or report.fields.get("comm") or "")
    if report.names_kvm or _VMMS.match(comm):
        return {}
    if report.is_guest:
        return None
    if not has_vmm and (line.stamped or report.lines):
        return {}
    return {"owner": "unclear"}
