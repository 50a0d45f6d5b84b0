"""SMM in a guest of a KVM that itself runs under nested SVM."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.smm import is_smm_entry

CAUSE = Cause(
    id="nested-svm-smm",
    family="outer-hypervisor",
    title="The outer hypervisor cannot enter SMM state under nested SVM",
    what=(
        "The guest's firmware raised an SMI, and KVM made the state that an SMI handler starts with: real mode with huge"
        " limits, paging off. On AMD hardware VMRUN takes it. Hypervisors that emulate SVM for a KVM inside them often do not."
    ),
    recognise="hardware error 0xffffffff on AMD with SMM=1 and EIP=00008000; firmware that needs SMM (OVMF with Secure Boot).",
    confused_with="smm: on Intel the same moment fails with 0x80000021, through KVM's own bugs.",
    fix=Fix(
        vmm="Use firmware without SMM (OVMF built without SMM_REQUIRE) and turn SMM off (QEMU: -machine smm=off).",
        host="Check for `hypervisor` in /proc/cpuinfo; update the outer hypervisor, or use a host that is no VM.",
    ),
    references=("APM vol. 2, 15.5.1: canonicalization and consistency checks", "arch/x86/kvm/smm.c: enter_smm"),
    example="hardware error 0xffffffff, EIP=00008000, SMM=1, on a cloud VM with an AMD CPU",
)


def rule(facts: Facts) -> Finding | None:
    if facts.vendor.vendor != "svm" or not is_smm_entry(facts):
        return None
    host = facts.failure.host
    known = f"this host is itself a virtual machine ({host.hypervisor})" if host.hypervisor else None
    return Finding(
        CAUSE,
        "likely",
        "VMRUN refused the state of SMM: most likely this host is itself a VM, and its hypervisor cannot nest SMM.",
        (
            "SMM=1 and RIP is 0x8000, the first instruction of an SMI handler",
            "AMD hardware accepts the state that KVM makes for it",
            *([known] if known else []),
        ),
        () if known else ("nothing here says whether this host is a virtual machine",),
    )
