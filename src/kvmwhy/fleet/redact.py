"""A failure without what is nobody's business: names, addresses of the host, and the guest's data.

What stays is what the diagnosis needs, and it is made sure that it needs it: what was taken away and changes the
answer is put back and named. No text of a log is kept, so that nothing can hide in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.diagnosis.code_window import EMPTY
from kvmwhy.record import Code, ControlBlock, Cpu, Failure, Host, HostEvent, Segment, Source

# The CPU's state, and not the guest's data: what a diagnosis stands on.
_STATE: Final = frozenset({"rip", "rflags", "cr0", "cr4", "efer"})
_FIELDS: Final = re.compile(
    r"control|intercept|interrupt|activity|event|exit_|idt_vectoring|entry|_ctl$|asid|vpid$|pending|bitmap|mask$|shadow$"
    r"|_selector$|_limit$|_ar_bytes$|_attrib$|_(?:cr0|cr4|efer|rflags|rip|pat)$|(?:cs|ss|ds|es)_base$|cpl$|int_state"
)
_NOT_FIELDS: Final = re.compile(r"^host_(?!cr0|cr4|efer|pat)|_pa$|pointer|addr|backing|cr3|vapic|logical|physical")
_VERSION: Final = re.compile(r"\d{1,3}\.\d{1,4}(?:\.\d{1,4})?(?:-rc\d{1,2})?")
# Of a line of the host's kernel: what its source says, and no name of a task, a machine or a build.
_WORDS: Final = frozenset(
    {
        "access",
        "what",
        "module",
        "why",
        "isa",
        "command",
        "feature",
        "state",
        "reset",
        "call",
        "severity",
        "unit",
        "owner",
    }
)
_PLACE: Final = re.compile(r"(?:arch|virt|mm|kernel|include|drivers|fs|net|block|lib)/[\w./-]{1,80}\Z")
_SYMBOL: Final = re.compile(r"[A-Za-z_][\w.]{0,80}\Z")
_OWN_SLUGS: Final = "followed_by"  # kinds of messages, by our names
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,40}\Z")
_NOTHING: Final = re.compile(r"(?!)")
_ADDRESS: Final = 1 << 32  # and above: an address of the host
_CODES: Final = frozenset({"status", "error", "value", "reason"})  # what firmware and hardware returned
_HIDDEN: Final = ("fs", "gs", "ldt", "tr")


class Redacted(NamedTuple):
    """A failure that can be posted, what was taken out of it, and what had to stay."""

    failure: Failure
    removed: tuple[str, ...]
    kept: tuple[str, ...]


def redact(failure: Failure) -> Redacted:
    """Take out what is not needed for the answer. The answer stays the same, and so do its causes."""
    before = diagnose(failure)
    removed: list[str] = []
    kept = [
        "the CPU's state at the failure: RIP, flags, control registers, selectors, tables and the access's addresses"
    ]
    kept_failure = failure
    for take in (_source, _host, _fields, _remarks, _window, _code, _control):
        kept_failure, what = take(kept_failure, before)
        removed += what
    for take, name in (
        (_trace, "the trace"),
        (_registers, "registers"),
        (_faults, "addresses of the exceptions before it"),
        (_bases, "hidden bases"),
        (_others, "CR2, CR3 and debug registers"),
    ):
        candidate, what = take(kept_failure, before)
        if what and _same(before, diagnose(candidate)):
            kept_failure = candidate
            removed += what
        elif what:
            kept.append(f"{name}: without them the answer would be another")
    return Redacted(kept_failure, tuple(removed), tuple(kept))


def _same(one: Diagnosis, other: Diagnosis) -> bool:
    def told(diagnosis: Diagnosis) -> list[tuple[str, str]]:
        return [(finding.cause.id, finding.confidence) for finding in diagnosis.findings]

    def whose(diagnosis: Diagnosis) -> str | None:
        return diagnosis.origins[0].id if diagnosis.origins else None

    return told(one) == told(other) and one.answer == other.answer and whose(one) == whose(other)


def _source(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    source = failure.source
    gone = [
        name
        for name, value in (
            ("file names", source.path),
            ("times", source.time),
            ("host and process names", source.writer or source.guest),
        )
        if value
    ]
    return replace(failure, source=Source(vmm=source.vmm, vcpu=source.vcpu, count=source.count)), gone


def _fields(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    """Words beside a refused set-up, a symptom or another program's line, but for plain names; and how it was answered.

    The lines that facts were seen in go with the log: a proof would point at what nobody else has.
    """
    changed: dict[str, Any] = {"seen_at": {}, "stored": None}
    for name in ("setup", "symptom", "speaker"):
        part = getattr(failure, name)
        if part is None:
            continue
        fields = {
            key: value
            for key, value in part.fields.items()
            if (isinstance(value, int) and value < _ADDRESS)
            or (isinstance(value, str) and all(map(_NAME.match, value.split() if key == _OWN_SLUGS else [value])))
        }
        if fields != part.fields:
            changed[name] = replace(part, fields=fields)
    gone = ["words of the log beside the failure"] if changed.keys() & {"setup", "symptom", "speaker"} else []
    return replace(failure, **changed), gone


def _host(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    host = failure.host
    removed = []
    changed: dict[str, Any] = {}
    for name in ("kernel", "qemu"):
        text = getattr(host, name)
        version = _VERSION.match(text) if text else None
        short = version[0] if version else None
        if short != text:
            changed[name] = short
            removed.append(f"what follows the version of the {'host kernel' if name == 'kernel' else 'VMM'}")
    if host.dmi:
        changed["dmi"] = None
        removed.append("the host's maker")
    events = tuple(_event(event) for event in host.events)
    if events != host.events:
        changed["events"] = events
        removed.append("addresses and names in the kernel's lines")
    changed_host: Host = replace(host, **changed)
    return replace(failure, host=changed_host), removed


def _event(event: HostEvent) -> HostEvent:
    """A line of the host's kernel without its time, its addresses, tasks and machines."""
    fields: dict[str, int | str] = {}
    for name, value in event.fields.items():
        if isinstance(value, int):
            if (value < _ADDRESS or name in _CODES) and name != "pid":
                fields[name] = value
        elif name in _WORDS:
            fields[name] = value
        elif match := {"path": _PLACE, "function": _SYMBOL}.get(name, _NOTHING).search(value):
            fields[name] = match[0]
    return HostEvent(kind=event.kind, fields=fields)


def _remarks(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    """They quote the log."""
    if not failure.damage and not failure.repairs:
        return failure, []
    damage = ("the log was damaged; the remarks on it are removed",) if failure.damage else ()
    return replace(failure, damage=damage, repairs=()), ["remarks that quote the log"]


def _trace(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    gone = [f"a trace of {len(failure.trace)} events"] if failure.trace else []
    return replace(failure, trace=()), gone


def _faults(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    bare = tuple(replace(fault, cr2=None, rip=None, at=None, value=None) for fault in failure.faults)
    gone = ["addresses of the exceptions before it"] if bare != failure.faults else []
    return replace(failure, faults=bare), gone


def _length(before: Diagnosis) -> int | None:
    insn = before.facts.instruction
    return len(insn.bytes) if insn and insn.complete and not insn.invalid else None


def _window(failure: Failure, before: Diagnosis) -> tuple[Failure, list[str]]:
    """The bytes that KVM fetched behind the instruction, wherever in the words they stand."""
    length = _length(before)
    reading = before.facts.reading
    insn = reading.failure.insn if reading else None
    if failure.emulation and length and len(failure.emulation.insn) > length:
        failure = replace(failure, emulation=replace(failure.emulation, insn=failure.emulation.insn[:length]))
        if not insn:
            return failure, ["bytes behind the failing instruction"]
    if not insn or length is None or length >= len(insn):
        return failure, []
    words = bytearray(b"".join(word.to_bytes(8, "little") for word in failure.data))
    at = words.find(insn)
    if at < 1:
        return replace(failure, data=failure.data[:1], ndata=None), ["the words of the report: their form is not known"]
    words[at + length : at + len(insn)] = b"\x90" * (len(insn) - length)  # what KVM fills the field with
    if words[at - 1] == len(insn):
        words[at - 1] = length
    data = tuple(int.from_bytes(words[n : n + 8], "little") for n in range(0, len(words), 8))
    return replace(failure, data=data), ["bytes behind the failing instruction"]


def _code(failure: Failure, before: Diagnosis) -> tuple[Failure, list[str]]:
    """The VMM's window of code, but for the instruction."""
    code = failure.code
    if code is None:
        return failure, []
    if code.rip_at is None:
        return replace(failure, code=None), ["code bytes"]
    if before.facts.window in EMPTY:
        return failure, []  # there is nothing in it but that it is empty
    length = _length(before) or 15
    left = code.window[code.rip_at : code.rip_at + length]
    if len(left) == len(code.window):
        return failure, []
    return replace(failure, code=Code(left, 0)), ["code before and behind the failing instruction"]


def _control(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    control = failure.control
    if control is None:
        return failure, []
    fields = {
        name: value
        for name, value in control.fields.items()
        if not value or (_FIELDS.search(name) and not _NOT_FIELDS.search(name))
    }
    block = replace(failure, control=ControlBlock(control.kind, fields))
    less = len(control.fields) - len(fields)
    return block, [
        f"{less} fields of the {control.kind.upper()}: pointers, and what is the host's or the guest's"
    ] if less else []


def _cpu(failure: Failure, change: Callable[[Cpu], Cpu], what: str) -> tuple[Failure, list[str]]:
    if failure.cpu is None:
        return failure, []
    changed = change(failure.cpu)
    return (failure, []) if changed == failure.cpu else (replace(failure, cpu=changed), [what])


def _registers(failure: Failure, before: Diagnosis) -> tuple[Failure, list[str]]:
    """All that hold something, but for those that the failing instruction's address is made of."""
    insn = before.facts.instruction
    needed = {name for operand in (insn.memory if insn else ()) for name in (operand.base, operand.index) if name}
    wide = {_wide(name) for name in needed}

    def change(cpu: Cpu) -> Cpu:
        keep = {n: v for n, v in cpu.registers.items() if not v or n in _STATE | wide or n[:2] in {"cr", "dr"}}
        changed: Cpu = replace(cpu, registers=keep)
        return changed

    return _cpu(failure, change, "general registers that the failing instruction's address does not use")


def _wide(name: str) -> str:
    """The 64-bit register that holds this one."""
    if name.startswith("r"):
        return name.rstrip("dwb")
    return f"r{name[1:]}" if name.startswith("e") else f"r{name}"


def _bases(failure: Failure, before: Diagnosis) -> tuple[Failure, list[str]]:
    insn = before.facts.instruction
    used = {operand.segment for operand in (insn.memory if insn else ())}

    def change(cpu: Cpu) -> Cpu:
        segments = {
            name: replace(s, base=0) if name in _HIDDEN and name not in used and s.base else s
            for name, s in cpu.segments.items()
        }
        kept: dict[str, Segment] = segments
        changed: Cpu = replace(cpu, segments=kept)
        return changed

    return _cpu(failure, change, "bases of FS, GS, LDT and TR, which point into the guest (shown as 0)")


def _others(failure: Failure, _: Diagnosis) -> tuple[Failure, list[str]]:
    def change(cpu: Cpu) -> Cpu:
        gone = {"cr2", "cr3", "dr0", "dr1", "dr2", "dr3"}
        changed: Cpu = replace(cpu, registers={n: v for n, v in cpu.registers.items() if not v or n not in gone})
        return changed

    return _cpu(failure, change, "CR2, CR3 and the addresses of breakpoints")
