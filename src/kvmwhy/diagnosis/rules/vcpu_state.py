"""The VMM loaded a mixture of two states."""

from __future__ import annotations

from kvmwhy.arch.x86.reset_state import State
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="vcpu-state-mixture",
    family="vcpu-state",
    title="The vCPU's state is a mixture of reset values and of values from a running guest",
    what=(
        "Some registers have the values of RESET, others those of code that was running. No guest makes such a state: the"
        " VMM loaded part of one state over another (reset, migration, nested state), or an ioctl failed in between."
    ),
    recognise="An entry failure whose dump has CS at its reset value but another RIP, or leftover L or G bits in real mode.",
    confused_with="invalid-guest-state: there the guest itself made the state.",
    fix=Fix(
        vmm=(
            "Check the result of every KVM_SET_* call at reset and migration, and their order; a failing"
            " KVM_SET_NESTED_STATE left the rest unloaded in QEMU 5.1-rc1."
        ),
        host="Update the VMM. If the guest uses nested virtualisation, try without (QEMU: -cpu host,-vmx or -svm).",
    ),
    references=('QEMU 0baa4b445e ("KVM: fix CPU reset wrt HF2_GIF_MASK")',),
    example="CS=f000 ffff0000 with EIP=906428e6 after system_reset",
)


def rule(facts: Facts) -> Finding | None:
    reset = facts.reset
    if reset is None:
        return None
    stale_l = facts.mode is not None and "L bit left" in facts.mode.why
    mixed = reset.state in {State.MIXTURE, State.HALF_RESET, State.IMPOSSIBLE}
    if not mixed and not (stale_l and facts.failure.kind == "entry-failure"):
        return None
    for_ = [reset.why] if mixed else []
    if stale_l:
        for_.append("CS still has the L bit of 64-bit code, though the CPU is in real mode")
    return Finding(
        CAUSE,
        "likely" if reset.state == State.MIXTURE else "possible",
        "The vCPU's state is a mixture of two: the VMM loaded part of a reset or saved state over another.",
        tuple(for_),
    )
