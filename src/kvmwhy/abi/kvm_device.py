"""What it takes that a host has /dev/kvm, by its architecture, for whoever finds none."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.abi.uname import Arch


class ToHaveKvm(NamedTuple):
    """``load``: the module; None where KVM is part of the kernel. ``start``: what CPU and firmware must do."""

    load: str | None
    start: str

    @property
    def all(self) -> str:
        return f"{self.load}; {self.start}" if self.load else self.start


# arch/x86/kvm/vmx, svm; arch/arm64/kvm/arm.c: kvm_arm_init; arch/riscv/kvm/main.c: riscv_kvm_init.
TO_HAVE_KVM: Final[dict[Arch | None, ToHaveKvm]] = {
    "x86": ToHaveKvm(
        "load kvm_intel or kvm_amd", "switch VT-x or SVM on in the firmware; in a VM, switch nesting on around it"
    ),
    "arm64": ToHaveKvm(
        None, "start the kernel at EL2 (firmware, or nesting of the hypervisor around it), without kvm-arm.mode=none"
    ),
    "riscv64": ToHaveKvm(
        "load kvm", "it takes a CPU with the hypervisor extension, and firmware that has SBI 0.2 and RFENCE"
    ),
}
