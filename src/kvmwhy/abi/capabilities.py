"""KVM_CAP_* by name, for each architecture."""

from __future__ import annotations

from functools import cache
from typing import Final

from kvmwhy.abi.arm64 import ioctl as arm64
from kvmwhy.abi.ioctl import CAPABILITIES, CapabilityInfo
from kvmwhy.abi.uname import Arch

# Those of abi.ioctl that other architectures have as well; the rest is of x86.
_SHARED: Final = frozenset({
    "KVM_CAP_USER_MEMORY", "KVM_CAP_NR_VCPUS", "KVM_CAP_NR_MEMSLOTS", "KVM_CAP_MP_STATE", "KVM_CAP_MAX_VCPUS",
    "KVM_CAP_READONLY_MEM", "KVM_CAP_MAX_VCPU_ID", "KVM_CAP_IMMEDIATE_EXIT", "KVM_CAP_SYSTEM_EVENT_DATA",
    "KVM_CAP_MEMORY_FAULT_INFO",
})  # fmt: skip
_ONE_REG: Final = {"KVM_CAP_ONE_REG": CapabilityInfo(70, None, None, "KVM_GET_ONE_REG")}


@cache
def capabilities_of(arch: Arch) -> dict[str, CapabilityInfo]:
    """What may be asked of a host of that architecture."""
    if arch == "x86":
        return dict(CAPABILITIES)
    shared = {name: info for name, info in CAPABILITIES.items() if name in _SHARED}
    return shared | _ONE_REG | (arm64.CAPABILITIES if arch == "arm64" else {})


@cache
def known_capabilities() -> dict[str, CapabilityInfo]:
    """All of them."""
    return CAPABILITIES | _ONE_REG | arm64.CAPABILITIES
