"""``kvmwhy exec``: a command under kvmwhy; when KVM gives up on a guest of its, the explanation follows at once."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from kvmwhy.arch.x86.instruction import Syntax
from kvmwhy.cli.status import BAD_INPUT
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.exec import launch, output, record_file
from kvmwhy.live.exec.output import Plan, Relay
from kvmwhy.live.exec.tracees import Tracees
from kvmwhy.live.tracefs import MOUNTS
from kvmwhy.render.safe import safe

_PAUSE: Final = 0.01
_SET_UID: Final = "it is set-uid: while somebody traces it, it would not get its rights"


class ExecOptions(NamedTuple):
    """What the command line asks for."""

    command: tuple[str, ...]
    record: str | None = None
    memory: bool = False
    redact: bool = False
    log: bool = True
    trace: bool = True
    tracefs: str | None = None
    as_json: bool = False
    screen: bool = False
    syntax: Syntax = "intel"
    symbols: tuple[str, ...] = ()  # checked, with absolute paths


def run(options: ExecOptions) -> int:
    """Become the command. Returns an exit status only if it was not even started."""
    try:
        if options.record is not None:
            options = options._replace(record=record_file.path_for(options.record, os.getpid()))
        plans = output.plan() if options.log else []
    except (CaptureError, OSError) as error:
        sys.stderr.write(f"kvmwhy: {safe(str(error))}\n")
        return BAD_INPUT
    gains_rights = launch.gains_rights(options.command[0])
    launch.start(options.command, plans, lambda link: _help(options, link, plans, gains_rights=gains_rights))
    return BAD_INPUT


def _help(options: ExecOptions, link: launch.Link, plans: list[Plan], *, gains_rights: bool) -> None:
    """The helper's whole life."""
    from kvmwhy.cli.exec_output import write

    for plan in plans:
        with suppress(OSError):
            os.close(plan.command_end)
    relays = [Relay(plan) for plan in plans]
    with suppress(OSError):
        os.chdir("/")
    traced = _SET_UID if gains_rights else _seized(link.command_pid)
    if isinstance(traced, Tracees) and not (options.trace and _may_have_tracefs(options.tracefs)):
        link.release()  # a traced command waits for us where that matters: all else can be made ready meanwhile
    with ExitStack() as stack:
        try:
            from kvmwhy.cli.exec_session import Session

            session = Session(options, link.command_pid, traced, relays, stack)
        except Exception as error:  # noqa: BLE001 -- the command runs without us
            write(f"kvmwhy: the command cannot be followed: {safe(repr(error), 200)}\n".encode())
            link.release()
            _only_pass_on(relays, traced)
            return
        link.release()
        try:
            session.run()
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong here is not to harm the command
            write(f"kvmwhy: the command is followed no longer: {safe(repr(error), 200)}\n".encode())
            _only_pass_on(relays, traced)


def _seized(pid: int) -> Tracees | str:
    """The command, traced from before its first instruction; or why that cannot be."""
    tracees = Tracees()
    try:
        tracees.seize(pid)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return tracees


def _may_have_tracefs(given: str | None) -> bool:
    """Whether an instance could be made, as far as that can be told without trying."""
    return any(os.access(f"{root}/instances", os.W_OK) for root in ((given,) if given else MOUNTS))


def _only_pass_on(relays: list[Relay], traced: Tracees | str) -> None:
    """Look at nothing; but no thread may stay stopped, and no output may be lost."""
    tracees = None if isinstance(traced, str) else traced
    while tracees or not all(relay.is_done for relay in relays):
        for moment in tracees.moments() if tracees else ():
            for relay in relays if moment.what == "end" else ():
                relay.drain()
            if tracees:
                tracees.release(moment)
        for relay in relays:
            relay.pump()
        time.sleep(_PAUSE)
