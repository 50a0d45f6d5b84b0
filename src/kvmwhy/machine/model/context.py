"""What the parts of the modelled kernel share about one vCPU."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.machine.memory import Memory
from kvmwhy.machine.model import exit_info
from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.address import mode_of
from kvmwhy.machine.model.cpu import Cpu
from kvmwhy.machine.model.events import of_fault
from kvmwhy.machine.model.kernel import Bench, Kernel, Vendor
from kvmwhy.machine.model.paging import PAGE, Linear, slot_at
from kvmwhy.machine.model.pending_events import Queue
from kvmwhy.machine.model.run_page import RunPage
from kvmwhy.machine.model.traps import GuestFault, Kind

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
    shadow_paging: bool = False  # the module's ept=0 or npt=0
    exit_on_failure: bool = False
    known: set[int] = field(default_factory=set)  # pages KVM has cached as MMIO
    backed: set[int] = field(default_factory=set)  # pages of RAM that KVM has mapped
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
        self.mov_ss = False  # the interrupt shadow that was set is that of MOV SS, not of STI
        self.moves = 0  # how often the guest has got anywhere
        cpu.on_ram = self.touch_ram
        cpu.software_walk = settings.shadow_paging
        self.gpa: int | None = None  # of the last such exit, while KVM emulates for it

    @property
    def real(self) -> bool:
        return not self.cpu.env.cr[0] & 1

    @property
    def mode(self) -> Mode:
        return mode_of(self.cpu.env)

    def space(self, *, system: bool = False, software: bool = False) -> Linear:
        on_ram = self.touch_ram if system else None
        software |= self.settings.shadow_paging  # it is always KVM that walks
        return Linear(self.memory, state.regime(self.cpu.env), system=system, software=software, on_ram=on_ram)

    @property
    def intercepts_page_faults(self) -> bool:
        """KVM gets each #PF, and injects it again if it is the guest's: shadow paging.

        Before 6.7 (0e3223d8d00a, a dummy root) a CR3 without memory ends the guest at once instead.
        """
        if not self.settings.shadow_paging:
            return False
        root = self.cpu.env.cr[3] & 0x000F_FFFF_FFFF_F000
        return self.settings.kernel.has_dummy_root or slot_at(self.memory, root) is not None

    def touch_ram(self, gpa: int, kind: Kind) -> None:
        """The CPU reached memory: the first time in a page, that was an EPT violation too."""
        page = gpa // PAGE
        if page not in self.settings.backed:
            self.settings.backed.add(page)
            self.qualification = exit_info.ram_qualification(kind)

    @property
    def standing(self) -> tuple[int, bytes]:
        """Where the guest is; an instruction that was carried out changes it."""
        return self.cpu.env.eip, bytes(self.cpu.env.regs)

    def raise_fault(self, fault: GuestFault) -> None:
        """Queue an exception for the next entry."""
        self.queue.exception = of_fault(fault, real=self.real)
