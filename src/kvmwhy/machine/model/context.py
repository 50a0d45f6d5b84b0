"""What the parts of the modelled kernel share about one vCPU."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from kvmwhy.abi.build import ExitInfo
from kvmwhy.machine.memory import Memory
from kvmwhy.machine.model import env as state
from kvmwhy.machine.model.address import mode_of
from kvmwhy.machine.model.cpu import Cpu
from kvmwhy.machine.model.events import of_fault
from kvmwhy.machine.model.kernel import Bench, Kernel, Vendor
from kvmwhy.machine.model.page import RunPage
from kvmwhy.machine.model.paging import Linear
from kvmwhy.machine.model.queue import Queue
from kvmwhy.machine.model.traps import GuestFault
from kvmwhy.x86.mode import Mode

# Work that may take several KVM_RUNs. It yields True when the page holds an exit for userspace, and
# goes on when the vCPU runs again; it yields False where KVM would just try once more, so that time
# limits hold in a loop that never ends.
Work = Generator[bool, None, None]


@dataclass
class Settings:
    """What is the same for all vCPUs of a VM."""

    kernel: Kernel
    vendor: Vendor
    bench: Bench
    exit_on_failure: bool = False
    known: set[int] = field(default_factory=set)  # pages KVM has cached as MMIO
    mapped: set[int] = field(default_factory=set)  # pages of read-only slots that the guest has read


class Context:
    """One vCPU: the CPU, its memory, what waits for it, and its ``kvm_run`` page."""

    def __init__(self, cpu: Cpu, memory: Memory, settings: Settings) -> None:
        self.cpu = cpu
        self.memory = memory
        self.settings = settings
        self.queue = Queue()
        self.page = RunPage()
        self.info = ExitInfo(0)  # of the last VM-exit
        self.qualification = 0  # of the last EPT violation

    @property
    def real(self) -> bool:
        return not self.cpu.env.cr[0] & 1

    @property
    def mode(self) -> Mode:
        return mode_of(self.cpu.env)

    def space(self, *, system: bool = False, software: bool = False) -> Linear:
        return Linear(self.memory, state.regime(self.cpu.env), system=system, software=software)

    def raise_fault(self, fault: GuestFault) -> None:
        """Queue an exception for the next entry."""
        self.queue.exception = of_fault(fault, real=self.real)
