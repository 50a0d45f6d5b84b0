"""How many labelled public reports have which origin, by mechanism. Written by tools/count_priors.py.

Of 236 reports 188 have a known origin. Digest of the corpus: eb341542b0898bd1.
"""

from __future__ import annotations

from typing import Final

COUNTS: Final[dict[str, dict[str, int]]] = {
    "emulation-failed": {
        "guest-code": 1,
    },
    "emulation-gives-up": {
        "guest-code": 2,
        "host-kernel": 2,
        "vmm": 2,
        "outer-hypervisor": 1,
        "vm-configuration": 1,
    },
    "emulation-no-handler": {
        "guest-code": 5,
        "vmm": 3,
        "guest-firmware": 2,
        "host-kernel": 2,
    },
    "entry-refused-controls": {
        "outer-hypervisor": 5,
        "host-kernel": 2,
        "cpu": 1,
    },
    "entry-refused-guest-state": {
        "host-kernel": 6,
        "vmm": 4,
        "outer-hypervisor": 2,
        "cpu": 1,
        "host-setup": 1,
        "vm-configuration": 1,
    },
    "entry-vmfail-no-number": {
        "outer-hypervisor": 3,
        "host-kernel": 1,
        "host-setup": 1,
    },
    "event-delivery": {
        "vm-configuration": 2,
        "vmm": 2,
        "cpu": 1,
        "host-kernel": 1,
    },
    "exception-exit": {
        "host-kernel": 3,
        "guest-firmware": 1,
    },
    "exit-unhandled": {
        "host-kernel": 2,
        "confidential-stack": 1,
    },
    "exit-unknown-to-kvm": {
        "host-kernel": 1,
        "outer-hypervisor": 1,
    },
    "exit-unknown-to-vmm": {
        "vmm": 4,
        "confidential-stack": 1,
    },
    "fetch-not-ram": {
        "host-kernel": 3,
        "guest-code": 2,
        "guest-firmware": 1,
        "outer-hypervisor": 1,
        "vmm-race": 1,
    },
    "guest-loops": {
        "guest-firmware": 1,
        "none": 1,
    },
    "host-trouble": {
        "host-kernel": 18,
        "outer-hypervisor": 4,
        "confidential-stack": 2,
        "cpu": 1,
    },
    "not-shown": {
        "none": 3,
        "host-kernel": 1,
        "outer-hypervisor": 1,
    },
    "not-this": {
        "host-kernel": 5,
        "host-setup": 1,
        "vm-configuration": 1,
        "vmm": 1,
    },
    "run-errno": {
        "host-kernel": 12,
        "host-setup": 8,
        "vm-configuration": 3,
        "guest-code": 2,
        "vmm": 2,
    },
    "setup-refused": {
        "vmm": 9,
        "host-setup": 8,
        "host-kernel": 6,
        "vm-configuration": 5,
        "confidential-stack": 1,
        "cpu": 1,
        "guest-code": 1,
        "outer-hypervisor": 1,
    },
    "simultaneous-events": {
        "host-kernel": 1,
    },
    "triple-fault": {
        "host-kernel": 2,
        "guest-code": 1,
        "none": 1,
        "vmm": 1,
    },
    "undef-injected": {
        "host-kernel": 5,
        "host-setup": 1,
    },
}
