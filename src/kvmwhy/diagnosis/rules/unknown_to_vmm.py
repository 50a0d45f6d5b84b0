"""KVM reported an exit that the VMM has never heard of."""

from __future__ import annotations

from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="exit-unknown-to-vmm",
    family="confidential-guest",
    title="KVM reported an exit that this VMM does not know",
    what=(
        "Confidential guests make KVM ask its VMM for things that older VMMs have never heard of: conversions between"
        " private and shared memory, TDX requests. The VMM then stops the guest although nothing is broken."
    ),
    recognise="`KVM: unknown exit reason 39` (memory fault) or 40 (TDX) from QEMU, with registers that read as zero.",
    confused_with="`unknown exit, hardware reason N`: there N is the hardware's number, and KVM had no handler.",
    fix=Fix(
        vmm="Use a VMM that was made for this kernel's kind of confidential guest.",
        host="Pair kernel and VMM: do not mix a patched kernel with a stock VMM, or the other way round.",
    ),
    references=("Documentation/virt/kvm/api.rst: KVM_EXIT_MEMORY_FAULT, KVM_EXIT_TDX",),
    example="KVM: unknown exit reason 39, of a TDX guest under a QEMU without TDX support",
)

_CONFIDENTIAL = {39, 40}  # KVM_EXIT_MEMORY_FAULT, KVM_EXIT_TDX


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "other" or failure.exit_reason not in _CONFIDENTIAL or failure.silent:
        return None
    name = exit_name(failure.exit_reason)
    return Finding(
        CAUSE,
        "likely" if failure.exit_reason == 40 else "possible",
        f"KVM asked for {name} ({failure.exit_reason}), which this VMM does not know: kernel and VMM do not fit.",
        (f"exit reason {failure.exit_reason} is {name}; only VMMs made for confidential guests handle it",),
    )
