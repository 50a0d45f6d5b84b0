"""The ioctls of /dev/kvm that only arm64 has, and what they pass: arch/arm64/include/uapi/asm/kvm.h."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from kvmwhy.abi.ioctl import CapabilityInfo, ior, iow, structure

VCPU_INIT: Final = structure("kvm_vcpu_init", "target:u32 features:u32[7]")
VCPU_EVENTS: Final = structure(
    "kvm_vcpu_events",
    "exception.serror_pending:u8 exception.serror_has_esr:u8 exception.ext_dabt_pending:u8 exception.pad:u8[5]"
    " exception.serror_esr:u64 reserved:u32[12]",
)
EXT_DABT_PENDING: Final = 2  # its offset
FEATURE_PSCI_0_2: Final = 1 << 2  # of features[0]


class Arm64Ioctl(IntEnum):
    KVM_ARM_VCPU_INIT = iow(0xAE, VCPU_INIT)
    KVM_ARM_PREFERRED_TARGET = ior(0xAF, VCPU_INIT)
    KVM_GET_VCPU_EVENTS = ior(0x9F, VCPU_EVENTS)
    KVM_SET_VCPU_EVENTS = iow(0xA0, VCPU_EVENTS)


# Documentation/virt/kvm/api.rst; numbers from <linux/kvm.h>.
CAPABILITIES: Final = {
    "KVM_CAP_ARM_PSCI_0_2": CapabilityInfo(102, None, None, "PSCI 0.2 for guests"),
    "KVM_CAP_ARM_EL1_32BIT": CapabilityInfo(93, None, None, "guests of 32 bits"),
    "KVM_CAP_ARM_PMU_V3": CapabilityInfo(126, None, None, "a PMU for guests"),
    "KVM_CAP_ARM_USER_IRQ": CapabilityInfo(144, None, None, "timers without an interrupt controller in the kernel"),
    "KVM_CAP_ARM_INJECT_SERROR_ESR": CapabilityInfo(158, None, None, "an SError with a syndrome"),
    "KVM_CAP_ARM_VM_IPA_SIZE": CapabilityInfo(165, None, "4.20", "largest number of bits of a guest physical address"),
    "KVM_CAP_ARM_SVE": CapabilityInfo(170, None, "5.2", "SVE for guests"),
    "KVM_CAP_ARM_PTRAUTH_ADDRESS": CapabilityInfo(171, None, "5.2", "pointer authentication for guests"),
    "KVM_CAP_ARM_NISV_TO_USER": CapabilityInfo(
        177, "vm", "5.5", "an access without a syndrome exits (KVM_EXIT_ARM_NISV) instead of failing with ENOSYS"
    ),
    "KVM_CAP_ARM_INJECT_EXT_DABT": CapabilityInfo(178, None, "5.5", "a VMM can give the guest an external abort"),
    "KVM_CAP_ARM_MTE": CapabilityInfo(205, "vm", "5.14", "memory tagging for guests"),
    "KVM_CAP_ARM_EL2": CapabilityInfo(240, None, "6.16", "guests may be hypervisors themselves"),
    "KVM_CAP_ARM_SEA_TO_USER": CapabilityInfo(245, "vm", "6.19", "an external abort of the host exits"),
}
