"""``kvmwhy attach``: the failures that live VMMs hold, explained without stopping them."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.abi.kvm_run import EXIT_UNKNOWN
from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.arch.x86.paging import Walk
from kvmwhy.cli.output import complain, show
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.live import qemu
from kvmwhy.live.errors import CaptureError, GoneError, NotPermittedError
from kvmwhy.live.host import host_facts
from kvmwhy.live.process import Vmm, all_vmms, vmm
from kvmwhy.live.qemu_socket import qmp_paths
from kvmwhy.live.qmp import Monitor, QmpSocket, Virsh
from kvmwhy.live.vcpus import VcpuLook, look
from kvmwhy.record import Cpu, Failure, Source
from kvmwhy.render.json import to_object
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.render.text import explanation

DONE: Final = 0
NOTHING: Final = 1
BAD_INPUT: Final = 2
NOT_PERMITTED: Final = 3
DAMAGED: Final = 4


class Monitored(NamedTuple):
    """A guest with a monitor, and what the monitor showed of it."""

    monitor: Monitor
    guest: qemu.GuestView


def run(
    pid: int | None,
    *,
    every: bool,
    qmp: str | None,
    domain: str | None,
    monitor: bool,
    as_json: bool,
    syntax: Syntax,
) -> int:
    """Explain what one VMM, or every one, holds; return the exit status."""
    try:
        if every:
            return _every(as_json)
        with ExitStack() as stack:
            link: Monitor | None = None
            if domain is not None:
                link = virsh = Virsh(domain)
                pid = pid or virsh.pid()
            elif qmp is not None:
                link = socket = stack.enter_context(QmpSocket(qmp))
                pid = pid or _vmm_behind(socket)
            process = None if pid is None else _vmm(pid)
            if link is None and monitor and process is not None and process.is_qemu:
                link = _find_monitor(process, stack)
            seen = None if link is None else Monitored(link, qemu.view(link))
            return _explain(process, seen, as_json=as_json, syntax=syntax)
    except NotPermittedError as error:
        complain(str(error))
        return NOT_PERMITTED
    except CaptureError as error:
        complain(str(error))
        return BAD_INPUT


def _vmm(pid: int) -> Vmm:
    process = vmm(pid)
    if not process.vcpus:
        raise GoneError(f"process {pid} ({process.name}) has no vCPU: it is no VMM on KVM, or has not made any yet")
    return process


def _vmm_behind(socket: QmpSocket) -> int | None:
    """The QEMU that made this socket, unless libvirt made it for QEMU, or its memory is closed to us."""
    try:
        return socket.pid if socket.pid > 0 and vmm(socket.pid).vcpus else None
    except CaptureError:
        return None


def _find_monitor(process: Vmm, stack: ExitStack) -> Monitor | None:
    """QEMU's own QMP socket. One that does not serve us is said, and done without."""
    problems = []
    for path in qmp_paths(process):
        try:
            return stack.enter_context(QmpSocket(path, owner=os.stat(f"/proc/{process.pid}").st_uid))
        except (CaptureError, OSError) as error:
            problems.append(str(error))
    complain(problems[0] if problems else f"process {process.pid} is QEMU, but no QMP socket of it is to be seen")
    return None


# -- one VMM ---------------------------------------------------------------------------------------


def _explain(process: Vmm | None, seen: Monitored | None, *, as_json: bool, syntax: Syntax) -> int:
    host = host_facts()
    looks = look(process, host) if process else ()
    failing = [one for one in looks if one.holds_a_failure]
    if not as_json:
        show(_head(process, looks, seen))
    status = DONE if failing else NOTHING
    for one in failing:
        status = max(status, _one(one, seen, process, as_json=as_json, syntax=syntax))
    if process is None and seen is not None:
        status = _without_page(seen, as_json=as_json, syntax=syntax)
    elif not failing and as_json:
        complain(f"no vCPU of process {process.pid if process else '?'} holds a failure")
    return status


def _one(one: VcpuLook, seen: Monitored | None, process: Vmm | None, *, as_json: bool, syntax: Syntax) -> int:
    failure, extra = one.failure, None
    cpu = seen.guest.cpus.get(one.vcpu) if seen else None
    if seen and cpu:
        failure, extra = _completed(failure, seen, cpu, syntax)
    diagnosis = diagnose(failure, syntax=syntax)
    live: dict[str, Any] = {
        "pid": process.pid if process else None,
        "vcpu": one.vcpu,
        "state": one.motion.state,
        "why": one.motion.why,
    }
    _show(diagnosis, live, seen, extra, as_json=as_json)
    return DAMAGED if failure.damage else DONE


def _without_page(seen: Monitored, *, as_json: bool, syntax: Syntax) -> int:
    """Only a monitor: the words of the failure are in the page, which takes the PID; the state is here."""
    for number, cpu in sorted(seen.guest.cpus.items()):
        failure = Failure(kind="other", source=Source(vmm="qemu", vcpu=number))
        failure, extra = _completed(failure, seen, cpu, syntax)
        live = {
            "pid": None,
            "vcpu": number,
            "state": "running" if seen.guest.running else "stopped",
            "why": "QMP says so",
        }
        _show(diagnose(failure, syntax=syntax), live, seen, extra, as_json=as_json)
    complain("the words of a failure are in the vCPU's page: give the PID, too, to have them")
    return DONE if seen.guest.status == "internal-error" else NOTHING


def _completed(failure: Failure, seen: Monitored, cpu: Cpu, syntax: Syntax) -> tuple[Failure, qemu.Seen]:
    """Registers and code first; then the addresses that the diagnosis is about are walked, too."""
    near = qemu.around(seen.monitor, seen.guest, cpu)
    failure = qemu.complete(failure, seen.guest, near, cpu)
    access = diagnose(failure, syntax=syntax).facts.access
    if access and access.gva is not None and access.gva not in {w.gva for w in near.walks}:
        more = qemu.translate(seen.monitor, seen.guest, cpu, access.gva)
        near = near._replace(walks=(*near.walks, more))
    return failure, near


def _show(
    diagnosis: Diagnosis, live: dict[str, Any], seen: Monitored | None, near: qemu.Seen | None, *, as_json: bool
) -> None:
    places = _places(diagnosis, seen, near)
    if as_json:
        guest = seen and {
            "status": seen.guest.status,
            "qemu": seen.guest.version,
            "places": [{"gpa": hex(gpa), "what": safe(what)} for gpa, what in places],
            "walks": [_walk_object(w) for w in near.walks] if near else [],
            "stack": near.stack.hex(" ") if near else None,
        }
        line = msgspec.json.encode({**to_object(diagnosis), "live": {**live, "guest": guest}})
        sys.stdout.write(line.decode() + "\n")
        return
    lines = [Line(), Line("─" * 60, "dim"), Line(), *explanation(diagnosis)]
    lines += [Line(), Line(style="head", label="The live guest", label_style="head")]
    lines.append(Line(f"{live['state']}: {live['why']}", "plain" if live["state"] == "stopped" else "bad", "now  ", 2))
    lines += [Line(safe(f"{gpa:#x} is {what}"), "plain", "map  ", 2) for gpa, what in places]
    for walked in near.walks if near else ():
        lines += _walk_lines(walked)
    if near and near.stack:
        lines.append(Line(near.stack[:32].hex(" "), "plain", "RSP  ", 2))
    show(lines)


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


def _head(process: Vmm | None, looks: tuple[VcpuLook, ...], seen: Monitored | None) -> list[Line]:
    lines = []
    if process:
        count = f"{len(looks)} vCPU{'' if len(looks) == 1 else 's'}"
        failing = sum(one.holds_a_failure for one in looks)
        lines.append(Line(safe(f"{process.name} (process {process.pid}): {count}, {failing} with a failure"), "answer"))
    if seen:
        version = f"QEMU {seen.guest.version}" if seen.guest.version else "QEMU"
        lines.append(Line(safe(f"{version}, guest {seen.guest.status}"), "plain", indent=2))
    lines += [Line(row, "plain", indent=2) for row in _table(looks)]
    return lines


def _table(looks: tuple[VcpuLook, ...]) -> list[str]:
    return [f"vCPU {one.vcpu:<3} {_last(one)}" for one in looks]


def _last(one: VcpuLook) -> str:
    if one.failure.exit_reason == EXIT_UNKNOWN and not one.holds_a_failure:
        return "inside KVM_RUN, or not run yet"
    stale = "" if one.motion.state == "stopped" or not one.holds_a_failure else f" ({one.motion.state})"
    return f"last exit {one.exit_name}{stale}"


# -- every VMM -------------------------------------------------------------------------------------


def _every(as_json: bool) -> int:
    """A table: each VMM, its vCPUs, and what each returned last."""
    found = all_vmms()
    host = host_facts()
    failing = 0
    for process in found.vmms:
        try:
            looks = look(process, host)
        except CaptureError as error:
            complain(str(error))
            continue
        failing += sum(one.holds_a_failure for one in looks)
        if as_json:
            for one in looks:
                sys.stdout.write(msgspec.json.encode(_row(process, one)).decode() + "\n")
        else:
            show(_head(process, looks, None))
    if not found.vmms:
        complain("no VMM on KVM is running here" + (", as far as may be seen" if found.closed else ""))
    if found.closed:
        complain(f"{found.closed} processes may not be looked into: it takes their user's rights or CAP_SYS_PTRACE")
    if not found.vmms and found.closed:
        return NOT_PERMITTED
    return DONE if failing else NOTHING


def _row(process: Vmm, one: VcpuLook) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "vmm": safe(process.name),
        "vcpu": one.vcpu,
        "exit_reason": one.failure.exit_reason,
        "exit_name": one.exit_name,
        "failure": one.holds_a_failure,
        "state": one.motion.state,
        "why": one.motion.why,
    }
