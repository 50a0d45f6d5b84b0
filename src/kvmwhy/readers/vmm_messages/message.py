"""What one line says of a failed run, before registers and neighbours are joined to it."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from kvmwhy.abi import literal
from kvmwhy.abi.internal_error import MAX_NDATA
from kvmwhy.readers.errno_spelled import find_errno, name_of
from kvmwhy.readers.vmm_messages.exit_names import kind_of, number_of
from kvmwhy.readers.vmm_messages.forms import Form
from kvmwhy.readers.vmm_messages.numbers import hardware_reason, integer
from kvmwhy.record import Kind


class Message(NamedTuple):
    """The facts of one line. Absent is what it does not show."""

    start: int
    stop: int
    kind: Kind
    exit_reason: int | None = None
    suberror: int | None = None
    ndata: int | None = None
    data: tuple[int, ...] = ()
    hardware_error: int | None = None
    hardware_reason: int | None = None
    exception: int | None = None
    exception_error_code: int | None = None
    errno: str | None = None
    rip: int | None = None
    pc: int | None = None
    vcpu: int | None = None
    vmm: str | None = None
    details: tuple[tuple[str, int], ...] = ()  # of KVM_EXIT_MEMORY_FAULT and SYSTEM_EVENT, by linux/kvm.h's names
    second: int | None = None  # the number of kvmtool's second line
    code: bytes = b""  # at RIP
    template: str = ""  # the form that read it, or the line without its digits
    weak: bool = False  # says only that a run failed; the lines around it may say how


_DEBUG: Final = re.compile(r"(?:[A-Za-z]+::)?(?P<name>[A-Za-z][A-Za-z0-9]{1,40})(?: ?(?P<rest>[({][^\n]{0,600}))?")
_IN_DEBUG: Final = re.compile(
    r"(?:(?P<field>[a-z_]{1,40}): ?)?(?<![0-9a-zA-Z_])(?P<number>0x[0-9a-fA-F]{1,16}|-?[0-9]{1,20})(?![0-9a-zA-Z_])"
)
_DATA: Final = re.compile(r"\bndata: ?(?P<ndata>[0-9]{1,2}), data: ?\[(?P<words>[0-9, ]{1,400})\]")
_SHORT: Final = 240


def errno_in(text: str) -> str | None:
    """The errno that a program prints behind its own words, by number, by name, or in strerror's words."""
    spelled = find_errno(text, 0, _SHORT)
    return spelled.name if spelled else None


def debug_facts(text: str) -> dict[str, Any] | None:
    """Rust's ``{:?}`` of a VcpuExit: ``FailEntry(7, 2)``, ``Unsupported(39)``, ``MemoryFault { flags: 8, … }``."""
    match = _DEBUG.match(text)
    if not match:
        return None
    name = match["name"]
    rest = match["rest"] or ""
    closed = ")" in rest or "}" in rest  # a number without its bracket may be cut
    values = [(m["field"], integer(m["number"])) for m in _IN_DEBUG.finditer(rest)][:8] if closed else []
    if name == "Unsupported":
        return {"exit_reason": values[0][1]} if values and values[0][1] < 1 << 16 else None
    reason = number_of(name)
    if reason is None:
        return None
    facts: dict[str, Any] = {"exit_reason": reason}
    named = {field: value for field, value in values if field}
    first = named.get("hardware_entry_failure_reason", values[0][1] if values else None)
    if reason == 9 and first is not None:
        facts["hardware_error"] = first
    elif reason == 17 and (sub := named.get("suberror", named.get("error"))) is not None:
        facts["suberror"] = sub
        if shown := _DATA.search(rest):  # the array is longer than what is valid
            words = tuple(int(word) for word in shown["words"].replace(",", " ").split())
            facts |= {"ndata": int(shown["ndata"]), "data": words[: min(int(shown["ndata"]), MAX_NDATA)]}
    elif reason == 39:
        facts["details"] = tuple((field, value) for field, value in named.items() if field in {"flags", "gpa", "size"})
    elif reason == 24 and values:
        facts["details"] = (("type", values[0][1]),)
    return facts


def facts_of(form: Form, match: re.Match[str], line: str) -> dict[str, Any] | None:
    """The facts that a match of a form shows; ``None`` if its numbers make no sense."""
    shown = {name: text for name, text in match.groupdict().items() if text is not None}
    facts: dict[str, Any] = {}
    if form.exit_reason is not None:
        facts["exit_reason"] = form.exit_reason
    if form.errno:
        facts["errno"] = form.errno
    if "debug" in shown:
        # The pattern stops where it may; what the exit carries is read from the line.
        debug = debug_facts(line[match.start("debug") :])
        if debug is None:
            return None
        facts |= debug
    if "exit" in shown:
        facts["exit_reason"] = number_of(shown["exit"])
    if "reason" in shown:
        facts["exit_reason"] = integer(shown["reason"])
    if "errno" in shown:
        facts["errno"] = errno_in(shown["errno"])
        if facts["errno"] is None:
            return None
    if "number" in shown:
        facts["errno"] = name_of(literal.number(shown["number"]))
        if facts["errno"] is None:
            return None
    if "hardware_error" in shown:
        facts["hardware_error"] = hardware_reason(shown["hardware_error"])
    for name in ("suberror", "hardware_reason", "ndata", "exception", "second"):
        if name in shown:
            facts[name] = integer(shown[name])
    if "error_code" in shown:
        facts["exception_error_code"] = integer(shown["error_code"])
    if "rip" in shown or "rip_x" in shown:
        facts["pc" if "pc={rip}" in form.form else "rip"] = (
            integer(shown["rip"]) if "rip" in shown else int(shown["rip_x"], 16)
        )
    if "vcpu" in shown:
        facts["vcpu"] = int(shown["vcpu"])
    if "word_x" in shown:
        facts |= _union(form.exit_reason, int(shown["word_x"], 16))
    details: list[tuple[str, int]] = [
        (name, integer(shown[name])) for name in ("flags", "gpa", "size") if name in shown
    ]
    if "event" in shown:
        details.append(("type", integer(shown["event"])))
    if details:
        facts["details"] = tuple(details)
    if shown.get("data_bytes") and "ndata" in facts:
        facts["data"] = _words(shown["data_bytes"], facts["ndata"])
    if "instruction" in shown:  # KVM gives the bytes for an emulation failure alone
        facts |= {"suberror": 1, "code": bytes.fromhex(shown["instruction"].replace(",", " "))}
    if facts.get("exit_reason", 0) is None or facts.get("exit_reason", 0) >= 1 << 16:
        return None
    return None if facts.get("suberror", 0) >= 1 << 32 else facts


def _union(reason: int | None, word: int) -> dict[str, int]:
    """The first eight bytes of kvm_run's union, which gVisor prints of every exit."""
    low, high = word & 0xFFFF_FFFF, word >> 32
    if reason == 17:
        return {"suberror": low, "ndata": high}
    if reason == 9:
        return {"hardware_error": word}
    return {"exception": low, "exception_error_code": high} if reason == 1 else {}


def _words(text: str, ndata: int) -> tuple[int, ...]:
    """VirtualBox's %Rhxs of internal.data: bytes of little-endian words, without separators."""
    whole = text[: len(text) // 16 * 16]
    words = [int.from_bytes(bytes.fromhex(whole[at : at + 16]), "little") for at in range(0, len(whole), 16)]
    return tuple(words[: min(ndata, MAX_NDATA)])


def make_message(facts: dict[str, Any], start: int, stop: int, **more: Any) -> Message:
    """A message of the facts of a line: KVM_RUN's errno is a failed run, any other exit is of its own kind."""
    kind: Kind = facts.pop("kind", None) or ("run-error" if "errno" in facts else kind_of(facts.get("exit_reason", 64)))
    return Message(start, stop, kind, **(facts | more))
