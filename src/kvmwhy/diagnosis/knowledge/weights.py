"""Weights that labelled reports support, in place of the expert's. Written by tools/fit_origins.py.

Fitted to 188 reports of 181 bugs (corpus eb341542b0898bd1). Signs that are not here have the expert's weights:
fewer than two independent bugs show them, or the fit did not move them.
"""

from __future__ import annotations

from typing import Final

TEMPERATURE: Final = 1.1
FITTED: Final[dict[str, dict[str, float]]] = {
    "another-hypervisor": {"host-kernel": 2.0},
    "argument-refused": {"vmm": 2.0},
    "arm-no-syndrome": {"guest-code": 2.0, "vmm": 0.5},
    "capability-missing": {"vmm": 0.5, "host-kernel": 1.5, "cpu": 1.0},
    "cloud-kernel": {"outer-hypervisor": 0.5},
    "device-does-not-answer": {"vm-configuration": 0.5, "host-kernel": 0.5, "host-setup": 2.5},
    "efault-and-the-kernel-is-silent": {"host-kernel": -0.5, "host-setup": 0.5},
    "einval-on-arm": {"guest-code": 1.5, "vmm": 0.5, "host-kernel": 0.5},
    "einval-on-power": {"vm-configuration": 2.5},
    "mixed-state": {"guest-code": -1.0, "vm-configuration": 1.0, "vmm": 1.5},
    "msr-of-kvm-itself": {"vm-configuration": 0.5, "host-kernel": 2.0},
    "msr-refused": {"vmm": 1.0, "host-kernel": 0.5},
    "never-ran-controls": {"host-kernel": 1.0, "outer-hypervisor": 1.0, "cpu": -0.5},
    "no-rule-broken": {"guest-code": -0.5, "host-kernel": 0.0, "outer-hypervisor": 0.5},
    "ordinary-exit": {"vmm": 1.5},
    "refused-before-any-vm": {"vmm": -1.0, "host-setup": 2.0},
    "save-area-in-emulated-memory": {"guest-code": 0.5, "vm-configuration": 1.0, "vmm": 2.0},
    "state-of-an-unlike-cpu": {"vm-configuration": 2.5, "vmm": 0.5},
    "state-rule-broken": {"guest-code": 0.5, "vmm": 1.0},
    "vendor-kernel-on-riscv": {"host-kernel": 2.0, "cpu": 0.5},
    "virtualization-instruction-faults": {"host-setup": 0.5, "outer-hypervisor": 2.0, "host-dying": 0.5},
    "vm86-segments": {"host-kernel": 1.0, "host-setup": 0.5, "cpu": 2.0},
    "young-vmm-state": {"vmm": 2.0, "outer-hypervisor": -0.5},
}
