"""From a failed ioctl to the error that names it, with what to do. Reads /proc/modules, nothing else."""

from __future__ import annotations

import errno
import platform
from pathlib import Path
from typing import Final

from kvmwhy.abi.kvm_device import TO_HAVE_KVM
from kvmwhy.abi.uname import Arch, arch_of
from kvmwhy.machine.errors import (
    BusyError,
    IoctlError,
    NoKvmError,
    NotPermittedError,
    RefusedStateError,
    WrongArchitectureError,
)
from kvmwhy.machine.linux import require_linux

DEVICE: Final = "/dev/kvm"
# Out-of-tree hypervisors that take VMX or SVM for themselves, without asking KVM.
OTHER_HYPERVISORS: Final = ("vboxdrv", "vmmon", "haxm")

# What the return codes mean in virt/kvm/kvm_main.c and arch/x86/kvm/x86.c.
_ADVICE: Final = {
    ("open", errno.EACCES): "join the group that owns it (often kvm), or ask for an ACL (setfacl -m u:NAME:rw)",
    ("open", errno.EPERM): "the container or sandbox must pass the device through",
    ("KVM_CREATE_VM", errno.EINTR): "a signal came while it was made; try again",
    ("KVM_CREATE_VM", errno.EMFILE): "this process has no descriptor left (ulimit -n)",
    ("KVM_CREATE_VCPU", errno.EEXIST): "this id is taken",
    ("KVM_CREATE_VCPU", errno.EINVAL): "ids are below KVM_CAP_MAX_VCPU_ID, and their number is limited too",
    ("KVM_SET_USER_MEMORY_REGION", errno.EEXIST): "it overlaps another slot",
    ("KVM_SET_USER_MEMORY_REGION", errno.EINVAL): "no such slot number, or beyond the guest's physical address width",
    ("KVM_SET_SREGS", errno.EINVAL): (
        "CR0, CR4 and EFER contradict each other, have reserved bits, or need a CPUID bit that was not set first"
    ),
    ("KVM_SET_XCRS", errno.EINVAL): "XCR0 may only have what the vCPU's CPUID leaf 0xd offers, and always bit 0",
    ("KVM_SET_CPUID2", errno.EINVAL): "CPUID cannot change after the vCPU has run",
    (
        "KVM_SET_VCPU_EVENTS",
        errno.EINVAL,
    ): "vector 2 is no exception, vectors end at 31, and flags need their VALID bit",
    ("KVM_SET_DEBUGREGS", errno.EINVAL): "DR6 and DR7 have 32 bits",
    ("KVM_RUN", errno.EFAULT): "the guest's memory is not there for KVM: unmapped, or without backing",
    ("KVM_RUN", errno.ENOEXEC): "the vCPU is not ready to run",
}
_ABSENT: Final = {errno.ENOENT, errno.ENODEV, errno.ENXIO}
_ANY: Final = {
    errno.EIO: "the VM belongs to another process (a fork?) or is dead",
    errno.EBADF: "it was closed",
    errno.ENOTTY: "this kernel does not know it",
    errno.ENOMEM: "the host is out of memory",
}
_STATE: Final = {
    "KVM_SET_REGS",
    "KVM_SET_SREGS",
    "KVM_SET_XCRS",
    "KVM_SET_MSRS",
    "KVM_SET_CPUID2",
    "KVM_SET_VCPU_EVENTS",
    "KVM_SET_DEBUGREGS",
    "KVM_SET_FPU",
    "KVM_SET_XSAVE",
    "KVM_SET_MP_STATE",
}


def check_host(arch: Arch) -> None:
    """Raises WrongArchitectureError unless this host runs guests of that architecture; NoKvmError if it runs none."""
    require_linux()
    host = arch_of(platform.machine())
    if host != arch:
        raise WrongArchitectureError(arch, host or platform.machine())


def refused(ioctl: str, error: OSError) -> IoctlError:
    """The error to raise for ``error``, which ``ioctl`` (or ``open``, ``mmap``) gave."""
    number = error.errno or 0
    advice = _ADVICE.get((ioctl, number)) or _ANY.get(number, "")
    if ioctl == "open":
        if number in _ABSENT:
            fact = f"no {DEVICE}" if number == errno.ENOENT else f"no virtualization behind {DEVICE}"
            return NoKvmError(ioctl, number, _to_have_it(number, arch_of(platform.machine())), fact)
        if number in {errno.EACCES, errno.EPERM}:
            return NotPermittedError(ioctl, number, advice, f"not permitted: {DEVICE}")
    if ioctl == "KVM_CREATE_VM" and number == errno.EBUSY:
        return BusyError(ioctl, holders())
    if ioctl in _STATE and number == errno.EINVAL:
        return RefusedStateError(ioctl, number, advice)
    return IoctlError(ioctl, number, advice)


def _to_have_it(number: int, arch: Arch | None) -> str:
    """What would give this host a KVM; where there is a model of one, that instead."""
    needed = TO_HAVE_KVM.get(arch)
    if needed is None:
        return ""
    words = {errno.ENODEV: needed.start, errno.ENXIO: needed.load or needed.start}.get(number, needed.all)
    return f"{words}; or run on the model" if arch == "x86" else words


def holders(modules: Path = Path("/proc/modules")) -> tuple[str, ...]:
    """The other hypervisors whose modules are loaded. Empty if /proc/modules cannot be read."""
    try:
        text = modules.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ()
    loaded = {line.split(maxsplit=1)[0] for line in text.splitlines() if line.strip()}
    return tuple(name for name in OTHER_HYPERVISORS if name in loaded)
