"""The real machine for x86 guests: /dev/kvm, through ioctl and mmap alone."""

from __future__ import annotations

import errno
from typing import ClassVar

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.ioctl import Ioctl
from kvmwhy.abi.uname import Arch
from kvmwhy.machine.ioctl_errors import refused
from kvmwhy.machine.linux import ioctl
from kvmwhy.machine.vm import KvmVm
from kvmwhy.machine.x86 import state, sync_regs
from kvmwhy.machine.x86.state import CpuidEntry
from kvmwhy.machine.x86.vcpu import X86Vcpu


class KvmMachine(KvmVm[X86Vcpu]):
    """A VM on /dev/kvm. See ``protocol.Machine``.

    Raises NoKvmError, NotPermittedError, BusyError. There is no interrupt controller in the kernel,
    so HLT exits, and every vCPU is ready to run from the start. Dropping the machine closes it, so
    keep it as long as you use its vCPUs.
    """

    ARCH: ClassVar[Arch] = "x86"

    def supported_cpuid(self) -> tuple[CpuidEntry, ...]:
        entries = 128
        while True:
            table = bytearray(abi.CPUID2.size + entries * abi.CPUID_ENTRY2.size)
            abi.CPUID2.whole.pack_into(table, 0, entries)
            try:
                ioctl(self._kvm, Ioctl.KVM_GET_SUPPORTED_CPUID, table)
            except OSError as error:
                if error.errno != errno.E2BIG or entries > 4096:
                    raise refused("KVM_GET_SUPPORTED_CPUID", error) from None
                entries *= 2
            else:
                return state.cpuid_from_bytes(table)

    def _take_vcpu(self, number: int, fd: int, mapping_size: int) -> X86Vcpu:
        syncs = self.capability("KVM_CAP_SYNC_REGS") & sync_regs.ALL == sync_regs.ALL
        return X86Vcpu(number, fd, mapping_size, syncs=syncs)
