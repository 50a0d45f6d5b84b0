"""Other architectures: exits that are no failure, what KVM put into the guest instead of one, and NISV.

arch/arm64/kvm: inject_fault.c, mmio.c, sys_regs.c; arch/riscv/kvm: vcpu_insn.c (illegal_trap, virtual_inst_fault);
arch/powerpc/kvm: powerpc.c (kvmppc_emulate_mmio), book3s_hv.c.
"""

from __future__ import annotations

from contextlib import suppress
from signal import Signals
from typing import Final

from kvmwhy.abi import exit_words, kvm_run
from kvmwhy.diagnosis.answer import Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts

_INTR: Final = 10
_RISCV_ILLEGAL: Final = 2
_DSI, _SEGMENT, _PROGRAM = 0x300, 0x380, 0x700
_IN_VECTOR_TABLE: Final = 0x7FF  # the bits of an address below VBAR_EL1's
_SYNCHRONOUS: Final = {0x000, 0x200, 0x400, 0x600}
_SIGBUS, _MCEERR_AR, _MCEERR_AO = 7, 4, 5
_SIGSEGV: Final = 11


def undescribed_access(facts: Facts) -> Mechanism | None:
    """KVM_EXIT_ARM_NISV (mmio.c: io_mem_abort), or ARM_LDST64B with its fields, of which no VMM complains."""
    failure = facts.failure
    fields, reason = failure.exit_fields, failure.exit_reason
    if reason is None or reason not in {kvm_run.EXIT_ARM_NISV, kvm_run.EXIT_ARM_LDST64B}:
        return None
    is_nisv = reason == kvm_run.EXIT_ARM_NISV
    without_complaint = "esr_iss" in fields and not failure.source.vmm
    if not without_complaint and not (is_nisv and failure.arch == "arm64"):
        return None
    how = exit_words.words(reason, fields, "arm64")
    if how is None:  # without the syndrome's fields
        at = f"at guest physical address {fields['fault_ipa']:#x} " if "fault_ipa" in fields else ""
        how = f"an access {at}that the CPU does not describe to KVM (no valid syndrome)"
    name = kvm_run.exit_name(reason)
    why = "KVM on Arm decodes no instruction" if is_nisv else "KVM has no such access in itself"
    return Mechanism(
        "emulation-no-handler",
        f"The guest touched an address without RAM, by {how}; {why}, and left it to the VMM ({name}).",
        "certain",
        (Proof(f"the exit was {name}", facts.at("exit_reason")),),
    )


def host_memory_failed(facts: Facts) -> Mechanism | None:
    """KVM_EXIT_ARM_SEA, or SIGBUS of a poisoned page in the vCPU's thread."""
    failure = facts.failure
    if failure.exit_reason == kvm_run.EXIT_ARM_SEA and "esr" in failure.exit_fields:
        text = exit_words.words(kvm_run.EXIT_ARM_SEA, failure.exit_fields, "arm64") or ""
        proof = Proof("the exit was KVM_EXIT_ARM_SEA", facts.at("exit_reason"))
        return Mechanism("host-trouble", f"{text[0].upper()}{text[1:]}.", "certain", (proof,))
    signal, code = failure.exit_fields.get("signal"), failure.exit_fields.get("si_code")
    if signal == _SIGBUS and code in {_MCEERR_AR, _MCEERR_AO}:
        text = "A page of the guest's memory is damaged in the host: the VMM was sent SIGBUS (BUS_MCEERR) for it."
        return Mechanism("host-trouble", text, "certain", (Proof(f"SIGBUS, si_code {code}", facts.at("kind")),))
    if signal is not None:
        name = f"signal {signal}"
        with suppress(ValueError):
            name = Signals(signal).name
        why = ": it touched memory that it may not, such as a protected guest's" if signal == _SIGSEGV else ""
        text = f"{name} ended the VMM inside KVM_RUN{why}."
        return Mechanism("host-trouble", text, "possible", (Proof(f"signal {signal}", facts.at("kind")),))
    return None


def guest_exception(facts: Facts) -> Mechanism | None:
    """An exception that the guest met, by ESR_EL1, SCAUSE, or POWER's vector: KVM's doing, or the guest's own."""
    failure = facts.failure
    if failure.kind != "other" or failure.exit_reason is not None or failure.cpu is None:
        return None
    registers = failure.cpu.registers
    match failure.arch:
        case "arm64" if "esr_el1" in registers:
            return _arm64(facts, registers["esr_el1"])
        case "riscv64" if "vscause" in registers:
            return _riscv64(facts, registers["vscause"])
        case "ppc64" if "vector" in registers:
            return _ppc64(facts, registers["vector"], registers.get("srr1"))
    return None


def _word(facts: Facts) -> int | None:
    code = facts.failure.code
    insn = code.at_rip() if code else b""
    return int.from_bytes(insn, "little") if len(insn) in {2, 4} else None


def _own(text: str, proof: Proof) -> Mechanism:
    text = f"Nothing failed in KVM: the guest took an exception of its own, {text}."
    return Mechanism("not-shown", text, "likely", (proof,))


def _injected(text: str, proof: Proof, *, sure: bool = False) -> Mechanism:
    return Mechanism("undef-injected", text, "certain" if sure else "likely", (proof,))


def _arm64(facts: Facts, number: int) -> Mechanism:
    from kvmwhy.abi.arm64 import esr, sysreg

    number = esr.plain(number)
    proof = Proof(f"ESR_EL1 is {number:#x}: {esr.taken(number)}", facts.at("esr_el1"))
    if esr.is_external_abort(number):
        fetched = esr.exception_class(number) in {0x20, 0x21}
        what = "fetched an instruction from" if fetched else "touched"
        return _injected(
            f"The guest {what} an address without RAM that KVM could not hand to the VMM: KVM put an external abort"
            f" into it ({esr.taken(number)}), and the VM goes on.",
            proof,
        )
    word = _word(facts)
    register = sysreg.of_instruction(word) if word is not None else None
    match esr.exception_class(number):
        case 0x00 if register is not None:
            text = (
                f"KVM refused the guest the system register {register} and gave it an undefined-instruction exception"
            )
            return _injected(f"{text}; the VM goes on.", proof)
        case 0x00 if word is None:
            text = "The guest met an undefined instruction: its own, or a register or instruction that KVM refused it"
            return Mechanism("undef-injected", f"{text}; the VM goes on.", "possible", (proof,))
        case 0x2F:
            text = f"An SError was put into the guest: {esr.taken(number).partition(': ')[2]}; the VM goes on."
            return Mechanism("undef-injected", text, "possible", (proof,))
        case 0x0E:
            return _own("an illegal execution state: PSTATE.IL was set, or a mode loaded that it may not enter", proof)
    return _own(esr.taken(number), proof)


def _riscv64(facts: Facts, number: int) -> Mechanism:
    from kvmwhy.abi.riscv64 import causes
    from kvmwhy.arch.riscv64.instruction import REFUSED, kind_of

    what = causes.cause(number)
    proof = Proof(f"the guest's scause is {number}: {what}", facts.at("vscause"))
    word = _word(facts)
    kind = kind_of(word) if word is not None else None
    if number == _RISCV_ILLEGAL and (kind is None or kind in REFUSED):
        text = (
            f"The guest may not do this ({kind})"
            if kind
            else "The guest did what it may not do in a VM, or no CPU does"
        )
        text += ": it was given an illegal-instruction exception; the VM goes on."
        return Mechanism("undef-injected", text, "likely" if kind else "possible", (proof,))
    if number in {1, 5, 7}:
        text = f"The guest touched an address without RAM, and KVM gave it an access fault ({what}); the VM goes on."
        return _injected(text, proof)
    return _own(what, proof)


def _ppc64(facts: Facts, vector: int, srr1: int | None) -> Mechanism:
    from kvmwhy.abi.ppc64 import traps

    name = traps.trap(vector) or f"interrupt {vector:#x}"
    why = traps.program_reason(srr1) if vector == _PROGRAM and srr1 is not None else None
    proof = Proof(f"the guest's vector is {vector:#x}: {name}" + (f", {why}" if why else ""), facts.at("vector"))
    if vector in {_DSI, _SEGMENT}:
        text = (
            "The guest touched a page that is not mapped, or, by an instruction that KVM cannot carry out, an address"
            f" without RAM: it was given a {name}; the VM goes on."
        )
        return _injected(text, proof)
    if vector == _PROGRAM and why != "trap instruction":
        text = (
            f"KVM or the CPU refused the guest an instruction: it was given a program interrupt ({why or 'no reason'})"
        )
        return _injected(f"{text}; the VM goes on.", proof)
    return _own(f"a {name}" + (f" ({why})" if why else ""), proof)


def nothing_failed(facts: Facts) -> Mechanism | None:
    """Of another architecture, or of none in particular: an exit that any VMM is asked for, or a signal."""
    failure = facts.failure
    if failure.kind != "healthy" or failure.trace:
        return None
    if failure.errno == "EINTR" or failure.exit_reason == _INTR:
        return _interrupted(facts)
    if (reason := failure.exit_reason) is None:
        return None
    what = exit_words.words(reason, failure.exit_fields, failure.arch)
    name = f"{kvm_run.exit_name(reason)} ({reason})"
    text = f"Nothing failed: KVM left the guest with {name}" + (f", {what}" if what else "") + "; the VMM answers it."
    return Mechanism(
        "not-shown", text, "likely", (Proof("the exit is one that every VMM is asked for", facts.at("exit_reason")),)
    )


def _interrupted(facts: Facts) -> Mechanism:
    failure = facts.failure
    registers = failure.cpu.registers if failure.cpu else {}
    proof = Proof("KVM_RUN ended with EINTR, KVM_EXIT_INTR", facts.at("errno"))
    pc = registers.get("pc")
    text = "No failure is reported: a signal ended KVM_RUN (EINTR) while the guest waited for an interrupt, or looped."
    if failure.arch == "arm64" and pc is not None and pc & _IN_VECTOR_TABLE in _SYNCHRONOUS - {0}:
        text = (
            "No failure is reported: a signal ended KVM_RUN (EINTR), and the guest stands at what looks like its"
            " exception vector. Where the vector itself has no RAM the guest takes the same exception again for ever."
        )
        return Mechanism("guest-loops", text, "possible", (proof, Proof(f"PC is {pc:#x}", facts.at("pc"))))
    if failure.arch == "ppc64" and failure.code is not None:
        text = (
            "No failure is reported: the guest meets the same instruction again and again until a signal ends KVM_RUN."
        )
        return Mechanism("guest-loops", text, "possible", (proof,))
    return Mechanism("not-shown", text, "likely", (proof,))
