"""A VM on /dev/kvm, whatever its architecture, through ioctl and mmap alone: memory slots, capabilities, vCPUs."""

from __future__ import annotations

import errno
import os
from enum import IntEnum
from threading import Lock
from types import TracebackType
from typing import ClassVar, Final, Generic, Self, TypeVar

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.capabilities import known_capabilities
from kvmwhy.abi.ioctl import CAPABILITIES, Ioctl
from kvmwhy.abi.uname import Arch
from kvmwhy.machine.errors import (
    CapabilityAbsentError,
    ClosedError,
    IoctlError,
    NoKvmError,
    RegisterError,
    UnknownCapabilityError,
)
from kvmwhy.machine.ioctl_errors import DEVICE, check_host, refused
from kvmwhy.machine.linux import ioctl, open_device
from kvmwhy.machine.memory import Backing, Memory, Slot
from kvmwhy.machine.vcpu import KvmVcpu

V = TypeVar("V", bound=KvmVcpu)
_INTERRUPTED: Final = 10  # times that KVM_CREATE_VM is tried again when a signal spoils it


class KvmVm(Generic[V]):
    """A VM with vCPUs of one kind. Dropping it closes it, so keep it as long as you use its vCPUs.

    Raises NoKvmError, NotPermittedError, BusyError.
    """

    ARCH: ClassVar[Arch]
    """Of the guests that this kind of VM runs: its host is of the same."""

    def __init__(self, device: str = DEVICE, *, vm_type: int = 0) -> None:
        self._vm = self._kvm = -1
        self._memory = Memory()
        self._vcpus: list[V] = []
        self._next_id = 0
        self._lock = Lock()
        check_host(self.ARCH)
        try:
            self._kvm = open_device(device)
        except NoKvmError:
            raise
        except OSError as error:
            raise refused("open", error) from None
        try:
            self._check_version()
            self._vm = self._create_vm(vm_type)
        except IoctlError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._kvm < 0 else f'{len(self.vcpus)} vCPUs'}>"

    def _check_version(self) -> None:
        version = self._ask(self._kvm, Ioctl.KVM_GET_API_VERSION)
        if version != abi.API_VERSION:
            fact = f"KVM's API has version {version}, not {abi.API_VERSION}"
            raise IoctlError("KVM_GET_API_VERSION", errno.EPROTO, "this is not the KVM of any Linux since 2.6.22", fact)

    def _create_vm(self, vm_type: int) -> int:
        for _ in range(_INTERRUPTED):
            try:
                return self._ask(self._kvm, Ioctl.KVM_CREATE_VM, vm_type)
            except IoctlError as error:
                if error.errno != errno.EINTR:
                    raise
        return self._ask(self._kvm, Ioctl.KVM_CREATE_VM, vm_type)

    # -- memory ------------------------------------------------------------------------------------

    @property
    def slots(self) -> tuple[Slot, ...]:
        return self._memory.slots

    def add_memory(self, gpa: int, size: int, *, readonly: bool = False, data: bytes = b"") -> Slot:
        if readonly and not self.capability("KVM_CAP_READONLY_MEM"):
            raise CapabilityAbsentError("KVM_CAP_READONLY_MEM", CAPABILITIES["KVM_CAP_READONLY_MEM"].number)
        backing = self._memory.add(gpa, size, readonly=readonly, data=data)
        try:
            self._set_region(backing, size)
        except IoctlError:
            self._memory.remove(backing.slot)
            raise
        return backing.slot

    def remove_memory(self, slot: Slot) -> None:
        self._set_region(self._memory.backing(slot), 0)
        self._memory.remove(slot)

    def _set_region(self, backing: Backing, size: int) -> None:
        slot = backing.slot
        flags = abi.MEM_READONLY if slot.readonly else 0
        region = (slot.number, flags, slot.gpa, size, backing.address)
        self._tell(Ioctl.KVM_SET_USER_MEMORY_REGION, abi.USERSPACE_MEMORY_REGION.whole.pack(*region))

    def read(self, gpa: int, size: int) -> bytes:
        return self._memory.read(gpa, size)

    def write(self, gpa: int, data: bytes) -> None:
        self._memory.write(gpa, data)

    # -- capabilities ------------------------------------------------------------------------------

    def capability(self, cap: str | int) -> int:
        return self._ask(self._vm, Ioctl.KVM_CHECK_EXTENSION, _cap_number(cap))

    def enable(self, cap: str | int, *args: int) -> None:
        number = _cap_number(cap)
        known = known_capabilities()
        name = next((name for name, info in known.items() if info.number == number), f"capability {number}")
        info = known.get(name)
        if not self.capability(number):
            advice = f"it came with Linux {info.since}" if info and info.since else ""
            raise CapabilityAbsentError(name, number, advice)
        if len(args) > 4 or any(not 0 <= arg < 1 << 64 for arg in args):
            raise RegisterError(f"{name} args", args, 64)
        try:
            self._tell(Ioctl.KVM_ENABLE_CAP, abi.ENABLE_CAP.whole.pack(number, 0, *args, *[0] * (4 - len(args))))
        except IoctlError as error:
            if error.errno != errno.EINVAL:
                raise
            fact = f"this KVM refuses {name} ({number}) with args {args}"
            raise CapabilityAbsentError(name, number, info.args if info else "", fact) from error

    # -- vCPUs -------------------------------------------------------------------------------------

    @property
    def vcpus(self) -> tuple[V, ...]:
        return tuple(vcpu for vcpu in self._vcpus if not vcpu.closed)

    def create_vcpu(self, vcpu_id: int | None = None) -> V:
        """KVM does not take an id back before the VM ends: one that was closed stays taken."""
        if vcpu_id is not None and not 0 <= vcpu_id < 1 << 32:
            raise RegisterError("vCPU id", vcpu_id, 32)
        with self._lock:  # threads may each make their own
            number = self._next_id if vcpu_id is None else vcpu_id
            fd = self._ask(self._vm, Ioctl.KVM_CREATE_VCPU, number)
            vcpu = self._take_vcpu(number, fd, self._ask(self._kvm, Ioctl.KVM_GET_VCPU_MMAP_SIZE))
            self._vcpus.append(vcpu)
            self._next_id = max(self._next_id, number + 1)
        return vcpu

    def _take_vcpu(self, number: int, fd: int, mapping_size: int) -> V:
        """The vCPU behind a descriptor that KVM_CREATE_VCPU gave, ready to run."""
        raise NotImplementedError

    # -- ioctls ------------------------------------------------------------------------------------

    def _ask(self, fd: int, request: Ioctl, number: int = 0) -> int:
        if self._kvm < 0:
            raise ClosedError("this machine is closed")
        try:
            return ioctl(fd, request, number)
        except OSError as error:
            raise refused(request.name, error) from None

    def _tell(self, request: Ioctl, data: bytes) -> None:
        if self._kvm < 0:
            raise ClosedError("this machine is closed")
        try:
            ioctl(self._vm, request, bytearray(data))  # fcntl is quickest with what it could write to
        except OSError as error:
            raise refused(request.name, error) from None

    def _fill(self, request: IntEnum, size: int) -> bytes:
        """A structure that KVM fills in for this VM."""
        data = bytearray(size)
        try:
            ioctl(self._vm, request, data)
        except OSError as error:
            raise refused(request.name, error) from None
        return bytes(data)

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """End every vCPU, then the VM, then its memory. Again: nothing."""
        for vcpu in self.vcpus:
            vcpu.close()
        for fd in (self._vm, self._kvm):
            if fd >= 0:
                os.close(fd)
        self._vm = self._kvm = -1
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _cap_number(cap: str | int) -> int:
    if isinstance(cap, int):
        return cap
    info = known_capabilities().get(cap)
    if info is None:
        raise UnknownCapabilityError(f"no capability is called {cap!r} here", "give its number")
    return info.number
