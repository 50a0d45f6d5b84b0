"""What every vCPU of a VMM shows right now: its last exit, and whether that is still current."""

from __future__ import annotations

import platform
import time
from typing import Final, NamedTuple

import msgspec

from kvmwhy.abi.kvm_run import ARM_LEFT_TO_VMM, UNION, UNION_SIZE, decode_page
from kvmwhy.abi.uname import arch_of
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import VcpuMapping, Vmm
from kvmwhy.live.process_memory import MAX_READS, Memory, Snapshot
from kvmwhy.live.qemu_command import guest_name
from kvmwhy.live.staleness import (
    PAUSE,
    RESET_SAMPLES,
    SAMPLES,
    Motion,
    Watched,
    is_fatal,
    judge,
    may_be_reset,
    threads,
)
from kvmwhy.live.staleness import with_status as of_status
from kvmwhy.readers import run_page
from kvmwhy.record import Failure, Host, Source

_MOST_PAGES: Final = 4096
_MOST_SAMPLES: Final = 2 * RESET_SAMPLES
_REASON: Final = 8  # the offset of exit_reason
_WORDS: Final = UNION + UNION_SIZE  # the head and the payload: what KVM writes at an exit


class VcpuLook(NamedTuple):
    """One vCPU of a VMM. ``failure`` is what its page holds; its kind is "other" if that is no failure."""

    vcpu: int
    address: int
    exit_name: str
    has_run: bool  # its page is not as KVM made it
    failure: Failure
    motion: Motion
    told_by: str | None = None  # the log that tells of the failure, where no page does

    @property
    def may_have_run_into_an_error(self) -> bool:
        """KVM_RUN began and is over, without an exit: the ioctl failed, and its errno is in no page.

        That need not be a failure: with EAGAIN a vCPU waits to be started (kvm_arch_vcpu_ioctl_run).
        """
        return self.exit_name == "KVM_EXIT_UNKNOWN" and self.has_run and self.motion.state == "stopped"

    @property
    def holds_a_failure(self) -> bool:
        """It has failed, and nothing shows that it runs on.

        KVM_EXIT_UNKNOWN is no failure: it stands there for as long as KVM_RUN is under way.
        """
        if self.told_by:
            return True
        left = self.failure.exit_reason in ARM_LEFT_TO_VMM
        return (left or self.failure.kind not in {"other", "unknown-exit"}) and not self.motion.is_over


def look(vmm: Vmm, host: Host) -> tuple[VcpuLook, ...]:
    """Read every vCPU of this VMM, over some 50 ms. Raises NotPermittedError, GoneError, CaptureError."""
    seen: dict[int, list[bytes]] = {}
    inside: frozenset[int] = frozenset()
    busy = 0
    begin = time.monotonic()
    with Memory(vmm.pid) as memory:
        first = {m.address: memory.snapshot(m.address) for m in vmm.vcpus}
        kept = dict(first)
        seen = {address: [snapshot.page[:_WORDS]] for address, snapshot in first.items()}
        samples = SAMPLES if first else 0
        taken = 0
        while taken < samples:
            if taken < SAMPLES and any(is_fatal(pages[-1]) for pages in seen.values()):
                _watch_closely(memory, seen, kept)
            else:
                time.sleep(PAUSE)
            taken += 1
            now = threads(vmm.pid)
            inside, busy = inside | now.inside, max(busy, now.busy)
            for address, pages in seen.items():
                snapshot = _again(memory, address, kept[address])
                pages.append(snapshot.page[:_WORDS])
                if is_fatal(snapshot.page):  # the latest failure is the one to explain
                    kept[address] = snapshot
            if taken == samples < _MOST_SAMPLES and any(may_be_reset(tuple(pages)) for pages in seen.values()):
                samples += 1
    span = time.monotonic() - begin
    return tuple(
        _looked(
            vmm,
            mapping,
            kept[mapping.address],
            Watched(tuple(seen[mapping.address]), mapping.vcpu in inside, busy, span),
            host,
        )
        for mapping in vmm.vcpus
    )


def _watch_closely(memory: Memory, seen: dict[int, list[bytes]], kept: dict[int, Snapshot]) -> None:
    """For one pause, read the pages that show a failure without a rest.

    A VMM that runs its vCPU again and again leaves the same words each time; only in between the page differs.
    """
    suspects = [address for address, pages in seen.items() if is_fatal(pages[-1])]
    end = time.monotonic() + PAUSE
    while time.monotonic() < end:
        for address in suspects:
            pages = seen[address]
            if _page(memory, address) not in {None, pages[-1]} and len(pages) < _MOST_PAGES:
                snapshot = _again(memory, address, kept[address])
                if snapshot.page[:_WORDS] != pages[-1]:
                    pages.append(snapshot.page[:_WORDS])
                    kept[address] = snapshot if is_fatal(snapshot.page) else kept[address]


def _page(memory: Memory, address: int) -> bytes | None:
    try:
        return memory.page(address)[:_WORDS]
    except CaptureError:
        return None


def _looked(vmm: Vmm, mapping: VcpuMapping, snapshot: Snapshot, seen: Watched, host: Host) -> VcpuLook:
    torn = () if snapshot.settled else (f"the page changed at each of {MAX_READS} reads: it may mix two exits",)
    failure = failure_of(
        snapshot.page,
        vmm=vmm.name,
        pid=vmm.pid,
        vcpu=mapping.vcpu,
        host=host,
        guest=guest_name(vmm),
        damage=torn,
    )
    motion = judge(seen, release=host.kernel)
    has_run = any(snapshot.page[_REASON:_WORDS])
    return VcpuLook(mapping.vcpu, mapping.address, decode_page(snapshot.page).name, has_run, failure, motion)


def with_status(looks: tuple[VcpuLook, ...], status: str) -> tuple[VcpuLook, ...]:
    """The same, once QEMU has said how its guest is."""
    return tuple(
        vcpu._replace(motion=of_status(vcpu.motion, status, exit_reason=vcpu.failure.exit_reason)) for vcpu in looks
    )


def of_run_error(vcpu: VcpuLook, logged: tuple[Failure, str] | None) -> VcpuLook:
    """A vCPU whose KVM_RUN failed: what a log says of it, and which log; or only that QEMU has stopped for it."""
    if logged is None:
        failure, told_by = msgspec.structs.replace(vcpu.failure, kind="run-error"), "QEMU's status alone"
    else:
        by_log, told_by = logged
        failure = msgspec.structs.replace(by_log, source=vcpu.failure.source, host=vcpu.failure.host)
    motion = Motion("stopped", "QEMU has stopped the guest, and no page of its vCPUs holds an exit for it")
    return vcpu._replace(failure=failure, motion=motion, told_by=told_by)


def _again(memory: Memory, address: int, before: Snapshot) -> Snapshot:
    """A second look; a page that is gone has not changed: what was read from it stays the evidence."""
    try:
        return memory.snapshot(address)
    except CaptureError:
        return before


def of_this_host(failure: Failure) -> Failure:
    """Its architecture, where nothing of the record shows one. What x86 has of its own tells by itself."""
    arch = arch_of(platform.machine())
    if failure.arch is not None or arch == "x86":
        return failure
    return msgspec.structs.replace(failure, arch=arch, arch_from="the architecture of this host")


def failure_of(
    page: bytes,
    *,
    vmm: str,
    pid: int,
    vcpu: int | None,
    host: Host,
    guest: str | None = None,
    damage: tuple[str, ...] = (),
) -> Failure:
    """The record in a page that was read from process ``pid``."""
    (failure,) = run_page.read(page).failures
    return msgspec.structs.replace(
        of_this_host(failure),
        source=Source(path=f"process {pid}", vmm=vmm, guest=guest, vcpu=vcpu),
        host=host,
        damage=failure.damage + damage,
    )
