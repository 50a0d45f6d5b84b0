"""Why a capture failed, in one sentence: the fact, and what it takes."""

from __future__ import annotations

import errno


class CaptureError(Exception):
    """Something on this host could not be read. ``str()`` is a whole sentence for the user."""


class NotPermittedError(CaptureError):
    """A right is missing; the sentence names the file and the right."""


class GoneError(CaptureError):
    """The process, the socket or the instance is no longer there."""


class BusyError(CaptureError):
    """Someone else has what admits one user at a time: a QMP socket."""


class NoTracefsError(CaptureError):
    """tracefs is not mounted, or KVM's events are not in it."""


_MEMORY = "it takes the rights of the VMM's user, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"


def of_process(error: OSError, pid: int, what: str) -> CaptureError:
    """The sentence for an error on /proc/PID/what."""
    path = f"/proc/{pid}/{what}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return NotPermittedError(f"not permitted to read {path}: {_MEMORY}")
    if error.errno in {errno.ENOENT, errno.ESRCH}:
        return GoneError(f"there is no process {pid}")
    return CaptureError(f"{path}: {(error.strerror or str(error)).lower()}")
