"""An access that the CPU does not describe: KVM on Arm decodes no instruction, and cannot go on."""

from __future__ import annotations

from kvmwhy.abi import kvm_run
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="arm64-no-syndrome",
    family="arm64-no-syndrome",
    title="On Arm: a device was accessed by an instruction that the CPU does not describe to KVM",
    what=(
        "For a load or store of one general-purpose register without write-back, the CPU tells KVM the register, the"
        " width and the sign (ESR_EL2.ISV=1), and KVM hands the access to the VMM. For all others it tells only the"
        " address: pairs (LDP, STP), write-back, SIMD registers, exclusives, atomics, DC ZVA. KVM on Arm has no decoder,"
        " so that KVM_RUN fails with ENOSYS; with KVM_CAP_ARM_NISV_TO_USER it returns KVM_EXIT_ARM_NISV, and QEMU since"
        " 5.1 then gives the guest an external abort. Since Linux 6.7 the kernel log has no line about it."
    ),
    recognise=(
        "`error: kvm run failed Function not implemented` (errno 38) on an arm64 host; `Data abort outside memslots with"
        " no valid syndrome info` in the host's log; a trace's kvm_mmio_nisv; in the guest, a synchronous external abort"
        " (ESR 0x96000010) at a device's address. `kvmwhy atlas --arch arm64 INSTRUCTION` tells which ones do it."
    ),
    confused_with=(
        "run-errno of other errnos: EFAULT is memory of the host's. Where the address was meant to be RAM, the fault is the"
        " missing RAM, not the instruction."
    ),
    fix=Fix(
        guest=(
            "Access device registers by single volatile accesses of one register (Linux: readl, writel), and never by"
            " memcpy or memset. Compile code that touches devices with -mgeneral-regs-only, and keep the accessors in"
            " inline assembly: compilers make pairs and write-back out of plain C at -O2 and above."
        ),
        vmm="Enable KVM_CAP_ARM_NISV_TO_USER, decode the instruction at PC, or inject an abort and print PC and address.",
        host="Record kvm:kvm_mmio_nisv: it has PC, ESR, the virtual and the physical address.",
    ),
    references=(
        "arch/arm64/kvm/mmio.c: io_mem_abort",
        "Documentation/virt/kvm/api.rst: KVM_EXIT_ARM_NISV",
        "Arm ARM DDI 0487: ISS encoding for an exception from a Data Abort",
    ),
    example="ldp x29, x30, [sp], #16 with SP outside RAM: KVM_RUN fails with ENOSYS",
)


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.arch == "arm64" and failure.exit_reason == kvm_run.EXIT_ARM_NISV:
        return Finding(CAUSE, "certain", _SENTENCE, ("the exit is KVM_EXIT_ARM_NISV",))
    if failure.kind != "run-error" or failure.errno != "ENOSYS" or failure.arch not in {None, "arm64"}:
        return None
    for_ = ["KVM_RUN fails with ENOSYS on Arm only, where an access has no syndrome"]
    if failure.arch == "arm64":
        for_.append(failure.arch_from or "the architecture is arm64")
    return Finding(CAUSE, "certain" if failure.arch == "arm64" else "likely", _SENTENCE, tuple(for_))


_SENTENCE = "The guest accessed an address without RAM by an instruction that the CPU does not describe to KVM."
