"""An exit and an event that cannot go together: the CPU reported what its manual excludes."""

from __future__ import annotations

from kvmwhy.abi.x86.vmx import reason_name
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="impossible-vectoring",
    family="cpu-erratum",
    title="The CPU claims to have been delivering an event during an exit that no delivery can cause",
    what=(
        "Suberror 3 means that an exit came in the middle of an event's delivery. This exit is caused by an instruction,"
        " and no instruction runs during a delivery: the CPU's report contradicts itself."
    ),
    recognise="Suberror 3 on Intel whose exit reason is an instruction's: WRMSR, RDMSR, CPUID, HLT, an I/O instruction.",
    confused_with="event-delivery-non-ram: there the exit is one of memory (0x30, 0x31, 0x2c).",
    fix=Fix(
        host=(
            "Update the CPU's microcode, and the host's kernel. With Windows guests on Sapphire or Emerald Rapids load"
            " kvm_intel with enable_apicv=0, or drop hv-vapic. Inside another hypervisor, suspect that one first."
        )
    ),
    references=("https://bugzilla.kernel.org/show_bug.cgi?id=218267", "SDM vol. 3C, 28.2.4: IDT-vectoring information"),
    example="8000002f 20 582 6: WRMSR while interrupt 0x2f was being delivered",
)

# Exits that instructions cause (SDM vol. 3C, appendix C): none can come in the middle of a delivery.
_INSTRUCTIONS = frozenset(
    {10, 11, 12, 13, 14, 15, 16, 17, 18, *range(19, 33), 36, 39, 40, 50, 51, *range(53, 56), 57, 58, 61}
)


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.suberror != 3 or facts.vendor.vendor != "vmx" or len(failure.data) < 2:
        return None
    basic = failure.data[1] & 0xFFFF
    if basic not in _INSTRUCTIONS or facts.delivery is None or facts.delivery.event is None:
        return None
    name = reason_name(basic) or f"{basic:#x}"
    for_ = [
        f"{facts.delivery.event} is said to have been in delivery",
        f"the exit was {name}, which only an instruction causes",
    ]
    insn = facts.instruction
    if (
        insn
        and insn.mnemonic
        and insn.mnemonic.upper() in name.replace("MSR_WRITE", "WRMSR").replace("MSR_READ", "RDMSR")
    ):
        for_.append(f"the instruction at RIP is `{insn.text}`, as the exit says")
    return Finding(
        CAUSE,
        "likely",
        f"The CPU reported a {name} exit in the middle of an event's delivery, which cannot be: microcode, or the hypervisor"
        " around this host.",
        tuple(for_),
    )
