"""Failures of other hypervisors and of emulators, which look like KVM's: recognised, and said not to be KVM's.

What their lines tell is kept: a Xen VMCS breaks the rules that any VMCS breaks, TCG's log names the first exception of
a triple fault. Where KVM's own record stands beside them, ``precedence`` lets that one win.
"""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.not_kvm.speakers import FORMS, Form
from kvmwhy.readers.not_kvm.tcg import Ended, ended, registers
from kvmwhy.record import Failure, Source, Speaker

FORMAT: Final = "other hypervisor"
_MOST: Final = 5000
_TEXTS: Final = frozenset(
    {"message", "cause", "where", "call", "error", "module", "insn", "version", "vendor", "backend"}
)
_DECIMAL: Final = frozenset({"domain", "vcpu", "cpu", "status", "errno", "exit_code"})
_NOT_HERE: Final = re.compile(r"#define|\bcase\b|%[ds]|\bprintk?\(|\breturn\b|;\s*$|->")
# A guest's own panic, in a VM that KVM runs well.
_GUEST_PANIC: Final = re.compile(
    r"Kernel panic - not syncing: (?P<message>(?:Attempted to kill init|VFS: Unable to mount root"
    r"|No working init)[^\n]{0,100})"
)
_GUEST_MACHINE: Final = re.compile(
    r"Hardware name: (?P<machine>linux,dummy-virt|QEMU |Bochs|Google Compute|Amazon EC2|crosvm|Cloud Hypervisor)"
)
_PANIC: Final = "Kernel panic - not syncing"


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One record for each speaker: its first line, and the values of all of them."""
    body = text.text
    spoken: dict[str, list[re.Match[str]]] = {}
    failing: set[str] = set()
    for form in FORMS:
        for match in _matches(form, body):
            spoken.setdefault(form.speaker, []).append(match)
            if form.failure:
                failing.add(form.speaker)
    names = [name for name in spoken if name in failing]
    if "hyperkit" in names and "bhyve" in names:  # HyperKit has bhyve's lines, and its own
        spoken["hyperkit"] += spoken.pop("bhyve")
        names.remove("bhyve")
    if "own" in names and len(names) > 1:  # any hypervisor may say it so
        names.remove("own")
    failures = [_failure(name, spoken[name], text, path, first_line) for name in names]
    if not failures and (panic := _guest_panic(text, path, first_line)):
        failures = [panic]
    failures.sort(key=lambda failure: failure.source.line or 0)
    return Evidence(tuple(failures), format=FORMAT if failures else None)


def _matches(form: Form, text: str) -> list[re.Match[str]]:
    if not any(anchor in text for anchor in form.anchors):
        return []
    matches = []
    for n, match in enumerate(form.pattern.finditer(text)):
        if n >= _MOST:
            break
        begin = max(text.rfind("\n", 0, match.start()) + 1, match.start() - 400)
        end = text.find("\n", match.end(), match.end() + 200)
        if not _NOT_HERE.search(text, begin, match.end() if end < 0 else end):
            matches.append(match)
    return matches


def _failure(name: str, matches: list[re.Match[str]], whole: Text, path: str | None, first_line: int) -> Failure:
    text = whole.text
    matches.sort(key=lambda match: match.start())
    fields: dict[str, int | str] = {}
    for match in matches:
        for field, raw in match.groupdict().items():
            if raw is not None and field not in fields and (value := _value(name, field, raw)) is not None:
                fields[field] = value
    chain = Ended()
    if name == "tcg":
        chain = ended(text)
        fields |= chain.fields
    line = first_line + text.count("\n", 0, matches[0].start())
    last = first_line + text.count("\n", 0, matches[-1].start())
    vcpu = fields.get("vcpu")
    return Failure(
        kind="not-kvm",
        arch="x86" if chain.faults else None,
        arch_from="QEMU's log of x86's exceptions" if chain.faults else None,
        source=Source(
            path=path, line=line, last_line=last if last > line else None, vcpu=vcpu if isinstance(vcpu, int) else None
        ),
        speaker=Speaker(name=name, fields=fields),
        seen_at={"speaker": line},
        host=host_of(text),
        repairs=whole.repairs,
        faults=chain.faults if chain.is_triple else (),
        cpu=registers(text, chain.dump) if chain.is_triple else None,
    )


def _value(speaker: str, field: str, raw: str) -> int | str | None:
    if field in _TEXTS or (field == "status" and not raw.lstrip("-").isdigit()):
        return " ".join(raw.split()) or None
    digits = raw.removeprefix("0x").removeprefix("0X")
    decimal = field in _DECIMAL or (
        speaker in {"bhyve", "hyperkit", "noirvisor", "jailhouse", "own"}
        and not raw.startswith("0x")
        and field in {"exit_reason", "instruction_error"}
    )
    try:
        return int(digits, 10 if decimal and not raw.lower().startswith("0x") else 16)
    except ValueError:
        return None


def _guest_panic(whole: Text, path: str | None, first_line: int) -> Failure | None:
    text = whole.text
    if _PANIC not in text or (panic := _GUEST_PANIC.search(text)) is None:
        return None
    machine = _GUEST_MACHINE.search(text)
    if machine is None:
        return None
    line = first_line + text.count("\n", 0, panic.start())
    return Failure(
        kind="not-kvm",
        source=Source(path=path, line=line),
        speaker=Speaker(
            name="guest-kernel", fields={"message": panic["message"].strip(), "machine": machine["machine"].strip()}
        ),
        seen_at={"speaker": line},
        host=host_of(text),
        repairs=whole.repairs,
    )
