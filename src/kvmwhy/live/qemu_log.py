"""QEMU's own words about a failure, where no monitor can be asked: the log that this very process writes.

QEMU prints a failure with all registers to its standard error. That is a file, which is read through
/proc/PID/fd/2; or libvirt's pipe, behind which libvirt keeps a file by the domain's name; or the journal. A pipe or a
terminal is never read: its reader would miss what is taken out of it.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from kvmwhy.live.process import Vmm
from kvmwhy.live.qemu_command import domain_of
from kvmwhy.readers import read
from kvmwhy.record import Failure

_TAIL: Final = 1 << 20  # bytes: a dump of 4096 vCPUs' registers would not fit, one of any failure does
_START: Final = b": starting up libvirt version"
_JOURNAL_LINES: Final = 4000
_PATIENCE: Final = 10.0  # seconds, for journalctl
_SYSTEM_LOGS: Final = "/var/log/libvirt/qemu"
_KINDS: Final = {"internal-error", "entry-failure", "unknown-exit", "exception-exit", "shutdown", "run-error"}


class Log(NamedTuple):
    """The end of a log. ``where`` names it for a person."""

    where: str
    text: bytes


def logs(vmm: Vmm, *, run: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run) -> Iterator[Log]:
    """Every log of this QEMU that can be read, the surest first. Never raises."""
    for number in (2, 1):
        if text := _since_start(_tail(f"/proc/{vmm.pid}/fd/{number}")):
            yield Log(_link(vmm.pid, number), text)
    domain = domain_of(vmm)
    if domain and os.sep not in domain.name:
        for directory in (_SYSTEM_LOGS, _session_logs(vmm.pid)):
            path = f"{directory}/{domain.name}.log"
            if text := _since_start(_tail(path)):
                yield Log(path, text)
    if _link(vmm.pid, 2).startswith("socket:") and (text := _journal(vmm.pid, run)):
        yield Log(f"the journal (_PID={vmm.pid})", text)


def of_page(vmm: Vmm, page: Failure) -> tuple[Failure, str] | None:
    """What a log says of the very failure that the page shows: the last one with the same words. And which log."""
    for log in logs(vmm):
        for failure in reversed(read(log.text).failures):
            if is_same(failure, page):
                return failure, log.where
    return None


def last_run_error(vmm: Vmm) -> tuple[Failure, str] | None:
    """KVM_RUN itself failed, which no page tells: the last failure of a log, if it is that."""
    for log in logs(vmm):
        failures = [failure for failure in read(log.text).failures if failure.kind in _KINDS]
        if failures and failures[-1].kind in {"run-error", "unknown-exit"}:
            return failures[-1], log.where
    return None


def is_same(logged: Failure, page: Failure) -> bool:
    """Whether both show the same words of KVM. A shutdown has none, so that no log can be told to be about it."""
    if logged.kind != page.kind:
        return False
    if page.kind == "internal-error":
        return (logged.suberror, logged.data) == (page.suberror, page.data)
    if page.kind == "entry-failure":
        return logged.hardware_error == page.hardware_error
    return page.kind == "exception-exit" and logged.exception == page.exception


def merged(page: Failure, logged: Failure) -> Failure:
    """The record of a page, with the state that QEMU printed of the same moment."""
    host = msgspec.structs.replace(page.host, qemu=logged.host.qemu or page.host.qemu)
    return msgspec.structs.replace(
        page, cpu=logged.cpu, code=logged.code, host=host, arch=logged.arch, arch_from=logged.arch_from
    )


def _link(pid: int, number: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except OSError:
        return ""


def _since_start(text: bytes) -> bytes:
    """Of libvirt's log of a domain what this start wrote: all starts go to one file (src/qemu/qemu_process.c)."""
    return text[max(0, text.rfind(_START)) :]


def _tail(path: str) -> bytes:
    """The end of a regular file; nothing of anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        information = os.fstat(fd)
        if not stat.S_ISREG(information.st_mode):
            return b""
        return os.pread(fd, _TAIL, max(0, information.st_size - _TAIL))
    except OSError:
        return b""
    finally:
        os.close(fd)


def _session_logs(pid: int) -> str:
    """Where a user's own libvirtd keeps its logs: in the cache of that user."""
    import pwd

    try:
        home = pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_dir
    except (OSError, KeyError):
        home = os.path.expanduser("~")
    return f"{home}/.cache/libvirt/qemu/log"


def _journal(pid: int, run: Callable[..., subprocess.CompletedProcess[bytes]]) -> bytes:
    program = shutil.which("journalctl")
    if program is None:
        return b""
    command = [program, "--no-pager", "-q", "-b", "-o", "cat", "-n", str(_JOURNAL_LINES), f"_PID={pid}"]
    try:
        done = run(command, capture_output=True, check=False, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout[-_TAIL:]
