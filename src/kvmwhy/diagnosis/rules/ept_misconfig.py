"""The CPU found KVM's own EPT entry malformed."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="ept-misconfiguration",
    family="host-kernel-bug",
    title="The CPU found an EPT entry of KVM's malformed",
    what=(
        "EPT entries are made by KVM alone. It marks MMIO with a deliberately malformed one and knows those; any other has"
        " a combination of bits that the CPU does not allow: KVM wrote it wrongly, or the memory that holds it is damaged."
    ),
    recognise="`KVM: unknown exit, hardware reason 31` (hexadecimal), with `EPT: Misconfiguration` in the host's log.",
    confused_with="0x31 in a suberror 1 or 3: there it is only how MMIO looks on Intel.",
    fix=Fix(
        host=(
            "Read the host's log: it prints the entries of that walk. Test the host's memory; update its kernel; inside a VM,"
            " suspect the outer hypervisor's EPT."
        )
    ),
    references=("SDM vol. 3C, 29.3.3.1: EPT misconfigurations", "arch/x86/kvm/vmx/vmx.c: handle_ept_misconfig"),
    example="unknown exit, hardware reason 31, after a bit of the page-table page had flipped",
)

_EPT_MISCONFIG = 0x31


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "unknown-exit" or failure.hardware_reason != _EPT_MISCONFIG:
        return None
    return Finding(
        CAUSE,
        "likely",
        "The CPU found one of KVM's own page-table entries malformed: a bug of the host's kernel, or bad memory.",
        ("hardware reason 0x31 is EPT misconfiguration, and KVM did not know the entry as one of its marks for MMIO",),
        ("on AMD the number would mean something else",) if facts.vendor.vendor is None else (),
    )
