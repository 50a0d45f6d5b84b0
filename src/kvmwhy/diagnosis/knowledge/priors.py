"""What is to be expected of a mechanism before anything else is looked at.

Counts of labelled public reports (``prior_counts``), on top of an expert's pseudo-counts, so that what a few dozen
reports happen not to show is rare, and never impossible.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Final

from kvmwhy.diagnosis.knowledge.prior_counts import COUNTS
from kvmwhy.diagnosis.knowledge.sign import ORIGINS, Weights, weights

__all__ = ["COUNTS", "prior"]

_FLOOR: Final = 0.2  # reports that every origin is given
_OVERALL: Final = 2.0  # reports that follow the distribution over all mechanisms

# An expert's reports: who makes KVM, a VMM or a CPU end so, in the experience of bug trackers of 2007 to 2026.
EXPERT: Final[dict[str, Weights]] = {
    "emulation-no-handler": weights(guest_code=1.2, vmm=0.6, host_kernel=0.6, guest_firmware=0.5, vm_configuration=0.3),
    "emulation-gives-up": weights(
        guest_code=0.6, host_kernel=0.6, vmm=0.5, guest_firmware=0.4, outer_hypervisor=0.3, vm_configuration=0.3
    ),
    "emulation-failed": weights(guest_code=0.8, host_kernel=0.6, vmm=0.4, guest_firmware=0.4, outer_hypervisor=0.3),
    "fetch-not-ram": weights(guest_code=1.2, guest_firmware=0.7, host_kernel=0.5, outer_hypervisor=0.4, vmm_race=0.3),
    "event-delivery": weights(
        guest_code=0.7, vmm=0.6, host_kernel=0.6, vm_configuration=0.4, cpu=0.3, outer_hypervisor=0.3, vmm_race=0.2
    ),
    "simultaneous-events": weights(host_kernel=0.8, guest_code=0.6, outer_hypervisor=0.5, cpu=0.3),
    "exit-unhandled": weights(
        host_kernel=0.8, outer_hypervisor=0.6, host_setup=0.4, confidential_stack=0.4, host_dying=0.4, cpu=0.3
    ),
    "entry-refused-guest-state": weights(
        host_kernel=1, vmm=0.8, outer_hypervisor=0.8, guest_code=0.4, cpu=0.4, host_setup=0.3, guest_firmware=0.2
    ),
    "entry-refused-controls": weights(outer_hypervisor=1.4, host_kernel=0.9, host_setup=0.4, cpu=0.3, vmm=0.2),
    "entry-vmfail-no-number": weights(outer_hypervisor=1.4, host_kernel=0.7, host_setup=0.6, cpu=0.2),
    "run-errno": weights(
        host_setup=1, host_kernel=1, vmm=0.5, vm_configuration=0.4, confidential_stack=0.3, guest_code=0.2
    ),
    "setup-refused": weights(
        host_setup=1.2,
        vmm=0.8,
        host_kernel=0.6,
        vm_configuration=0.6,
        confidential_stack=0.6,
        outer_hypervisor=0.5,
        cpu=0.3,
    ),
    "triple-fault": weights(guest_code=4, vmm=1, host_kernel=0.5, none=0.6, guest_firmware=0.5, outer_hypervisor=0.3),
    "exit-unknown-to-vmm": weights(vmm=1.2, confidential_stack=0.5, host_kernel=0.3, vm_configuration=0.2),
    "exit-unknown-to-kvm": weights(host_kernel=0.8, outer_hypervisor=0.7, vmm=0.3, cpu=0.2),
    "exception-exit": weights(host_kernel=0.7, guest_code=0.6, guest_firmware=0.6, host_setup=0.2, vmm=0.2),
    "guest-loops": weights(host_kernel=0.6, guest_code=0.6, guest_firmware=0.4, none=0.4, vmm=0.3),
    "undef-injected": weights(host_kernel=1.2, guest_code=0.5, vm_configuration=0.4, host_setup=0.3, none=0.3),
    "host-trouble": weights(
        host_kernel=1.4, outer_hypervisor=0.5, host_dying=0.5, confidential_stack=0.3, host_setup=0.3, cpu=0.3
    ),
    "not-this": weights(host_kernel=0.7, host_setup=0.5, guest_code=0.4, vmm=0.4, vm_configuration=0.3),
    "not-shown": weights(none=0.6, host_kernel=0.4, outer_hypervisor=0.4, vmm=0.3, host_setup=0.3),
}


def prior(mechanism: str, *, without: Mapping[str, int] | None = None) -> Weights:
    """The share of each origin among the reports of this mechanism. ``without``: counts that are not to be used."""
    return _prior(mechanism, ()) if not without else _prior(mechanism, tuple(sorted(without.items())))


@cache
def _overall() -> Weights:
    overall = Counter[str]()
    for counts in COUNTS.values():
        overall.update(counts)
    total = overall.total() or 1
    return {origin: count / total for origin, count in overall.items()}


@lru_cache(maxsize=256)
def _prior(mechanism: str, without: tuple[tuple[str, int], ...]) -> Weights:
    reports, expert, left_out = COUNTS.get(mechanism, {}), EXPERT.get(mechanism, {}), dict(without)
    expected = {
        origin: _FLOOR
        + _OVERALL * _overall().get(origin, 0)
        + expert.get(origin, 0)
        + reports.get(origin, 0)
        - left_out.get(origin, 0)
        for origin in ORIGINS
    }
    everything = sum(expected.values())
    return {origin: value / everything for origin, value in expected.items()}
