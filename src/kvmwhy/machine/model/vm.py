"""The machine that needs no KVM: see ``protocol.Machine``."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self, get_args

from kvmwhy.abi.ioctl import CAPABILITIES
from kvmwhy.abi.uname import series_of
from kvmwhy.machine.errors import (
    CapabilityAbsentError,
    ClosedError,
    MachineError,
    RegisterError,
    UnknownCapabilityError,
)
from kvmwhy.machine.memory import Slot
from kvmwhy.machine.model.context import Settings
from kvmwhy.machine.model.cpuid import supported
from kvmwhy.machine.model.kernel import Bench, Vendor, kernel
from kvmwhy.machine.model.memory import SharedMemory
from kvmwhy.machine.model.vcpu import ModelVcpu
from kvmwhy.machine.x86.state import CpuidEntry, Dtable, Segment, Sregs

EXIT_ON_FAILURE: Final = 204
_NAMES: Final = {info.number: name for name, info in CAPABILITIES.items()}
# What the model offers and what KVM_CHECK_EXTENSION answers; 204 depends on the release.
_OFFERED: Final = {
    **dict.fromkeys(("KVM_CAP_USER_MEMORY", "KVM_CAP_EXT_CPUID", "KVM_CAP_READONLY_MEM"), 1),
    **dict.fromkeys(("KVM_CAP_INTERNAL_ERROR_DATA", "KVM_CAP_VCPU_EVENTS", "KVM_CAP_DEBUGREGS"), 1),
    **dict.fromkeys(("KVM_CAP_XSAVE", "KVM_CAP_XCRS", "KVM_CAP_IMMEDIATE_EXIT"), 1),
    **dict.fromkeys(("KVM_CAP_LAST_CPU", "KVM_CAP_EXIT_ON_EMULATION_FAILURE"), 1),
    **dict.fromkeys(("KVM_CAP_NR_VCPUS", "KVM_CAP_MAX_VCPUS", "KVM_CAP_MAX_VCPU_ID"), 1024),
    "KVM_CAP_NR_MEMSLOTS": 32764,
}


class UnknownVendorError(MachineError, ValueError):
    """A CPU vendor, or a bench, that the model does not know."""


class Model:
    """A VM on a model of KVM. Nothing of the host is needed but the package ``unicorn``.

    >>> with Model(kernel="6.1", vendor="vmx") as machine:  # doctest: +SKIP
    ...     vcpu = Guest("long64", bytes.fromhex("d9 03"), regs={"rbx": 0xD0000000}).load(machine)
    ...     print(vcpu.run().words[3])
    48

    ``kernel`` is the release whose decisions and layouts it has, ``vendor`` whose words: ``vmx``,
    ``svm``, or ``pvm`` for the software-only module kvm_pvm. ``bench`` says which CPU makes them up:
    ``silicon``, ``tcg`` (QEMU's SVM) or ``bochs`` (Bochs's VMX); see ``words``. ``shadow_paging`` is the
    module's ``ept=0`` or ``npt=0``; without EPT real mode is then run as if it were with it.

    vCPUs share memory, but one does not notice that another has changed code it already executed.

    Raises UnknownKernelError, UnknownVendorError.
    """

    def __init__(
        self,
        kernel: str = "7.3",
        vendor: Vendor = "vmx",
        *,
        bench: Bench = "silicon",
        shadow_paging: bool = False,
    ) -> None:
        for value, known in ((vendor, get_args(Vendor)), (bench, get_args(Bench))):
            if value not in known:
                raise UnknownVendorError(f"unknown {value!r}", f"one of {', '.join(known)}")
        self._settings = Settings(_kernel(kernel), vendor, bench, shadow_paging=shadow_paging)
        self._memory = SharedMemory()
        self._vcpus: list[ModelVcpu] = []
        self._next_id = 0
        self._closed = False

    @property
    def kernel_release(self) -> str:
        """Of the kernel that is modelled."""
        return self._settings.kernel.release

    @property
    def vendor(self) -> str:
        """Whose CPU is modelled."""
        return self._settings.vendor

    def __repr__(self) -> str:
        settings = self._settings
        return f"<Model {settings.kernel.release} {settings.vendor}{' closed' if self._closed else ''}>"

    # -- memory ------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self._memory.slots

    def add_memory(self, gpa: int, size: int, *, readonly: bool = False, data: bytes = b"") -> Slot:
        self._check_open()
        backing = self._memory.add(gpa, size, readonly=readonly, data=data)
        for vcpu in self.vcpus:
            vcpu.cpu.map(backing)
        # KVM forgets what it has cached as MMIO whenever a slot is made or moved.
        self._settings.known.clear()
        return backing.slot

    def remove_memory(self, slot: Slot) -> None:
        self._check_open()
        backing = self._memory.backing(slot)
        for vcpu in self.vcpus:
            vcpu.cpu.unmap(backing)
        self._memory.remove(slot)
        self._settings.mapped.clear()
        self._settings.backed.clear()

    def read(self, gpa: int, size: int) -> bytes:
        self._check_open()
        return self._memory.read(gpa, size)

    def write(self, gpa: int, data: bytes) -> None:
        self._check_open()
        self._memory.write(gpa, data)
        self._memory.written()

    # -- capabilities ------------------------------------------------------------------------------

    def capability(self, cap: str | int) -> int:
        self._check_open()
        name = _name(cap)
        info = CAPABILITIES.get(name)
        since = series_of(info.since) if info else None
        if since is not None and self._settings.kernel.version < since:
            return 0
        return _OFFERED.get(name, 0)

    def enable(self, cap: str | int, *args: int) -> None:
        self._check_open()
        name = _name(cap)
        info = CAPABILITIES.get(name)
        number = cap if isinstance(cap, int) else CAPABILITIES[name].number
        if number != EXIT_ON_FAILURE or not self.capability(number):
            advice = f"it came with Linux {info.since}" if info and info.since else ""
            raise CapabilityAbsentError(name, number, advice)
        if len(args) > 4 or any(not 0 <= arg < 1 << 64 for arg in args):
            raise RegisterError(f"{name} args", args, 64)
        if args and args[0] > 1:
            fact = f"this KVM refuses {name} ({number}) with args {args}"
            raise CapabilityAbsentError(name, number, info.args if info else "", fact)
        self._settings.exit_on_failure = bool(args and args[0])

    def supported_cpuid(self) -> tuple[CpuidEntry, ...]:
        self._check_open()
        return supported(self._settings.vendor)

    # -- vCPUs -------------------------------------------------------------------------------------

    @property
    def vcpus(self) -> tuple[ModelVcpu, ...]:
        return tuple(vcpu for vcpu in self._vcpus if not vcpu.closed)

    def create_vcpu(self, vcpu_id: int | None = None) -> ModelVcpu:
        """Raises MachineError if the package ``unicorn`` is missing."""
        self._check_open()
        if vcpu_id is None:
            vcpu_id = self._next_id
        if not 0 <= vcpu_id < _OFFERED["KVM_CAP_MAX_VCPU_ID"] or any(v.id == vcpu_id for v in self._vcpus):
            raise RegisterError("vCPU id", vcpu_id, 10)
        vcpu = ModelVcpu(vcpu_id, self._memory, self._settings, _reset(bsp=vcpu_id == 0))
        self._vcpus.append(vcpu)
        self._next_id = max(self._next_id, vcpu_id + 1)
        return vcpu

    # -- end ---------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("this machine is closed")

    def close(self) -> None:
        """End every vCPU, then their memory. Again: nothing."""
        if self._closed:
            return
        for vcpu in self.vcpus:
            for backing in self._memory.backings:
                vcpu.cpu.unmap(backing)
            vcpu.close()
        self._closed = True
        self._vcpus.clear()
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()


_kernel = kernel


def _name(cap: str | int) -> str:
    if isinstance(cap, int):
        return _NAMES.get(cap, f"capability {cap}")
    if cap not in CAPABILITIES:
        raise UnknownCapabilityError(f"no capability is called {cap!r} here", "give its number")
    return cap


def _reset(*, bsp: bool) -> Sregs:
    """SDM vol. 3A, table 10-1."""
    data = Segment(0, 0xFFFF, 0, type=3, present=1, s=1)
    code = Segment(0xFFFF_0000, 0xFFFF, 0xF000, type=11, present=1, s=1)
    task, ldt = Segment(0, 0xFFFF, 0, type=11, present=1), Segment(0, 0xFFFF, 0, type=2, present=1)
    table = Dtable(0, 0xFFFF)
    apic_base = 0xFEE0_0800 | (0x100 if bsp else 0)
    segments = (code, data, data, data, data, data, task, ldt)
    return Sregs(*segments, table, table, cr0=0x6000_0010, apic_base=apic_base)
