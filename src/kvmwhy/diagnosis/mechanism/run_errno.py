"""KVM_RUN returned an errno: what it stands for on this architecture. No exit comes with it."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.answer import Certainty, Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts

_MEANING: Final = {
    "EFAULT": "a page of the guest's memory cannot be had from the host",
    "EHWPOISON": "a page of the guest's memory is poisoned",
    "ENOMEM": "the host has no memory for it",
    "EINVAL": "KVM refuses to run the vCPU as it is",
    "EIO": "the VM is dead, or KVM found a bug of its own",
    "EPERM": "the vCPU was not set up to its end",
    "ENOEXEC": "the vCPU was never initialised",
    "EBUSY": "the host is in a state in which it cannot run guests",
    "EEXIST": "what was to be made is there already",
    "EOPNOTSUPP": "KVM cannot carry out what the guest did",
    "ENOSYS": "KVM cannot carry out what the guest did",
    "ENODEV": "a device or a CPU that it needs is gone",
}
# Where an architecture's KVM has one use of an errno. arch/arm64/kvm/arm.c: kvm_arch_vcpu_ioctl_run,
# kvm_vcpu_first_run_init; arch/riscv/kvm/vcpu_insn.c; arch/powerpc/kvm: book3s_hv.c, powerpc.c; virt/kvm/kvm_main.c.
_MEANING_OF: Final = {
    ("arm64", "ENOEXEC"): "KVM_ARM_VCPU_INIT was never called for the vCPU",
    ("arm64", "EPERM"): "what was asked for in KVM_ARM_VCPU_INIT is not finished (KVM_ARM_VCPU_FINALIZE, as for SVE)",
    ("arm64", "EINVAL"): "KVM refuses to run the vCPU as it is: its PMU or timer is not set up, or it came into a state"
    " (AArch32) that the host cannot run",
    ("arm64", "EIO"): "the VM is dead, or (pKVM) the VM's memory is of a kind that cannot be given to it",
    ("riscv64", "EIO"): "the VM is dead, or the guest touched a device at an address that is not a multiple of the"
    " access's size",
    ("ppc64", "EINVAL"): "KVM finds the vCPU's set-up not sane: no PAPR mode, or a CPU version or MMU mode that this"
    " host cannot run",
    ("ppc64", "EBUSY"): "simultaneous multithreading is on, and this KVM (POWER8 and before) needs it off on the host",
    ("s390x", "EINVAL"): "the vCPU is stopped, or its SIE block is not valid",
}


def run_errno(facts: Facts) -> Mechanism | None:
    """By architecture: an access that the hardware does not describe is ENOSYS on arm64, EOPNOTSUPP on riscv64."""
    failure = facts.failure
    if failure.kind != "run-error":
        return None
    errno = failure.errno
    at = facts.at("errno")
    if errno == "ENOSYS" and failure.arch in {"arm64", None}:
        return _no_syndrome(facts, Proof("KVM_RUN fails with ENOSYS on Arm alone, where an access has no syndrome", at))
    if failure.arch == "riscv64" or errno == "EOPNOTSUPP":
        from kvmwhy.diagnosis.mechanism.riscv64 import by_cause

        if (answer := by_cause(facts)) is not None:
            return answer
    undecided = errno == "EOPNOTSUPP" and failure.arch == "riscv64"
    known = _MEANING_OF.get((failure.arch or "", errno or ""), _MEANING.get(errno or ""))
    meaning = f": {known}" if known else ""
    named = f" with {errno}" if errno else ""
    proof = Proof(f"the VMM reports that KVM_RUN itself failed{named}", at)
    against = [] if errno else [Proof("which errno it was is not shown, or not in a language that is read here")]
    if undecided:
        against.append(Proof("SCAUSE, which is not shown, would tell a load or store without handler from a fetch"))
    certainty: Certainty = "likely" if undecided else "certain"
    return Mechanism("run-errno", f"KVM_RUN itself failed{named}{meaning}.", certainty, (proof,), tuple(against))


def _no_syndrome(facts: Facts, proof: Proof) -> Mechanism:
    shown = instruction(facts)
    return Mechanism(
        "emulation-no-handler",
        f"The guest touched an address without RAM by an instruction{shown} that the CPU does not describe to KVM"
        " (no valid syndrome), and KVM on Arm decodes none.",
        "certain" if facts.failure.arch == "arm64" else "likely",
        (proof,),
    )


def instruction(facts: Facts) -> str:
    """The text of the one that is shown, with its blank."""
    code = facts.failure.code
    if code is None or not (insn := code.at_rip()):
        return ""
    from kvmwhy.arch.disassembly import disassemble

    text = disassemble(facts.failure.arch, insn)
    return f" ({text.text})" if text else ""


def no_syndrome_logged(facts: Facts) -> Mechanism | None:
    """The kernel's own line for such an access, up to 6.6."""
    for event in facts.events("access-without-syndrome"):
        return _no_syndrome(facts, Proof("the host's kernel says so", event.at))
    return None
