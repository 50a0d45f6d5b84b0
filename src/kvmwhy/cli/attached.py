"""What ``kvmwhy attach`` prints of a VMM and its failures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from kvmwhy.abi.kvm_run import EXIT_UNKNOWN
from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.arch.x86.paging import Walk
from kvmwhy.cli.output import show
from kvmwhy.diagnosis import Diagnosis
from kvmwhy.live import qemu
from kvmwhy.live.process import Vmm
from kvmwhy.live.qemu_command import domain_of, guest_name
from kvmwhy.live.qmp import Monitor
from kvmwhy.live.vcpus import VcpuLook
from kvmwhy.render.json import to_object
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.render.screen import screen
from kvmwhy.render.text import explanation

if TYPE_CHECKING:
    from kvmwhy.cli.symbolise import Stack, Symbols
    from kvmwhy.outputs import AttachedVcpu


class Monitored(NamedTuple):
    """A guest with a monitor, and what the monitor showed of it."""

    monitor: Monitor
    guest: qemu.GuestView


class Target(NamedTuple):
    """A VMM by all its names: ``guest`` is QEMU's name for it, ``domain`` libvirt's."""

    process: Vmm
    guest: str | None
    domain: str | None

    @classmethod
    def of(cls, process: Vmm) -> Self:
        domain = domain_of(process)
        return cls(process, guest_name(process), domain.name if domain else None)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def title(self) -> str:
        who = f"{self.process.name} (process {self.pid})"
        if self.domain:
            return f"domain {self.domain}, {who}"
        return f"guest {self.guest}, {who}" if self.guest else who


def names(processes: tuple[Vmm, ...]) -> str:
    return ", ".join(safe(Target.of(process).title) for process in processes)


def count(vms: int, failing: int) -> str:
    """The summary of a whole host."""
    vms_text = f"{vms} VM{'' if vms == 1 else 's'}"
    return f"{vms_text}, {failing} with a failure." if failing else f"{vms_text}, no failure."


def head(target: Target, looks: tuple[VcpuLook, ...], status: str | None, seen: Monitored | None) -> list[Line]:
    """Who it is, and the last exit of each vCPU."""
    vcpus = f"{len(looks)} vCPU{'' if len(looks) == 1 else 's'}"
    failing = sum(vcpu.holds_a_failure for vcpu in looks)
    failures = f"{failing} with a failure" if failing else "no failure"
    lines = [Line(safe(f"{target.title}: {vcpus}, {failures}"), "answer")]
    if status:
        version = f"QEMU {seen.guest.version}" if seen and seen.guest.version else "QEMU"
        lines.append(Line(safe(f"{version}, guest {status}"), "plain", indent=2))
    return [*lines, *(Line(f"vCPU {vcpu.vcpu:<3} {_last(vcpu)}", "plain", indent=2) for vcpu in looks)]


def _last(vcpu: VcpuLook) -> str:
    if vcpu.told_by:
        return "KVM_RUN failed"
    if vcpu.may_have_run_into_an_error:
        return (
            "KVM_RUN is over and left no exit: it failed, and the VMM's log says how; or the vCPU waits to be started"
        )
    if vcpu.failure.exit_reason == EXIT_UNKNOWN and vcpu.failure.arch and vcpu.motion.state == "stopped":
        # Of another architecture than x86: there a failed access is an errno of KVM_RUN, and leaves the page as it was.
        return "no exit: it has not run, or KVM_RUN failed with an errno, which `kvmwhy watch` sees and no page shows"
    if vcpu.failure.exit_reason == EXIT_UNKNOWN:
        return "inside KVM_RUN, or not run yet"
    stale = "" if vcpu.motion.state == "stopped" or vcpu.failure.kind == "other" else f" ({_state(vcpu)})"
    return f"last exit {vcpu.exit_name}{stale}"


def _state(vcpu: VcpuLook) -> str:
    return "over: it runs on" if vcpu.motion.is_over else vcpu.motion.state


def answers(target: Target, sentences: list[str]) -> list[Line]:
    """Under a VMM of the table: what its failures are, and how to learn more."""
    lines = [Line(safe(sentence), "bad", indent=4) for sentence in dict.fromkeys(sentences)]
    return [*lines, Line(f"kvmwhy attach {target.pid}", "plain", "more: ", 4)]


def row(target: Target, vcpu: VcpuLook, answer: str | None) -> AttachedVcpu:
    """One vCPU of ``--all --json``."""
    from kvmwhy.outputs import AttachedVcpu

    return AttachedVcpu(
        pid=target.pid,
        vmm=safe(target.process.name),
        guest=safe(target.guest) if target.guest else None,
        domain=safe(target.domain) if target.domain else None,
        vcpu=vcpu.vcpu,
        exit_reason=vcpu.failure.exit_reason,
        exit_name=vcpu.exit_name,
        failure=vcpu.holds_a_failure,
        state=vcpu.motion.state,
        why=vcpu.motion.why,
        answer=safe(answer) if answer else None,
    )


def live_part(target: Target, vcpu: VcpuLook, registers_from: str | None) -> dict[str, Any]:
    """What the JSON of a failure says of the process."""
    return {
        "pid": target.pid,
        "domain": safe(target.domain) if target.domain else None,
        "vcpu": vcpu.vcpu,
        "state": vcpu.motion.state,
        "why": vcpu.motion.why,
        "registers_from": safe(registers_from) if registers_from else None,
    }


class Shown(NamedTuple):
    """How a failure is to be shown."""

    as_json: bool
    full: bool
    syntax: Syntax
    symbols: Symbols | None = None


def show_failure(
    diagnosis: Diagnosis, live: dict[str, Any], seen: Monitored | None, near: qemu.Seen | None, shown: Shown
) -> None:
    named = shown.symbols.name(diagnosis.facts, _stack(diagnosis, near)) if shown.symbols else None
    places = _places(diagnosis, seen, near)
    if shown.as_json:
        guest = seen and {
            "status": seen.guest.status,
            "qemu": seen.guest.version,
            "places": [{"gpa": hex(gpa), "what": safe(what)} for gpa, what in places],
            "walks": [_walk_object(w) for w in near.walks] if near else [],
            "stack": near.stack.hex(" ") if near else None,
        }
        extra = {"symbols": named.parts} if named else {}
        line = msgspec.json.encode({**to_object(diagnosis), "live": {**live, "guest": guest}, **extra})
        sys.stdout.write(line.decode() + "\n")
        return
    page = explanation(diagnosis) if shown.full else screen(diagnosis, syntax=shown.syntax)
    lines = [Line(), Line("─" * 60, "dim"), Line(), *page]
    lines += [Line(), Line(style="head", label="The live guest", label_style="head")]
    lines.append(Line(f"{live['state']}: {live['why']}", "plain" if live["state"] == "stopped" else "bad", "now  ", 2))
    if live.get("registers_from"):
        lines.append(Line(f"registers and code are from {live['registers_from']}", "plain", "from ", 2))
    lines += [Line(safe(f"{gpa:#x} is {what}"), "plain", "map  ", 2) for gpa, what in places]
    for walked in near.walks if near else ():
        lines += _walk_lines(walked)
    if near and near.stack:
        lines.append(Line(near.stack[:32].hex(" "), "plain", "RSP  ", 2))
    show([*lines, *(named.lines if named else ())])


def _stack(diagnosis: Diagnosis, near: qemu.Seen | None) -> Stack | None:
    """The bytes at RSP, with its linear address."""
    from kvmwhy.cli.symbolise import Stack
    from kvmwhy.live.surroundings import stack_of

    cpu = diagnosis.failure.cpu
    address = stack_of(cpu) if cpu else None
    return Stack(address, near.stack) if near and address is not None else None


def _places(diagnosis: Diagnosis, seen: Monitored | None, near: qemu.Seen | None) -> list[tuple[int, str]]:
    """What QEMU has at the addresses that matter: the access first, then wherever a walk led."""
    if seen is None:
        return []
    access = diagnosis.facts.access
    gpas = [access.gpa] if access and access.gpa is not None else []
    gpas += [w.gpa for w in near.walks if w.gpa is not None] if near else []
    return [(gpa, seen.guest.memory.describe(gpa)) for gpa in dict.fromkeys(gpas)]


def _walk_object(walked: Walk) -> dict[str, Any]:
    return {
        "gva": hex(walked.gva),
        "gpa": None if walked.gpa is None else hex(walked.gpa),
        "paging": walked.paging,
        "why": walked.why,
        "steps": [
            {"name": s.name, "gpa": hex(s.gpa), "entry": None if s.entry is None else hex(s.entry)}
            for s in walked.steps
        ],
    }


def _walk_lines(walked: Walk) -> list[Line]:
    end = "nowhere" if walked.gpa is None else f"{walked.gpa:#x}"
    text = f"{walked.gva:#x} → {end} ({walked.paging}): {walked.why}"
    if walked.steps:
        entries = [f"{s.name} {'no RAM' if s.entry is None else f'{s.entry:#x}'}" for s in walked.steps]
        text += f"; {', '.join(entries)}"
    return [Line(text, "plain", "walk ", 2)]
