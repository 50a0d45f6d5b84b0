"""vCPUs whose state is single registers, each with an id (KVM_GET_ONE_REG): arm64 and riscv64. No segments, no MSRs."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Mapping
from typing import ClassVar

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.machine.errors import IoctlError, RegisterError
from kvmwhy.machine.vcpu import KvmVcpu
from kvmwhy.machine.vm import KvmVm


class OneRegVcpu(KvmVcpu):
    """Its registers by the names that QEMU and the kernel print."""

    __slots__ = ()

    REGISTERS: ClassVar[Mapping[str, int]]
    """Names, and the ids of KVM_GET_ONE_REG; all of 64 bits."""

    def get(self, name: str) -> int:
        """Raises RegisterError for a name that is in no table here, IoctlError if this vCPU has no such register."""
        value = ctypes.c_uint64()
        self._one_reg(Ioctl.KVM_GET_ONE_REG, name, value)
        return value.value

    def set(self, name: str, value: int) -> None:
        """Raises RegisterError, and IoctlError if KVM refuses the value."""
        if not 0 <= value < 1 << 64:
            raise RegisterError(name, value, 64)
        self._one_reg(Ioctl.KVM_SET_ONE_REG, name, ctypes.c_uint64(value))

    def _one_reg(self, request: Ioctl, name: str, value: ctypes.c_uint64) -> None:
        number = self.REGISTERS.get(name)
        if number is None:
            raise RegisterError(name, value.value, 0)
        self._set(request, bytearray(abi.ONE_REG.whole.pack(number, ctypes.addressof(value))))

    def all(self) -> dict[str, int]:
        """Every register of the table that this vCPU has."""
        values = {}
        for name in self.REGISTERS:
            try:
                values[name] = self.get(name)
            except IoctlError as error:
                if error.errno not in {errno.ENOENT, errno.EINVAL}:
                    raise
        return values

    def inject_abort(self) -> None:
        """Give the guest an external abort for the access that has just exited. Raises CapabilityAbsentError."""
        raise NotImplementedError


class OneRegVm(KvmVm[OneRegVcpu]):
    """A VM of arm64 or riscv64."""
