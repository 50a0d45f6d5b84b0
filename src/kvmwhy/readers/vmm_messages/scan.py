"""From a text to the messages in it: candidate lines, the table first, then any program's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from kvmwhy.ingest.multi_search import Finder, finder
from kvmwhy.readers.anchors.vmm_messages import ANCHORS
from kvmwhy.readers.vmm_messages.exit_names import FAILURES, ORDINARY
from kvmwhy.readers.vmm_messages.forms import FORMS, Form
from kvmwhy.readers.vmm_messages.go_throw import thrown_at
from kvmwhy.readers.vmm_messages.guest_exception import exception_in
from kvmwhy.readers.vmm_messages.message import Message, facts_of, make_message
from kvmwhy.readers.vmm_messages.names import Namer
from kvmwhy.readers.vmm_messages.refusal import is_no_message
from kvmwhy.readers.vmm_messages.tolerant import failed_somehow, read_line

_MOST: Final = 100_000
_LONG: Final = 4096
_MOST_JOINED: Final = 8
_DIGITS: Final = re.compile(r"[0-9]+")
_MOST_WORDINGS: Final = 1000
_LONGEST_TEMPLATE: Final = 120
_SPACES: Final = re.compile(r" {2,}")
_OPENS: Final = re.compile(r"[A-Za-z]{3,20} ?[({]$")
_VCPU: Final = re.compile(
    r"(?<![A-Za-z])v_?cpu(?:[ _:#=-]{0,3}|[ _]?id[ :=]{1,3})(?P<a>[0-9]{1,4})(?![0-9a-zA-Z])|<vcpu(?P<b>[0-9]{1,4})>"
    r"|\bvp\{index=(?P<c>[0-9]{1,4})\}|\bCPU (?P<d>[0-9]{1,4}) (?:crashed|received)|\bcpu(?P<e>[0-9]{1,4}): KVM",
    re.IGNORECASE,
)
_FOLDED: Final = re.compile(r"\bkvm_userspace_exit:(?: reason)?\s{0,80}\Z")  # a tracepoint's line that mail broke
# Lines whose thread is that of the message behind them.
_PANICKED: Final = "panicked at"
_CAUSED: Final = "Caused by"


class _Line(NamedTuple):
    """text[start:stop], with what belongs to it of the lines around."""

    start: int
    stop: int
    text: str  # with the lines that Rust's {:#?} made of its end
    before: str


class _Wording(NamedTuple):
    """What all lines have in common that differ in digits alone; a flood of one line is judged once."""

    is_code: bool
    forms: tuple[Form, ...]  # whose longest piece is in the line


class _Reader:
    """One text, line by line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.namer = Namer(text)
        self.wordings: dict[str, _Wording] = {}

    def message(self, begin: int, stop: int) -> Message | None:
        """The message of text[begin:stop], a line, if it is one."""
        line = self.text[begin:stop]
        template = _DIGITS.sub("0", line)
        wording = self.wordings.get(template)
        if wording is None:
            wording = _judge(line)
            if len(self.wordings) < _MOST_WORDINGS:
                self.wordings[template] = wording
        if wording.is_code:
            return None
        whole = _joined(self.text, begin, stop) if _OPENS.search(line) else line
        place = _Line(begin, stop, whole, _line_before(self.text, begin))
        if _FOLDED.search(place.before):
            return None
        for form in wording.forms:
            facts = _by_form(form, place.text, place.before)
            if facts is None:
                continue
            if not facts:
                return None  # this form speaks of an exit that is no failure
            return self._placed(facts, place, form.vmm, template=form.form, shows_host_cpu="{host_cpu" in form.form)
        if facts := thrown_at(self.text, begin, stop):
            return self._placed(facts, place, "gvisor", template=template, shows_host_cpu=True)
        if facts := exception_in(place.text):
            return make_message(facts, begin, stop, vmm="kvm-unit-tests", template=template)
        if facts := read_line(place.text):
            return self._placed(facts, place, None, template=template)
        if kind := failed_somehow(place.text):
            return self._placed({"kind": kind, "weak": True}, place, None, template=template)
        return None

    def _placed(
        self, facts: dict[str, Any], line: _Line, vmm: str | None, *, template: str, shows_host_cpu: bool = False
    ) -> Message:
        if "vcpu" not in facts:
            facts["vcpu"] = _vcpu_in(line.text, line.before, shows_host_cpu=shows_host_cpu)
        named = vmm or self.namer.name(line.start, line.stop)
        return make_message(facts, line.start, line.stop, vmm=named, template=template[-_LONGEST_TEMPLATE:])


def messages_of(text: str) -> list[Message]:
    """Every message of a text, in order; no line gives two."""
    out: list[Message] = []
    reader = _Reader(text)
    end = -1
    for place in _anchored(text):
        if place < end:
            continue
        begin = text.rfind("\n", 0, place) + 1
        stop = text.find("\n", place)
        stop = len(text) if stop < 0 else stop
        if stop - begin > _LONG:  # a line of a collector that folded many into one
            begin, stop = max(begin, place - 400), min(stop, place + 1200)
        end = stop
        message = reader.message(begin, stop)
        if message:
            out.append(message)
            if len(out) >= _MOST:
                break
    return out


@cache
def _finder() -> Finder:
    return finder([anchor.encode() for anchor in ANCHORS])


def _anchored(text: str) -> Iterator[int]:
    """Where anchors stand, in order."""
    data = text.encode("utf-8", "surrogatepass")
    matches = _finder()(data)
    if len(data) == len(text):
        yield from (start for _, start, _ in matches)
        return
    at = offset = 0
    for _, start, _ in matches:
        at += len(data[offset:start].decode("utf-8", "surrogatepass"))
        offset = start
        yield at


def _judge(line: str) -> _Wording:
    if is_no_message(line):
        return _Wording(is_code=True, forms=())
    flat = _SPACES.sub(" ", line)
    return _Wording(is_code=False, forms=tuple(form for form in FORMS if form.key in flat))


def _by_form(form: Form, line: str, before: str) -> dict[str, Any] | None:
    """The facts of a line in a form; ``None``: it is not in it; empty: what it reports is no failure."""
    if form.after is not None and (form.after not in before or line.strip() != form.form):
        return None
    match = form.pattern.search(line)
    if not match:
        return None
    facts = facts_of(form, match, line)
    if facts is None or "exit_reason" not in facts:
        return facts
    reason = facts["exit_reason"]
    if form.form.startswith("kvm_run_exit") and reason not in FAILURES:
        return {}
    return {} if form.form.startswith("kvm: exit_reason") and reason in ORDINARY else facts


def _vcpu_in(line: str, before: str, *, shows_host_cpu: bool) -> int | None:
    """The vCPU that a line names: in its words, its thread's name, or the thread that panicked."""
    where = line.split("KVM_EXIT_", 1)[0] if shows_host_cpu else line
    match = _VCPU.search(where) or (_VCPU.search(before) if _PANICKED in before or _CAUSED in before else None)
    if match is None or (shows_host_cpu and match[0].startswith("Vcpu")):
        return None
    return int(next(group for group in match.groups() if group))


def _line_before(text: str, begin: int) -> str:
    if begin == 0:
        return ""
    start = text.rfind("\n", 0, begin - 1) + 1
    if text.startswith(_CAUSED, start) or _CAUSED in text[start : begin - 1]:
        for _ in range(2):
            start = text.rfind("\n", 0, max(0, start - 1)) + 1
    return text[max(start, begin - 600) : begin - 1]


def _joined(text: str, begin: int, stop: int) -> str:
    """A line and those that Rust's ``{:#?}`` made of its end, up to the closing bracket."""
    parts = [text[begin:stop].rstrip()]
    at = stop + 1
    for _ in range(_MOST_JOINED):
        end = text.find("\n", at)
        part = text[at : len(text) if end < 0 else end].strip()[:200]
        parts.append(part)
        if not part or part[0] in ")}" or end < 0:
            break
        at = end + 1
    return " ".join(parts)
