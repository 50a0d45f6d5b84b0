"""The pages of a VMM at one moment: at its end, while its address space is still there, or while it stands still."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.abi import kvm_run
from kvmwhy.abi.kvm_run import decode_page
from kvmwhy.live.errors import CaptureError
from kvmwhy.live.process import VcpuMapping, Vmm, descriptors, vcpu_mappings, vmm
from kvmwhy.live.process_memory import Memory
from kvmwhy.live.vcpus import failure_of
from kvmwhy.record import Failure, Host

# An exit that no VMM survives unharmed. KVM_EXIT_UNKNOWN is not among them: a page shows it while its vCPU runs.
FATAL: Final = frozenset({
    kvm_run.EXIT_INTERNAL_ERROR, kvm_run.EXIT_FAIL_ENTRY, kvm_run.EXIT_SHUTDOWN, kvm_run.EXIT_EXCEPTION,
})  # fmt: skip


class VcpuPage(NamedTuple):
    vcpu: int
    address: int
    page: bytes

    @property
    def exit_reason(self) -> int:
        return decode_page(self.page).exit_reason

    @property
    def is_failed(self) -> bool:
        return self.exit_reason in FATAL


class VmmPages(NamedTuple):
    """A process with all pages of its vCPUs; none: it is no VMM."""

    vmm: Vmm
    pages: tuple[VcpuPage, ...]

    def failures(self, host: Host) -> tuple[Failure, ...]:
        return tuple(
            failure_of(page.page, vmm=self.vmm.name, pid=self.vmm.pid, vcpu=page.vcpu, host=host)
            for page in self.pages
            if page.is_failed
        )


def pages_of(pid: int, thread: int | None = None, mappings: tuple[VcpuMapping, ...] | None = None) -> VmmPages | None:
    """What ``pid`` shows now, read by way of one of its threads; None if it has no vCPU, or may not be read."""
    by = thread or pid
    try:
        known = vcpu_mappings(by) if mappings is None else mappings
        if not known:
            return None
        with Memory(by) as memory:
            pages = tuple(VcpuPage(m.vcpu, m.address, memory.snapshot(m.address).page) for m in known)
        return VmmPages(vmm(by)._replace(pid=pid, vcpus=known), pages)
    except CaptureError:
        return None


def holds_kvm(thread: int) -> bool:
    """Whether a process has /dev/kvm, a VM or a vCPU open."""
    try:
        return any(link == "/dev/kvm" or link.startswith("anon_inode:kvm-") for _, link in descriptors(thread))
    except CaptureError:
        return False
