"""What every vCPU of a VMM shows right now: its last exit, and whether that is still current."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import msgspec

from kvmwhy.abi.kvm_run import UNION, UNION_SIZE, decode_page
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import Vmm
from kvmwhy.live.process_memory import MAX_READS, Memory
from kvmwhy.live.staleness import PAUSE, SAMPLES, Motion, Watched, judge, threads
from kvmwhy.readers import run_page
from kvmwhy.record import Failure, Host, Source

_WORDS: Final = UNION + UNION_SIZE  # the head and the payload: what KVM writes at an exit


class VcpuLook(NamedTuple):
    """One vCPU of a VMM. ``failure`` is what its page holds; its kind is "other" if that is no failure."""

    vcpu: int
    address: int
    exit_name: str
    failure: Failure
    motion: Motion

    @property
    def holds_a_failure(self) -> bool:
        return self.failure.kind != "other"


def look(vmm: Vmm, host: Host) -> tuple[VcpuLook, ...]:
    """Read every vCPU of this VMM, over some 50 ms. Raises NotPermittedError, GoneError, CaptureError."""
    with Memory(vmm.pid) as memory:
        first = {m.address: memory.snapshot(m.address) for m in vmm.vcpus}
        changed: set[int] = set()
        inside: frozenset[int] = frozenset()
        busy = 0
        for _ in range(SAMPLES if first else 0):
            time.sleep(PAUSE)
            now = threads(vmm.pid)
            inside, busy = inside | now.inside, max(busy, now.busy)
            changed |= {a for a, s in first.items() if _page(memory, a, s.page)[:_WORDS] != s.page[:_WORDS]}
    seen = Watched(frozenset(changed), inside, busy)
    looks = []
    for mapping in vmm.vcpus:
        snapshot = first[mapping.address]
        torn = () if snapshot.settled else (f"the page changed at each of {MAX_READS} reads: it may mix two exits",)
        failure = failure_of(snapshot.page, vmm=vmm.name, pid=vmm.pid, vcpu=mapping.vcpu, host=host, damage=torn)
        motion = judge(mapping.vcpu, mapping.address, seen)
        looks.append(VcpuLook(mapping.vcpu, mapping.address, decode_page(snapshot.page).name, failure, motion))
    return tuple(looks)


def _page(memory: Memory, address: int, before: bytes) -> bytes:
    """A second look; a page that is gone has not changed: what was read from it stays the evidence."""
    try:
        return memory.page(address)
    except CaptureError:
        return before


def failure_of(
    page: bytes, *, vmm: str, pid: int, vcpu: int | None, host: Host, damage: tuple[str, ...] = ()
) -> Failure:
    """The record in a page that was read from process ``pid``."""
    (failure,) = run_page.read(page).failures
    return msgspec.structs.replace(
        failure,
        source=Source(path=f"process {pid}", vmm=vmm, vcpu=vcpu),
        host=host,
        damage=failure.damage + damage,
    )
