"""``kvmwhy attach``: the failures that live VMMs hold, explained without stopping them."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.cli import attached
from kvmwhy.cli.attached import Monitored, Shown, Target
from kvmwhy.cli.damage import lost_what_matters
from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.live import qemu, qemu_log
from kvmwhy.live.errors import CaptureError, GoneError, NotPermittedError
from kvmwhy.live.follow import Following
from kvmwhy.live.host import host_facts
from kvmwhy.live.process import Vmm, all_vmms, vmm
from kvmwhy.live.qemu_command import domain_of, guest_name
from kvmwhy.live.qemu_socket import qmp_paths
from kvmwhy.live.qmp import Monitor, QmpSocket, Virsh
from kvmwhy.live.vcpus import VcpuLook, look, of_run_error, with_status
from kvmwhy.record import Cpu, Failure, Host, Source
from kvmwhy.render.page import Line

if TYPE_CHECKING:
    from kvmwhy.cli.symbolise import Symbols


_FAILED_STATUS: Final = "internal-error"


class AttachOptions(NamedTuple):
    """What the command line asks for. ``targets`` are PIDs and names."""

    targets: tuple[str, ...]
    every: bool
    qmp: str | None
    domain: str | None
    monitor: bool
    follow: bool
    as_json: bool
    syntax: Syntax
    symbols: Symbols | None = None
    full: bool = False

    @property
    def shown(self) -> Shown:
        return Shown(self.as_json, self.full, self.syntax, self.symbols)


def run(wish: AttachOptions) -> int:
    """Explain what the VMMs hold; return the exit status."""
    try:
        if wish.follow:
            return _follow(wish)
        if wish.every:
            return _every(wish)
        if wish.qmp is not None or wish.domain is not None:
            return _by_monitor(wish)
        processes = [process for name in wish.targets for process in find(name)]
    except NotPermittedError as error:
        complain(str(error))
        return NOT_PERMITTED
    except CaptureError as error:
        complain(str(error))
        return BAD_INPUT
    statuses = [_guarded(process, wish) for process in processes]
    return worst(statuses)


def worst(statuses: list[int]) -> int:
    """Of several VMMs: an error counts more than a failure that was explained, and that more than nothing."""
    for status in (NOT_PERMITTED, BAD_INPUT, DAMAGED, DONE):
        if status in statuses:
            return status
    return NOTHING


def find(name: str) -> list[Vmm]:
    """The VMMs that a PID, the name of a guest or domain, or of a program means. Raises CaptureError."""
    if name.isdecimal():
        process = vmm(int(name))
        if not process.vcpus:
            raise GoneError(
                f"process {name} ({process.name}) has no vCPU: it is no VMM on KVM, or has not made any yet"
            )
        return [process]
    there = all_vmms()
    guests = [process for process in there.vmms if guest_name(process) == name]
    programs = [
        process
        for process in there.vmms
        if name == process.name or (process.command and name == os.path.basename(process.command[0]))
    ]
    vmms = guests or programs
    if not vmms:
        hidden = f"; {there.closed} processes may not be looked into" if there.closed else ""
        raise GoneError(f"no VMM on KVM here is called {name}, and no guest of one{hidden}")
    return vmms


def _guarded(process: Vmm, wish: AttachOptions) -> int:
    try:
        with ExitStack() as stack:
            return _explain(process, None, wish, stack)
    except NotPermittedError as error:
        complain(str(error))
        return NOT_PERMITTED
    except CaptureError as error:
        complain(str(error))
        return BAD_INPUT


def _by_monitor(wish: AttachOptions) -> int:
    with ExitStack() as stack:
        monitor: Monitor
        if wish.domain is not None:
            monitor = virsh = Virsh(wish.domain)
            pid = virsh.pid()
        else:
            assert wish.qmp is not None  # noqa: S101 -- one of the two is given
            monitor = socket = stack.enter_context(QmpSocket(wish.qmp))
            pid = _vmm_behind(socket)
        if wish.targets:
            processes = find(wish.targets[0])
            if len(processes) != 1:
                raise CaptureError(f"{wish.targets[0]} means {len(processes)} VMMs; give the PID of one")
            (process,) = processes
        elif pid is not None:
            (process,) = find(str(pid))
        else:
            return _without_page(monitor, wish)
        return _explain(process, monitor, wish, stack)


def _vmm_behind(socket: QmpSocket) -> int | None:
    """The QEMU that made this socket, unless libvirt made it for QEMU, or its memory is closed to us."""
    try:
        return socket.pid if socket.pid > 0 and vmm(socket.pid).vcpus else None
    except CaptureError:
        return None


def _find_monitor(process: Vmm, stack: ExitStack) -> tuple[Monitor | None, str | None]:
    """libvirt, which has its QEMU's monitor, or QEMU's own QMP socket; or why there is none."""
    problems = []
    if domain := domain_of(process):
        try:
            virsh = Virsh(domain.name, uri=domain.uri)
            virsh.execute("query-status")
        except CaptureError as error:
            return None, str(error)
        return virsh, None
    for path in qmp_paths(process):
        try:
            return stack.enter_context(QmpSocket(path, owner=os.stat(f"/proc/{process.pid}").st_uid)), None
        except (CaptureError, OSError) as error:
            problems.append(str(error))
    return None, problems[0] if problems else f"process {process.pid} is QEMU, but no QMP socket of it is to be seen"


# -- one VMM ---------------------------------------------------------------------------------------


class Examined(NamedTuple):
    """A VMM whose vCPUs were looked at, and what its monitor says of the guest as a whole."""

    target: Target
    looks: tuple[VcpuLook, ...]
    monitor: Monitor | None
    status: str | None
    problem: str | None  # why there is no monitor

    @property
    def failing(self) -> list[VcpuLook]:
        return [vcpu for vcpu in self.looks if vcpu.holds_a_failure]


def examine(process: Vmm, host: Host, monitor: Monitor | None, stack: ExitStack, *, ask: bool, brief: bool) -> Examined:
    """Look at each vCPU, and let a QEMU that runs its guest have the last word. Raises CaptureError.

    ``ask``: a monitor may be looked for; ``brief``: only if there seems to be a failure.
    """
    looks, problem, status = look(process, host), None, None
    seems_failed = any(vcpu.holds_a_failure or vcpu.may_have_run_into_an_error for vcpu in looks)
    if monitor is None and ask and process.is_qemu and (seems_failed or not brief):
        monitor, problem = _find_monitor(process, stack)
    if monitor is not None:
        status = qemu.status(monitor)
        looks = with_status(looks, status)
    if process.is_qemu and not any(vcpu.holds_a_failure for vcpu in looks) and (status in {None, _FAILED_STATUS}):
        looks = _with_run_error(process, looks, status)
    return Examined(Target.of(process), looks, monitor, status, problem)


def _with_run_error(process: Vmm, looks: tuple[VcpuLook, ...], status: str | None) -> tuple[VcpuLook, ...]:
    """KVM_RUN itself failed: no page tells, QEMU's log does."""
    suspects = [vcpu for vcpu in looks if status == _FAILED_STATUS or vcpu.may_have_run_into_an_error]
    logged = qemu_log.last_run_error(process) if suspects else None
    if logged is None and status != _FAILED_STATUS:
        return looks
    return tuple(of_run_error(vcpu, logged) if vcpu is suspects[0] else vcpu for vcpu in looks)


def _explain(process: Vmm, monitor: Monitor | None, wish: AttachOptions, stack: ExitStack) -> int:
    examined = examine(process, host_facts(), monitor, stack, ask=wish.monitor, brief=False)
    return tell(examined, wish)


def tell(examined: Examined, wish: AttachOptions) -> int:
    """Print what one VMM holds; return the exit status."""
    seen = _monitored(examined)
    if not wish.as_json:
        show(attached.head(examined.target, examined.looks, examined.status, seen))
    status, has_registers = NOTHING, False
    for vcpu in examined.failing:
        diagnosis, near, registers_from = completed(vcpu, examined, seen, wish.syntax)
        attached.show_failure(
            diagnosis,
            attached.live_part(examined.target, vcpu, registers_from),
            seen,
            near,
            wish.shown,
        )
        has_registers = has_registers or registers_from is not None
        status = worst([status, DAMAGED if lost_what_matters(diagnosis.failure) else DONE])
    if examined.failing and examined.problem and not has_registers:
        complain(examined.problem)
    if not examined.failing and wish.as_json:
        complain(f"no vCPU of process {examined.target.pid} holds a failure")
    return status


def completed(
    vcpu: VcpuLook, examined: Examined, seen: Monitored | None, syntax: Syntax
) -> tuple[Diagnosis, qemu.Seen | None, str | None]:
    """The diagnosis of what a page shows, with what the monitor or QEMU's own log adds; and where that is from."""
    failure, near, registers_from = vcpu.failure, None, vcpu.told_by
    cpu = seen.guest.cpus.get(vcpu.vcpu) if seen else None
    if seen and cpu:
        failure, near = _completed(failure, seen, cpu, syntax)
        registers_from = "QEMU's monitor"
    elif registers_from is None and examined.target.process.is_qemu:
        logged = qemu_log.of_page(examined.target.process, failure)
        if logged:
            failure, registers_from = qemu_log.merged(failure, logged[0]), logged[1]
    return diagnose(failure, syntax=syntax), near, registers_from


def _without_page(monitor: Monitor, wish: AttachOptions) -> int:
    """Only a monitor: the words of the failure are in the page, which takes the PID; the state is here."""
    status = qemu.status(monitor)
    if status != _FAILED_STATUS:
        if not wish.as_json:
            show([Line(f"guest {status}: no failure", "answer")])
        complain("whether a vCPU of it fails is in its page: give the PID, too, to have it")
        return NOTHING
    seen = Monitored(monitor, qemu.view(monitor))
    for number, cpu in sorted(seen.guest.cpus.items()):
        failure = Failure(kind="other", source=Source(vmm="qemu", vcpu=number))
        failure, near = _completed(failure, seen, cpu, wish.syntax)
        live = {"pid": None, "vcpu": number, "state": "stopped", "why": "QMP says so"}
        diagnosis = diagnose(failure, syntax=wish.syntax)
        attached.show_failure(diagnosis, live, seen, near, wish.shown)
    complain("the words of a failure are in the vCPU's page: give the PID, too, to have them")
    return DONE


def _completed(failure: Failure, seen: Monitored, cpu: Cpu, syntax: Syntax) -> tuple[Failure, qemu.Seen]:
    """Registers and code first; then the addresses that the diagnosis is about are walked, too."""
    near = qemu.around(seen.monitor, seen.guest, cpu)
    failure = qemu.complete(failure, seen.guest, near, cpu)
    if failure.kind == "shutdown" and not failure.faults:
        from kvmwhy.diagnosis.triple_fault import with_faults

        failure = with_faults(failure, lambda gpa, size: qemu.read(seen.monitor, seen.guest, gpa, size), syntax)
    access = diagnose(failure, syntax=syntax).facts.access
    if access and access.gva is not None and access.gva not in {w.gva for w in near.walks}:
        more = qemu.translate(seen.monitor, seen.guest, cpu, access.gva)
        near = near._replace(walks=(*near.walks, more))
    return failure, near


# -- every VMM -------------------------------------------------------------------------------------


def _every(wish: AttachOptions) -> int:
    """A table: each VMM with its guest's name, its vCPUs and what each returned last; a failure with its answer."""
    search, host = all_vmms(), host_facts()
    looked = failing = 0
    for process in search.vmms:
        try:
            with ExitStack() as stack:
                examined = examine(process, host, None, stack, ask=wish.monitor, brief=True)
                answers = _answers(examined, wish.syntax)
        except GoneError:
            continue  # it has ended meanwhile
        except CaptureError as error:
            complain(str(error))
            continue
        looked += 1
        failing += bool(examined.failing)
        if wish.as_json:
            for vcpu in examined.looks:
                row = attached.row(examined.target, vcpu, answers.get(vcpu.address))
                sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
        else:
            show(attached.head(examined.target, examined.looks, examined.status, None))
            if answers:
                show(attached.answers(examined.target, list(answers.values())))
    if search.vmms and not wish.as_json:
        show([Line(attached.count(looked, failing), "answer")])
    if not search.vmms:
        complain("no VMM on KVM is running here" + (", as far as may be seen" if search.closed else ""))
    if search.closed:
        complain(f"{search.closed} processes may not be looked into: it takes their user's rights or CAP_SYS_PTRACE")
    if not search.vmms and search.closed:
        return NOT_PERMITTED
    return DONE if failing else NOTHING


def _monitored(examined: Examined) -> Monitored | None:
    """The monitor, and what it shows of the guest; only asked where a vCPU has failed."""
    guest = qemu.view(examined.monitor) if examined.monitor and examined.failing else None
    return Monitored(examined.monitor, guest) if examined.monitor and guest else None


def _answers(examined: Examined, syntax: Syntax) -> dict[int, str]:
    """The answer for each failing vCPU, by its page's address."""
    seen = _monitored(examined)
    return {vcpu.address: completed(vcpu, examined, seen, syntax)[0].answer for vcpu in examined.failing}


# -- waiting ---------------------------------------------------------------------------------------


def _follow(wish: AttachOptions) -> int:
    """Wait until one of the VMMs fails, and explain that. Ends with status 1 if all of them have ended before."""
    processes = all_vmms().vmms if wish.every else tuple(p for name in wish.targets for p in find(name))
    if not processes and not wish.every:
        raise GoneError("there is no VMM to wait for")
    complain(f"waiting for the next failure of {attached.names(processes) if processes else 'any VMM of this host'}")
    with Following(processes, every=wish.every) as following:
        while not following.is_over:
            for process in following.suspects():
                with ExitStack() as stack:
                    try:
                        examined = examine(process, host_facts(), None, stack, ask=wish.monitor, brief=True)
                        if examined.failing:
                            return tell(examined, wish)
                    except GoneError:
                        continue
            time.sleep(following.pause)
    complain("every VMM that was waited for has ended; `kvmwhy watch` sees failures of VMMs that end with their guest")
    return NOTHING
