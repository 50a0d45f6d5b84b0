"""System Management Mode: entering it, or leaving it with RSM, is what failed."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="smm",
    family="smm",
    title="Entering or leaving System Management Mode failed",
    what=(
        "The firmware used an SMI. KVM builds the state of SMM itself and restores the old one at RSM; a bug in that, a"
        " damaged save area, or an outer hypervisor that cannot run this mode, makes the next VM entry or the RSM fail."
    ),
    recognise=(
        "SMM=1 and EIP=00008000 with an entry failure: the first instruction of the SMI handler. Or RSM (0f aa) as the"
        ' failing instruction. "Hardware error" does not mean hardware.'
    ),
    confused_with="invalid-guest-state: the same number, but KVM's own SMM entry built the state.",
    fix=Fix(
        guest="Use a firmware build without SMM if you do not need Secure Boot's protection (OVMF without SMM_REQUIRE).",
        vmm="Turn SMM off where the firmware allows it (QEMU: -machine smm=off).",
        host=(
            "Update the kernel: several SMM fixes went into 6.2 and stable branches. On AMD inside another hypervisor,"
            " use a firmware without SMM."
        ),
    ),
    references=("arch/x86/kvm/smm.c: enter_smm, emulator_leave_smm", "SDM vol. 3C, chapter 32; APM vol. 2, chapter 10"),
    example="hardware error 0x80000021, EIP=00008000, SMM=1",
)

_SMI_ENTRY = 0x8000


def is_smm_entry(facts: Facts) -> bool:
    """An entry failure at the first instruction of an SMI handler."""
    cpu = facts.failure.cpu
    return facts.failure.kind == "entry-failure" and cpu is not None and bool(cpu.smm) and facts.rip == _SMI_ENTRY


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    cpu = failure.cpu
    if is_smm_entry(facts):
        return Finding(
            CAUSE,
            "possible" if facts.vendor.vendor == "svm" else "likely",
            "The VM entry into System Management Mode was refused: KVM's SMM entry or the firmware's set-up is at fault.",
            ("SMM=1 and RIP is 0x8000, the first instruction of an SMI handler",),
        )
    if failure.suberror == 1 and facts.instruction and facts.instruction.mnemonic == "rsm":
        for_ = ["the failing instruction is RSM, which leaves SMM and restores the saved state"]
        if cpu and cpu.smm is False:
            for_.append("SMM=0 is shown: the state was restored in part, or RSM ran outside SMM")
        return Finding(CAUSE, "likely", "RSM failed: the state saved at SMM entry could not be restored.", tuple(for_))
    return None
