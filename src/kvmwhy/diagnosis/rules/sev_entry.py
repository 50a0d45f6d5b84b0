"""VMRUN refused an encrypted guest, whose state only the CPU can see."""

from __future__ import annotations

from kvmwhy.arch.x86.reset_state import UNSEEN
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="sev-es-entry",
    family="confidential-guest",
    title="VMRUN refused an encrypted guest: what is shown is not its state",
    what=(
        "An SEV-ES or SNP guest keeps its registers encrypted in a save area that KVM cannot read. VMRUN checks that area and"
        " the features that KVM asked for; when it refuses, the registers that a VMM prints are zeros or old values."
    ),
    recognise="hardware error 0xffffffff on AMD with registers that read as zero, or SEV features in the VMCB dump.",
    confused_with="nested-svm-smm and bad states of ordinary guests: their registers mean something.",
    fix=Fix(
        host=(
            "Load kvm_amd with dump_invalid_vmcb=1 and reproduce; compare kernel, firmware (SEV API version) and VMM with what"
            " the guest's launch asked for. Update the kernel: several features must be left alone for such guests."
        )
    ),
    references=("APM vol. 2, 15.35: encrypted state (SEV-ES)", "arch/x86/kvm/svm/sev.c"),
    example="an SEV-ES guest that wrote IA32_DEBUGCTL while KVM switched LBR virtualization off",
)

_SEV_ES_ENABLE = 1 << 2  # VMCB offset 90h, nested_ctl as the dump has it


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "entry-failure" or facts.vendor.vendor != "svm":
        return None
    for_: list[str] = []
    if failure.control and failure.control.fields.get("nested_ctl", 0) & _SEV_ES_ENABLE:
        for_.append("the VMCB dump shows SEV-ES switched on")
    if facts.reset and facts.reset.state in UNSEEN:
        for_.append("all registers read as zero, as those of a protected guest do")
    if not for_:
        return None
    return Finding(
        CAUSE,
        "likely" if len(for_) > 1 or failure.control else "possible",
        "VMRUN refused this guest, whose true state is encrypted: the registers shown mean nothing.",
        tuple(for_),
    )
