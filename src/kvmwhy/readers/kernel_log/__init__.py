"""A host's kernel log: the dumps of VMCS and VMCB, and the lines by which KVM says that it gave up.

A dump is printed when a VM entry failed, or for an exit that KVM has no handler for; never for the other
suberrors. What the hardware refused with is in the dump (``reason``, ``exit_code``), but for VMLAUNCH and VMRESUME
that failed themselves: their VM-instruction error goes to userspace only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.ingest.marks import KERNEL_LOG
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.kernel_log import vmcb, vmcs
from kvmwhy.readers.kernel_log.dump_assembler import Dump, Dumps
from kvmwhy.readers.kernel_log.host_messages import Remark, kernel_of, near, remarks_of, trouble
from kvmwhy.readers.kernel_log.printk import Line, lines_of
from kvmwhy.record import ControlBlock, Cpu, Exit, Failure, Host, Source

_UNEXPECTED: Final = re.compile(
    r"(?:vcpu([0-9]{1,5})\D[^\n]{0,80}?)?\b(?:(vmx|svm): )?unexpected exit reason (0x[0-9a-f]{1,16})(?![0-9a-z])"
)
_OFF: Final = re.compile(r"set kvm_(intel|amd)\.dump_invalid_vmc[sb]=1 to dump")
_MISCONFIG: Final = "EPT: Misconfiguration"
_FAILED: Final = 1 << 31  # SDM vol. 3C, 25.9.1: the exit is a failed VM entry
_INVALID: Final = {0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF}  # VMEXIT_INVALID, 32 bits wide before 7.x
_BESIDE: Final = 24  # lines from "unexpected exit reason" to the dump that it announces
_AFTER: Final = 3
_FEW: Final = 24  # values; a dump has some 60


class _Line(NamedTuple):
    """A line that announces a failure: what it says of it."""

    line: Line
    fields: dict[str, object]
    vendor: str | None
    vcpu: int | None = None


def detect(text: str) -> bool:
    """A dump of VMCS or VMCB, a line that comes in its place, or trouble in KVM."""
    return any(mark in text for mark in KERNEL_LOG)


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Every failure that KVM logged, in order; registers, controls and exit of those that it dumped."""
    dumps, announced, remarks = Dumps(), list[_Line](), list[Remark]()
    for line in lines_of(text.text):
        if not dumps.feed(line):
            for one in _announced(line):
                if not (_is_off(one) and announced and _explains(announced[-1], line)):
                    announced.append(one)
            remarks.extend(remarks_of(line))
    host = host_of(text.text)
    host = replace(host, kernel=host.kernel or kernel_of(text.text))
    failures = []
    for first, last, vendor, vcpu, fields in sorted(_joined(dumps.found, announced), key=lambda found: found[0].number):
        facts = tuple(dict.fromkeys((*host.facts, *near(remarks, first.number, last.number))))
        failures.append(
            Failure(
                source=Source(path=path, line=first_line + first.number, vcpu=vcpu),
                host=replace(_vendor(host, vendor), facts=facts),
                repairs=text.repairs,
                **fields,  # type: ignore[arg-type]  # each has the type of its field, by the functions below
            )
        )
    if not failures and (first_one := trouble(remarks)):
        facts = tuple(dict.fromkeys((*host.facts, *near(remarks, first_one.line, first_one.line))))
        source = Source(path=path, line=first_line + first_one.line)
        failures.append(Failure(kind="other", source=source, host=replace(host, facts=facts), repairs=text.repairs))
    return Evidence(tuple(failures), format="kernel log" if failures else None)


def _is_off(line: _Line) -> bool:
    return line.fields["kind"] == "entry-failure"


def _explains(one: _Line, later: Line) -> bool:
    """An exit without handler is logged first, and then that its dump is switched off: one failure."""
    if _is_off(one) or later.number - one.line.number > _AFTER:
        return False
    return one.line.caller is None or later.caller is None or one.line.caller == later.caller


_Found = tuple[Line, Line, str | None, int | None, dict[str, object]]


def _joined(dumps: list[Dump], announced: list[_Line]) -> Iterator[_Found]:
    """A dump and the line before it that says why it was printed are one failure."""
    waiting = list(reversed(announced))
    spoken: list[_Line] = []
    for dump in dumps:
        while waiting and waiting[-1].line.number <= dump.first.number:
            spoken.append(waiting.pop())
        reason: _Line | None = None
        for candidate in reversed(spoken[-8:]):
            near_by = dump.first.number - candidate.line.number <= _BESIDE
            if near_by and dump.may_print(candidate.line) and "suberror" in candidate.fields:
                reason = candidate
                spoken.remove(candidate)
                break
        isa = "vmx" if dump.module is vmcs else "svm"
        first = reason.line if reason else dump.first
        vcpu = dump.vcpu if dump.vcpu is not None or reason is None else reason.vcpu
        yield first, dump.last, isa, vcpu, _of_dump(dump, reason)
        if len(spoken) > 64:
            for line in spoken[:-8]:
                yield line.line, line.line, line.vendor, line.vcpu, line.fields
            del spoken[:-8]
    for line in (*spoken, *reversed(waiting)):
        yield line.line, line.line, line.vendor, line.vcpu, line.fields


def _vendor(host: Host, vendor: str | None) -> Host:
    if vendor == "vmx" and host.vendor is None:
        return replace(host, vendor="vmx", vendor_from="the host's kernel log has a message of KVM on VMX")
    if vendor == "svm" and host.vendor is None:
        return replace(host, vendor="svm", vendor_from="the host's kernel log has a message of KVM on SVM")
    return host


def _of_dump(dump: Dump, reason: _Line | None) -> dict[str, object]:
    """What a dump says; ``reason`` is the line that announced it, if there was one."""
    cpu, control, exit_ = _parts(dump)
    fields: dict[str, object] = {
        "cpu": cpu if cpu.registers or cpu.segments else None,
        "cpu_shared": dump.mixed,
        "control": control,
        "exit": exit_,
        **_kind(dump, exit_),
    }
    if reason:
        fields |= reason.fields | {"exit": exit_ or reason.fields["exit"]}
    return fields | {"damage": _damage(dump, explained=reason is not None)}


def _parts(dump: Dump) -> tuple[Cpu, ControlBlock, Exit | None]:
    if dump.module is vmcs:
        return vmcs.cpu_of(dump.values), vmcs.control_of(dump.values), vmcs.exit_of(dump.values)
    return vmcb.cpu_of(dump.values), vmcb.control_of(dump.values), vmcb.exit_of(dump.values)


def _kind(dump: Dump, exit_: Exit | None) -> dict[str, object]:
    """Why KVM dumps at all: the entry failed, or the exit has no handler (vmx_handle_exit, svm_handle_exit)."""
    if exit_ is None:
        return {"kind": "entry-failure", "exit_reason": 9}
    refused = exit_.reason in _INVALID if dump.module is vmcb else bool(exit_.reason & _FAILED)
    if refused:
        return {"kind": "entry-failure", "exit_reason": 9, "hardware_error": exit_.reason}
    if dump.module is vmcb:
        return _unexpected(exit_)
    return {"kind": "entry-failure", "exit_reason": 9}


def _damage(dump: Dump, *, explained: bool) -> tuple[str, ...]:
    damage = []
    if dump.mixed:
        damage.append("two dumps are interleaved in this log; a value may belong to the other one")
    if dump.orphan:
        damage.append("the beginning of this dump is missing")
    if not dump.is_whole:
        damage.append(f"the dump is cut: {len(dump.values)} of its values are here")
    elif len(dump.values) < _FEW:
        damage.append("most of the dump's lines are missing")
    unsaid = dump.module is vmcs and dump.is_whole and not dump.values.get("exit_reason", _FAILED) & _FAILED
    if unsaid and not explained:
        damage.append(
            "the log does not say why the dump was printed: VMLAUNCH or VMRESUME failed with a VM-instruction error"
            " (userspace was told which), or the line before the dump is missing"
        )
    return tuple(damage)


def _unexpected(exit_: Exit) -> dict[str, object]:
    return {
        "kind": "internal-error",
        "suberror": 4,
        "data": (exit_.reason,),
        "exit_reason": 17,
        "exit": exit_,
    }


def _announced(line: Line) -> Iterator[_Line]:
    text = line.text
    if "unexpected exit reason" in text and (found := _UNEXPECTED.search(text)):
        isa = "vmx" if found[2] == "vmx" else "svm" if found[2] == "svm" else None
        fields = _unexpected(Exit(reason=int(found[3], 16), isa=isa))  # type: ignore[arg-type]  # a Literal, above
        yield _Line(line, {**fields, "damage": ()}, isa, int(found[1]) if found[1] else None)
    elif ".dump_invalid_vmc" in text and (found := _OFF.search(text)):
        lost = "the dump is switched off: the log only shows that a VM entry failed, or an exit had no handler"
        fields = {"kind": "entry-failure", "exit_reason": 9, "damage": (lost,)}
        yield _Line(line, fields, "vmx" if found[1] == "intel" else "svm")
    elif _MISCONFIG in text:
        # Until 4.x it was given to userspace as an exit that nobody knows (vmx.c, handle_ept_misconfig).
        yield _Line(line, {"kind": "unknown-exit", "exit_reason": 0, "hardware_reason": 49, "damage": ()}, "vmx")
