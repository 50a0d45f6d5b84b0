"""KVM_RUN returned an errno: what it stands for on this architecture. No exit comes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvmwhy.diagnosis.answer import Certainty, Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmwhy.record import At

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
_GUEST_FETCH, _GUEST_LOAD, _GUEST_STORE = 20, 21, 23  # RISC-V's causes: guest-page faults


def run_errno(facts: Facts) -> Mechanism | None:
    """By architecture: an access that the hardware does not describe is ENOSYS on arm64, EOPNOTSUPP on riscv64."""
    failure = facts.failure
    if failure.kind != "run-error":
        return None
    errno = failure.errno
    at = facts.at("errno")
    if errno == "ENOSYS" and failure.arch in {"arm64", None}:
        return _no_syndrome(facts, Proof("KVM_RUN fails with ENOSYS on Arm alone, where an access has no syndrome", at))
    if errno == "EOPNOTSUPP" and failure.arch in {"riscv64", None} and (answer := riscv(facts)) is not None:
        return answer
    undecided = errno == "EOPNOTSUPP" and failure.arch == "riscv64"
    meaning = f": {_MEANING[errno]}" if errno in _MEANING else ""
    named = f" with {errno}" if errno else ""
    proof = Proof(f"the VMM reports that KVM_RUN itself failed{named}", at)
    against = [] if errno else [Proof("which errno it was is not shown, or not in a language that is read here")]
    if undecided:
        against.append(Proof("SCAUSE, which is not shown, would tell a load or store without handler from a fetch"))
    certainty: Certainty = "likely" if undecided else "certain"
    return Mechanism("run-errno", f"KVM_RUN itself failed{named}{meaning}.", certainty, (proof,), tuple(against))


def _no_syndrome(facts: Facts, proof: Proof) -> Mechanism:
    return Mechanism(
        "emulation-no-handler",
        "The guest touched an address without RAM by an instruction that the CPU does not describe to KVM"
        " (no valid syndrome), and KVM on Arm decodes none.",
        "certain" if facts.failure.arch == "arm64" else "likely",
        (proof,),
    )


def no_syndrome_logged(facts: Facts) -> Mechanism | None:
    """The kernel's own line for such an access, up to 6.6."""
    for event in facts.events("access-without-syndrome"):
        return _no_syndrome(facts, Proof("the host's kernel says so", event.at))
    return None


def riscv(facts: Facts) -> Mechanism | None:
    """kvm_riscv_vcpu_mmio_load and _store know loads and stores of integers; the rest, and a fetch, is EOPNOTSUPP."""
    for cause, at in _causes(facts):
        if cause == _GUEST_FETCH:
            text = "The guest fetched an instruction from where no RAM is, and KVM cannot emulate a fetch."
            proof = Proof("SCAUSE is 20, instruction guest-page fault", at)
            return Mechanism("fetch-not-ram", text, "certain", (proof,))
        if cause in {_GUEST_LOAD, _GUEST_STORE} and _unsupported(facts):
            text = "KVM has no handler for the load or store by which the guest touched an address without RAM."
            return Mechanism("emulation-no-handler", text, "certain", (Proof(f"SCAUSE is {cause}", at),))
    return None


def _causes(facts: Facts) -> Iterator[tuple[int, At | None]]:
    """SCAUSE as kvm_riscv_vcpu_exit prints it beside an error, then as a trace has it of the exit."""
    for event in facts.events("riscv-exit-state"):
        if isinstance(cause := event.fields.get("scause"), int):
            yield cause, event.at
    if facts.failure.arch == "riscv64" and (exit_ := facts.failure.exit) is not None:
        yield exit_.reason, facts.at("exit")


def _unsupported(facts: Facts) -> bool:
    errors = [event.fields.get("error") for event in facts.events("riscv-exit-error")]
    return facts.failure.errno == "EOPNOTSUPP" or -95 in errors
