"""Exits that end a guest without an internal error of KVM's: by KVM's own number of the exit."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi import kvm_run
from kvmwhy.abi.x86 import svm, tdx, vmx
from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.abi.x86.intr_info import describe_event
from kvmwhy.diagnosis.answer import Certainty, Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.injections import in_delivery, injections
from kvmwhy.diagnosis.kvm_run_alone import is_only_a_page
from kvmwhy.diagnosis.mechanism.event_delivery import vectored
from kvmwhy.record import At

_SHUTDOWN: Final = 8
# The exits of a triple fault: of VMX and of SVM (field ``isa`` of the tracepoint).
_TRIPLE_FAULTS: Final = (frozenset({2, "TRIPLE_FAULT"}), frozenset({0x7F, "shutdown"}))
_AC: Final = 17
_SYSTEM_EVENT, _MEMORY_FAULT = 24, 39
_SAYS_WHAT: Final = frozenset({_SYSTEM_EVENT, _MEMORY_FAULT})  # of x86's, what kvm_run has beside the number
_ORDERLY: Final = frozenset({1, 2, 4, 5})  # KVM_SYSTEM_EVENT_SHUTDOWN, _RESET, _WAKEUP, _SUSPEND
_NMI: Final = 2  # the type of an event, in bits 10:8


def internal_error_elsewhere(facts: Facts) -> Mechanism | None:
    """KVM_EXIT_INTERNAL_ERROR on another architecture, where mostly nobody fills in the suberror.

    arch/arm64/kvm/handle_exit.c and arch/mips/kvm: the default of a switch; arch/powerpc/kvm: suberror 1 where a MMIO
    access by vector registers could not be repeated, else MSR.HV or a vCPU that is not sane.
    """
    failure = facts.failure
    if failure.kind != "internal-error" or facts.is_x86:
        return None
    proof = Proof("the exit was KVM_EXIT_INTERNAL_ERROR", facts.at("suberror"))
    if failure.arch in {"ppc64", "ppc"} and failure.suberror == 1:
        text = "KVM could not carry out an access of vector registers to a device to its end."
        return Mechanism("emulation-gives-up", text, "likely", (proof,))
    text = "KVM has no handler for the exit; on this architecture the numbers beside it are left over from before."
    return Mechanism("exit-unhandled", text, "likely", (proof,))


def simultaneous_events(facts: Facts) -> Mechanism | None:
    """KVM_INTERNAL_ERROR_SIMUL_EX: handle_exception_nmi in vmx.c."""
    if facts.failure.suberror != 2:
        return None
    data = facts.failure.data
    text = "A second exception came while an event was being delivered"
    if len(data) > 1:
        first, second = (describe_event(word, "vmx") for word in data[:2])
        text = f"While {first} was being delivered, {second} came on top"
        if data[1] >> 8 & 7 == _NMI:
            text = f"While {first} was being delivered, the host's own NMI came, and KVM took it for a second exception"
    return Mechanism("simultaneous-events", f"{text}.", "certain", (Proof("suberror 2 says so", facts.at("suberror")),))


def traced_internal_error(facts: Facts) -> Mechanism | None:
    """A trace has the return to userspace without its suberror: by the exit before it, where no emulation failed.

    vmx.c: handle_exception_nmi (suberror 2), __vmx_handle_exit; svm.c: svm_invoke_exit_handler (3, 4).
    """
    failure = facts.failure
    if failure.kind != "internal-error" or failure.suberror is not None or failure.emulation is not None:
        return None
    if not failure.trace or facts.words is None:
        return None
    if facts.vectoring is not None and facts.vendor.vendor == "vmx" and facts.words.reason == 0:
        first, second = (describe_event(word, "vmx") for word in (facts.vectoring, facts.words.intr_info))
        text = f"While {first} was being delivered, {second} came on top."
        return Mechanism("simultaneous-events", text, "likely", (Proof("the exit says both", facts.at_word("info2")),))
    if facts.vectoring is not None:
        return vectored(facts)
    if _handled(facts, facts.words.reason) or facts.explained is None:
        return None
    name = _exit_name(facts, facts.words.reason) or f"{facts.words.reason:#x}"
    text = f"The CPU left the guest with {name}, for which KVM has no handler."
    return Mechanism("exit-unhandled", text, "likely", (Proof("no emulation is traced", facts.at_word("reason")),))


def exit_unhandled(facts: Facts) -> Mechanism | None:
    """KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, or the line that the kernel logs with it."""
    failure = facts.failure
    unexpected = facts.events("unexpected-exit")
    logged = failure.kind == "internal-error" and failure.suberror is None and failure.exit is not None and unexpected
    if failure.suberror != 4 and not logged:
        return None
    code = failure.data[0] if failure.data else failure.exit.reason if failure.exit else None
    shown = "an exit that is not shown" if code is None else f"{code:#x}"
    name = _exit_name(facts, code)
    if name:
        shown = f"{name} ({code:#x})"
    if logged and unexpected:
        proof = Proof("the host's kernel calls the exit unexpected", unexpected[0].at)
    else:
        proof = Proof("suberror 4 says that KVM has no handler", facts.at("suberror"))
    if facts.vendor.vendor == "tdx":
        text = f"The TDX module ended the guest: {shown}, a status that KVM has no handler for."
    else:
        text = f"The CPU left the guest with {shown}, for which KVM has no handler."
    against = [Proof("kernels up to 7.3 do have a handler for it")] if _handled(facts, code) else []
    return Mechanism("exit-unhandled", text, "certain", (proof,), tuple(against))


def _exit_name(facts: Facts, code: int | None) -> str | None:
    if facts.explained and facts.explained.name:
        return facts.explained.name
    if code is None:
        return None
    match facts.vendor.vendor:
        case "vmx":
            return vmx.reason_name(code)
        case "svm":
            return svm.code_name(code)
        case "tdx":
            return tdx.slot_name(code)
    return None


def _handled(facts: Facts, code: int | None) -> bool:
    """The kernel's own tables: kvm_vmx_exit_handlers and svm_exit_handlers."""
    if code is None:
        return False
    if facts.vendor.vendor == "vmx":
        reason = vmx.REASONS.get(code & 0xFFFF)
        return bool(reason and reason.handled)
    if facts.vendor.vendor == "svm":
        known = svm.find_code(code)
        return bool(known and known.handled)
    return False


def triple_fault(facts: Facts) -> Mechanism | None:
    """KVM_EXIT_SHUTDOWN: a triple fault on VMX, the shutdown intercept on SVM, or what ends a protected guest."""
    failure = facts.failure
    if failure.kind != "shutdown" and not (failure.kind == "other" and failure.exit_reason == _SHUTDOWN):
        return None
    logged = failure.symptom is not None and failure.symptom.kind == "reset-logged"
    if logged and failure.exit_reason != _SHUTDOWN:
        from kvmwhy.diagnosis.triple_fault import no_gate_at_all

        proof = Proof("QEMU logged that a CPU in protected mode was reset, and not why", facts.at("symptom"))
        return _shutdown(facts, proof, "likely" if no_gate_at_all(failure.cpu) is not None else "possible")
    proof = Proof("the exit was KVM_EXIT_SHUTDOWN", facts.at("exit_reason"))
    return _shutdown(facts, proof, "certain")


def traced_triple_fault(facts: Facts) -> Mechanism | None:
    """A trace that has the exit, though not what the VMM was told of it."""
    if facts.failure.kind not in {"healthy", "other", "symptom"} or facts.failure.exit_reason is not None:
        return None
    for index, event in enumerate(facts.failure.trace):
        if event.name != "kvm_exit":
            continue
        if event.fields.get("exit_reason", event.fields.get("reason")) in _TRIPLE_FAULTS[event.fields.get("isa") == 2]:
            return _shutdown(facts, Proof("the exit of a triple fault is traced", At(event=index)), "likely")
    return None


def _shutdown(facts: Facts, proof: Proof, certainty: Certainty) -> Mechanism:
    """With the exceptions before it, where a trace has them: KVM's own, or the guest's."""
    from kvmwhy.diagnosis.triple_fault import chain_of, first_words, no_gate_at_all

    trace = facts.failure.trace
    seen = tuple(injections(trace))
    proofs = [
        Proof(
            f"before that the guest raised {injection.name}, which KVM intercepts and passed on"
            if injection.passed_on
            else f"before that KVM put {injection.name} into the guest",
            injection.at,
        )
        for injection in seen[-3:]
    ]
    fatal = next((n for n in range(len(trace) - 1, -1, -1) if trace[n].name == "kvm_exit"), None)
    vector = None if fatal is None else in_delivery(trace[fatal])
    chain = chain_of(facts.failure)
    if first := first_words(facts.failure):
        first_vector = chain.faults[0].vector
        by_kvm = any(each.is_known and not each.passed_on and each.vector == first_vector for each in seen)
        own = ", which KVM had put into it" if by_kvm else ""
        if seen and seen[-1].walk:
            own += ": the guest's page tables are not in RAM"
        text = f"the first exception that it could not take was {first}{own} (triple fault)"
    elif seen:
        own = ", which KVM had put into it" if seen[-1].is_known and not seen[-1].passed_on else ""
        text = f"it could not take {seen[-1].name}{own}, nor what followed (triple fault)"
    elif vector is not None:
        name = MNEMONICS.get(vector, f"event {vector}")
        proofs.append(Proof(f"the exit says that {name} was being delivered", At(event=fatal)))
        text = f"it could not take {name}, nor what followed (triple fault)"
    elif no_gate_at_all(facts.failure.cpu) is not None:
        text = "its IDT has no gate for any exception, and the first that came ended it (triple fault)"
    else:
        text = "an exception could not be delivered, nor the double fault that followed (triple fault)"
    return Mechanism("triple-fault", f"The guest shut down: {text}.", certainty, (proof, *proofs))


def exception_exit(facts: Facts) -> Mechanism | None:
    """KVM_EXIT_EXCEPTION: an intercepted exception that KVM has no use for, and #AC of a split lock."""
    failure = facts.failure
    if failure.kind != "exception-exit":
        return None
    vector = failure.exception
    name = "an exception" if vector is None else f"exception {vector} ({MNEMONICS.get(vector, 'reserved')})"
    text = f"KVM handed {name} of the guest to the VMM, which has no use for it."
    if vector == _AC:
        text = (
            "A locked access of the guest crossed a cache line, and the host forbids that: KVM handed #AC to the VMM."
        )
    return Mechanism(
        "exception-exit", text, "certain", (Proof("the exit was KVM_EXIT_EXCEPTION", facts.at("exception")),)
    )


def unknown_to_kvm(facts: Facts) -> Mechanism | None:
    """KVM_EXIT_UNKNOWN; 0 is also what the page holds before KVM fills it in."""
    failure = facts.failure
    if failure.kind == "unknown-exit":
        number = failure.hardware_reason
        shown = "" if number is None else f" {number:#x}"
        text = f"KVM did not know the hardware's reason{shown} and passed it on (KVM_EXIT_UNKNOWN)."
        if number is not None and number >> 63:
            error = (1 << 64) - number
            text = f"KVM passed on {number:#x} in the place of the hardware's reason: -{error}, an error code."
        proof = Proof("the exit was KVM_EXIT_UNKNOWN", facts.at("hardware_reason"))
        return Mechanism("exit-unknown-to-kvm", text, "certain", (proof,))
    if failure.kind == "other" and failure.exit_reason == kvm_run.EXIT_UNKNOWN:
        return Mechanism(
            "exit-unknown-to-kvm",
            "The page says KVM_EXIT_UNKNOWN, as it does before a vCPU runs and while it is inside KVM_RUN.",
            "likely",
            (Proof("exit_reason is 0", facts.at("exit_reason")),),
        )
    return None


def unknown_to_vmm(facts: Facts) -> Mechanism | None:
    """A valid exit for which this VMM has no case."""
    failure = facts.failure
    reason = failure.exit_reason
    if failure.kind != "other" or reason is None or failure.silent:
        return None
    if reason in {kvm_run.EXIT_INTERNAL_ERROR, kvm_run.EXIT_FAIL_ENTRY}:
        return None
    name = kvm_run.exit_name(reason)
    if reason in kvm_run.ROUTINE and failure.speaker is None and failure.source.vmm is None:
        return None  # a page of a vCPU that runs
    shown = f"{name} ({reason})" if reason in kvm_run.EXITS else f"exit {reason} (no kernel up to 7.3 has it)"
    what = ""
    if failure.exit_fields and (failure.arch not in {None, "x86"} or reason in _SAYS_WHAT):
        from kvmwhy.abi import exit_words

        what = exit_words.words(reason, failure.exit_fields, failure.arch) or ""
    if says_nothing_failed(facts):
        text = f"Nothing failed in KVM: the vCPU's last exit was {shown}, {what}."
        return Mechanism("not-shown", text, "likely", (Proof(f"the exit is {reason}", facts.at("exit_reason")),))
    if is_only_a_page(failure):
        text = f"KVM left the guest with {shown}, which is the VMM's to answer"
        proof = Proof(f"the vCPU's last exit is {reason}; whether the VMM answers it is not shown")
    elif facts.failure.source.vmm == "kvm selftests":
        text = f"KVM left the guest with {shown}, where the test expected another exit"
        proof = Proof(f"the test says that it got exit {reason}", facts.at("exit_reason"))
    else:
        text = f"KVM left the guest with {shown}, which this VMM does not handle"
        proof = Proof(f"the VMM calls exit {reason} unknown or unexpected", facts.at("exit_reason"))
        if reason == _MEMORY_FAULT and failure.exit_fields.keys() == {"flags"}:  # "Unknown flag 16"
            flags = failure.exit_fields["flags"]
            text = f"KVM left the guest with {shown} and flags {flags:#x}, which this VMM does not know"
    text += f": {what}." if what else "."
    if reason == kvm_run.EXIT_NOTIFY:
        text = f"KVM left the guest with {shown}: the CPU could take no event for a whole notify window"
        text += "." if is_only_a_page(failure) else ", and the VMM ends the guest for it."
    certainty: Certainty = "likely" if reason in kvm_run.ROUTINE or is_only_a_page(failure) else "certain"
    return Mechanism("exit-unknown-to-vmm", text, certainty, (proof,))


def says_nothing_failed(facts: Facts) -> bool:
    """A page with KVM_EXIT_SYSTEM_EVENT of a guest that was switched off, restarted or put to sleep."""
    failure = facts.failure
    orderly = failure.exit_reason == _SYSTEM_EVENT and failure.exit_fields.get("type") in _ORDERLY
    return orderly and is_only_a_page(failure) and failure.source.vmm is None
