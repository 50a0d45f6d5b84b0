"""A VMM that enters the guest again after an exit that it does not know: KVM returns at once, for ever."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kvmwhy.abi import kvm_run
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.record import Source

CAUSE = Cause(
    id="exit-reentered",
    family="arm64-no-syndrome",
    title="The VMM enters the guest again after an exit that it does not know, in an endless loop",
    what=(
        "KVM left the guest for something that the VMM must deal with, and the VMM has no case for this exit. QEMU's"
        " handler for Arm logs such an exit under -d unimp alone and enters the guest again, which exits at the same"
        " instruction: one CPU is busy, the guest stands still, and no line is printed anywhere."
    ),
    recognise=(
        "One exit of one vCPU, hundreds of times a second, at one PC: `kvmwhy watch` counts it. On Arm: KVM_EXIT_FAIL_ENTRY"
        " (the PMU is another CPU's), KVM_EXIT_ARM_SEA, KVM_EXIT_ARM_LDST64B, KVM_EXIT_ARM_NISV."
    ),
    confused_with=(
        "A guest that loops by itself: then there is no exit, or each at another address. On riscv64, QEMU stops and dumps"
        " the registers instead."
    ),
    fix=Fix(
        guest="Nothing: it does not run.",
        vmm="Deal with the exit, or stop with its number and PC; a newer QEMU may know it.",
        host=(
            "For KVM_EXIT_FAIL_ENTRY keep the VM's threads on CPUs of one kind (taskset, libvirt's vcpupin). Until the VMM"
            " is mended, end the guest: it does not recover."
        ),
    ),
    references=(
        "QEMU target/arm/kvm.c: kvm_arch_handle_exit",
        "arch/arm64/kvm/arm.c: kvm_vcpu_exit_request, KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED",
    ),
    example="KVM_EXIT_ARM_LDST64B of one vCPU at one PC, 900 times in a second",
)
_LEAST: Final = 20
_A_SECOND: Final = 20.0
# QEMU's kvm_arch_handle_exit has no case for these, and accel/kvm/kvm-all.c, kvm_cpu_exec, leaves them to it.
_KNOWN_TO_LOOP: Final = kvm_run.ARM_LEFT_TO_VMM | {kvm_run.EXIT_FAIL_ENTRY}


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.arch != "arm64" or failure.exit_reason not in _KNOWN_TO_LOOP:
        return None
    rate = _rate(failure.source)
    if failure.source.count < _LEAST or rate is None or rate < _A_SECOND:
        return None
    name = kvm_run.exit_name(failure.exit_reason)
    seen = f"{name} came {failure.source.count} times, {rate:.0f} times a second, at one PC"
    return Finding(CAUSE, "likely", "The VMM enters the guest again after each exit, and nothing changes.", (seen,))


def _rate(source: Source) -> float | None:
    """Times a second, where a watch counted."""
    try:
        span = datetime.fromisoformat(source.last_time or "") - datetime.fromisoformat(source.time or "")
    except (ValueError, TypeError):
        return None
    seconds = span.total_seconds()
    return source.count / seconds if seconds > 0 else None
