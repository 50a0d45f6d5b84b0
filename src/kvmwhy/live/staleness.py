"""Whether the failure that a vCPU's page shows is still current.

A page tells its *last* exit. The VMM may have dealt with that and be in KVM_RUN again, so the words of a failure
count only if nothing shows that the vCPU runs on: its page over a few moments, the VMM's threads, and the VMM itself.
"""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from kvmwhy.abi import kvm_run
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.uname import arch_of
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import descriptors

SAMPLES: Final = 5
PAUSE: Final = 0.01  # seconds between two samples
RESET_SAMPLES: Final = 100  # of a page that shows a triple fault: a VMM takes its time to reset a guest
_MAX_THREADS: Final = 4096
_X86: Final = arch_of(platform.machine()) == "x86"
_IOCTL: Final = b"16" if _X86 else b"29"  # the number of ioctl(2): x86-64's own, or <asm-generic/unistd.h>'s
_LINK: Final = re.compile(r"anon_inode:\[?kvm-vcpu:(\d{1,5})\]?")
_REASON: Final = slice(8, 12)  # of the page: exit_reason
_FATAL: Final = frozenset(
    reason.to_bytes(4, "little")
    for reason in (
        kvm_run.EXIT_EXCEPTION,
        kvm_run.EXIT_SHUTDOWN,
        kvm_run.EXIT_FAIL_ENTRY,
        kvm_run.EXIT_INTERNAL_ERROR,
        *kvm_run.ARM_LEFT_TO_VMM,
    )
)
_SHUTDOWN: Final = kvm_run.EXIT_SHUTDOWN.to_bytes(4, "little")
_UNKNOWN: Final = kvm_run.EXIT_UNKNOWN.to_bytes(4, "little")
# QEMU's run states in which a failure of KVM has stopped the guest (qapi/run-state.json).
_STOPPED: Final = {"internal-error", "shutdown", "guest-panicked"}
_RELEASE: Final = re.compile(r"(\d{1,3})\.(\d{1,3})")
# x86.c: vcpu_run() begins with exit_reason = KVM_EXIT_UNKNOWN, in 6.10 and later at least: any other value then means
# that this KVM_RUN has returned.
_CLEARED_SINCE: Final = (6, 10)

State = Literal["stopped", "repeating", "running", "unclear"]


class Motion(NamedTuple):
    state: State
    why: str

    @property
    def is_over(self) -> bool:
        """What the page shows is of the past: the vCPU runs on."""
        return self.state == "running"


class Threads(NamedTuple):
    """One look at a process: the vCPUs that a thread is inside of, and how many threads are on a CPU."""

    inside: frozenset[int]  # numbers of vCPUs of which every one is inside KVM_RUN, as far as it can be seen
    busy: int  # threads on a CPU: what they do there is not to be seen


class Watched(NamedTuple):
    """What repeated looks saw of one vCPU and its VMM."""

    pages: tuple[bytes, ...]  # the part of the page that KVM writes at an exit, at each look
    is_inside: bool  # a thread was inside KVM_RUN for it
    busy: int  # the most threads on a CPU at one look
    span: float  # seconds


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
            inside.add(int(words[1], 16))
    # Several VMs of one process have a vCPU of the same number, and no mapping says which descriptor it is of.
    there, running = Counter(vcpus.values()), Counter(vcpus[fd] for fd in inside if fd in vcpus)
    return Threads(frozenset(n for n, count in running.items() if count == there[n]), busy)


def is_fatal(page: bytes) -> bool:
    """Whether the page shows an exit by which KVM gives up."""
    return page[_REASON] in _FATAL


def is_shutdown(page: bytes) -> bool:
    """Whether the page shows a triple fault, after which a healthy VMM resets its guest."""
    return page[_REASON] == _SHUTDOWN


def may_be_reset(pages: tuple[bytes, ...]) -> bool:
    """Whether the last page shows a first triple fault, and its VMM has had no time yet to reset its guest."""
    last = pages[-1]
    if not is_shutdown(last) or is_fatal(pages[0]) + _new_failures(pages) > 1:
        return False
    return any(page != last for page in pages[-RESET_SAMPLES:]) or len(pages) < RESET_SAMPLES


def is_cleared_at_entry(release: str | None) -> bool:
    """Whether this kernel is known to clear the exit reason as KVM_RUN begins.

    On arm64 and riscv64 all do (arch/*/kvm: kvm_arch_vcpu_ioctl_run).
    """
    if not _X86:
        return True
    numbers = _RELEASE.match(release or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _CLEARED_SINCE


def judge(seen: Watched, *, release: str | None) -> Motion:
    """Pure: what the looks mean for one vCPU. ``release``: of the kernel that wrote the page."""
    first, last = seen.pages[0], seen.pages[-1]
    span = f"{len(seen.pages)} looks over {seen.span * 1000:.0f} ms"
    failures = is_fatal(first) + _new_failures(seen.pages)
    if failures > 1 and not all(is_shutdown(page) for page in seen.pages if is_fatal(page)):
        return Motion("repeating", f"it failed {failures} times during {span}: the VMM runs it again each time")
    if failures == 1 and first != last and is_fatal(last):
        return Motion("stopped", f"it failed during {span}, and its page has not changed since")
    if any(page != first for page in seen.pages):
        return Motion("running", f"its page changed during {span}: the VMM went on after this exit")
    if seen.is_inside:
        return Motion("running", "a thread of the VMM is inside KVM_RUN for it: this exit is over, its words are stale")
    if first[_REASON] == _UNKNOWN and seen.busy:
        return Motion("running", "KVM_RUN has begun: what its page holds is of an exit before")
    if seen.busy and not is_cleared_at_entry(release):
        return Motion(
            "unclear",
            f"its page did not change during {span}, but {seen.busy} of the VMM's threads are on a CPU, one perhaps "
            "inside KVM_RUN: if this vCPU runs on, the words are stale",
        )
    return Motion("stopped", f"its page did not change during {span}, and no thread of the VMM is running it")


def with_status(motion: Motion, status: str, *, exit_reason: int | None) -> Motion:
    """The same, once QEMU itself has said how its guest is (``query-status``)."""
    if status in _STOPPED or motion.is_over:
        return motion
    if motion.state == "repeating" and exit_reason != kvm_run.EXIT_SHUTDOWN:
        return motion  # QEMU resumes a guest that fails in user mode (kvm_arch_stop_on_emulation_error)
    return Motion("running", f"QEMU says that the guest is {status}: it has gone on after this exit")


def _new_failures(pages: tuple[bytes, ...]) -> int:
    """How often a page showed a failure that it had not shown the moment before."""
    return sum(is_fatal(page) and page != before for before, page in pairwise(pages))
