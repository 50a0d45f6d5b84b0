"""Looks alike, but comes from KVM on another architecture."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="not-x86",
    family="not-x86-kvm",
    title="This is not a failure of KVM on x86",
    what=(
        "The exit reason is a negative errno in the place of a hardware number, or the registers are those of another"
        " architecture, and numbers mean other things there."
    ),
    recognise="`unknown exit, hardware reason ffffffffffffffea`; registers named NIP, MSR, GPR00, or X00, PSTATE.",
    confused_with="An x86 exit reason: those are small, or have bit 31 set.",
    fix=Fix(host="Ask on the list of that architecture's KVM; the errno says which call failed."),
    references=("arch/powerpc/kvm: kvmppc_vcpu_run_hv",),
    example="hardware reason ffffffffffffffea: -EINVAL, on POWER",
)

_ERRNOS = 4095


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    other = not facts.is_x86
    reason = failure.hardware_reason
    negative = None if reason is None else (1 << 64) - reason
    if failure.kind != "unknown-exit" or negative is None or not 0 < negative <= _ERRNOS:
        return None
    for_ = [f"{reason:#x} is -{negative}: an errno, not a reason of any x86 CPU"]
    if other:
        for_.append(failure.arch_from or f"the architecture is {failure.arch}")
    return Finding(
        CAUSE,
        "likely" if other else "possible",
        f"The exit reason is -{negative}, an error code of the kernel's: this is most likely not KVM on x86.",
        tuple(for_),
    )
