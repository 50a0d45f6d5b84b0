"""Whether a vCPU runs on: what its page and the VMM's threads do over a few moments.

A page tells its *last* exit. The VMM may have dealt with that and be in KVM_RUN again, so the words of
a failure count for now only if the vCPU has stopped.
"""

from __future__ import annotations

import os
import re
from typing import Final, Literal, NamedTuple

from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import descriptors

SAMPLES: Final = 5
PAUSE: Final = 0.01  # seconds between two samples
_MAX_THREADS: Final = 4096
_IOCTL: Final = b"16"  # the number of ioctl(2) on x86-64
_LINK: Final = re.compile(r"anon_inode:\[?kvm-vcpu:(\d{1,5})\]?")

State = Literal["stopped", "running", "unclear"]


class Motion(NamedTuple):
    state: State
    why: str


class Threads(NamedTuple):
    """One look at a process: the vCPUs that a thread is inside of, and how many threads are on a CPU."""

    inside: frozenset[int]  # vCPU numbers whose KVM_RUN is under way, as far as it can be seen
    busy: int  # threads on a CPU: what they do there is not to be seen


def threads(pid: int) -> Threads:
    """/proc/PID/task/*/syscall: number, six arguments, SP, PC. Never raises: what may not be seen is not in it.

    KVM's own worker (kvm-nx-lpage-recovery) is a thread of the VMM, too, and shows the KVM_RUN that made
    it for as long as it lives, but without a PC.
    """
    try:
        vcpus = {fd: int(m[1]) for fd, link in descriptors(pid) if (m := _LINK.fullmatch(link))}
        tids = os.listdir(f"/proc/{pid}/task")[:_MAX_THREADS]
    except (CaptureError, OSError):
        return Threads(frozenset(), 0)
    inside, busy = set(), 0
    for tid in tids:
        try:
            with open(f"/proc/{pid}/task/{tid}/syscall", "rb") as stream:
                words = stream.read(256).split()
        except OSError:
            continue
        if words[:1] == [b"running"]:
            busy += 1
        elif len(words) == 9 and words[0] == _IOCTL and int(words[2], 16) == Ioctl.KVM_RUN and int(words[8], 16):
            vcpu = vcpus.get(int(words[1], 16))
            if vcpu is not None:
                inside.add(vcpu)
    return Threads(frozenset(inside), busy)


class Watched(NamedTuple):
    """What repeated looks saw."""

    changed: frozenset[int]  # addresses whose page changed
    inside: frozenset[int]  # vCPUs inside KVM_RUN at the last look
    busy: int  # threads on a CPU at the last look


def judge(vcpu: int, address: int, seen: Watched) -> Motion:
    """Pure: what the looks mean for one vCPU whose page shows a failure."""
    span = f"{SAMPLES} looks over {SAMPLES * PAUSE * 1000:.0f} ms"
    if address in seen.changed:
        return Motion("running", f"its page changed during {span}: the VMM went on after this exit, or goes on failing")
    if vcpu in seen.inside:
        return Motion("running", "a thread of the VMM is inside KVM_RUN for it: this exit is over, its words are stale")
    if seen.busy:
        return Motion(
            "unclear",
            f"its page did not change during {span}, but {seen.busy} of the VMM's threads are on a CPU, one perhaps "
            "inside KVM_RUN: if this vCPU runs on, the words are stale",
        )
    return Motion("stopped", f"its page did not change during {span}, and no thread of the VMM is running it")
