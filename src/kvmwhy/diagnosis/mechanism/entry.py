"""KVM_EXIT_FAIL_ENTRY: which of three the refused entry is, by the number and by whose rule is broken.

vmx_handle_exit and svm_handle_exit store the number: VMX's whole exit reason with bit 31, or the VM-instruction error
of a VMLAUNCH or VMRESUME that failed; SVM's VMEXIT_INVALID.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.arch.x86.reset_state import State
from kvmwhy.diagnosis.answer import Certainty, Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts

if TYPE_CHECKING:
    from kvmwhy.arch.x86.vm_entry import Violation

_INVALID_SVM: Final = frozenset({*svm.VMEXIT_INVALID, 0xFFFF})  # the last: kvm of 2008 printed 16 bits
_BASIC: Final = frozenset(vmx.ENTRY_FAILURE_REASONS)  # that kvm printed them without bit 31
_ERRNOS: Final = 4096  # a negative one may stand in the place of the number (POWER)
_GUEST: Final = frozenset({"guest"})
_KERNELS: Final = frozenset({"controls", "host", "event"})


def entry_refused(facts: Facts) -> Mechanism | None:
    """Every form of the record: the VMM's line, a dump of the control block, or both."""
    failure = facts.failure
    if failure.kind == "entry-failure":
        if not facts.is_x86:
            return _elsewhere(facts)
        if failure.hardware_error is not None:
            return _by_number(facts, failure.hardware_error)
        return _by_dump(facts)
    if failure.control is not None and failure.kind == "other" and failure.suberror is None:
        return _by_dump(facts)
    return None


def _elsewhere(facts: Facts) -> Mechanism:
    from kvmwhy.abi import exit_words, kvm_run

    number = facts.failure.hardware_error
    fields = {} if number is None else {"hardware_entry_failure_reason": number}
    why = exit_words.words(kvm_run.EXIT_FAIL_ENTRY, fields, facts.failure.arch)
    return Mechanism(
        "entry-refused-controls",
        f"KVM refused to enter this vCPU (KVM_EXIT_FAIL_ENTRY){f': {why}' if why else ''}.",
        "certain",
        (
            Proof(
                f"the reason is {number:#x}" if number is not None else "no reason was printed",
                facts.at("hardware_error"),
            ),
        ),
    )


def _by_number(facts: Facts, number: int) -> Mechanism:
    at = facts.at("hardware_error")
    if number == 0:
        return _no_number(facts)
    if number in _INVALID_SVM:
        return _svm(facts, number)
    basic = number & 0xFFFF
    if basic in _BASIC and (number == basic or number >> 31 & 1):
        return _vmx(facts, basic, number)
    if number in vmx.VM_ENTRY_ERRORS:
        meaning = vmx.VM_INSTRUCTION_ERRORS[number]
        text = f"VMLAUNCH or VMRESUME failed with VM-instruction error {number}: {meaning}."
        return Mechanism(
            "entry-refused-controls",
            text,
            "certain",
            (Proof(f"{number:#x} is a VM-instruction error: numbers of that list end at 28", at), *_state(facts)),
        )
    if number >> 32 and number < (1 << 64) - _ERRNOS:
        text = (
            f"{number:#x} is no number that KVM on x86 reports of a failed entry: these are another hypervisor's words."
        )
        proof = Proof("VMX's exit reason has 32 bits, SVM's VMEXIT_INVALID has all bits set", at)
        return Mechanism("not-this", text, "possible", (proof,))
    sentence = facts.entry.sentence if facts.entry else f"{number:#x}"
    return Mechanism(
        "entry-refused-controls", f"KVM refused to enter the guest: {sentence}.", "possible", (Proof(sentence, at),)
    )


def _valid_exit(facts: Facts) -> list[Proof]:
    """The dump beside the number shows an exit that only a guest that was entered can have."""
    exit_ = facts.failure.exit
    if exit_ is None or facts.failure.control is None or exit_.isa == "svm" or exit_.reason >> 31 & 1:
        return []
    name = vmx.reason_name(exit_.reason) or f"{exit_.reason:#x}"
    return [
        Proof(f"the dump has a valid exit reason ({name}): the entry may have succeeded in truth", facts.at("exit"))
    ]


def _state(facts: Facts) -> list[Proof]:
    """Whether the guest had run, where the registers tell."""
    reset = facts.reset
    if reset is None or reset.state in {State.UNKNOWN, State.RAN}:
        return []
    return [Proof(reset.why, facts.at("cs"))]


def _no_number(facts: Facts) -> Mechanism:
    for_ = [
        Proof("hardware error 0x0: the entry failed, and no error number was to be had", facts.at("hardware_error"))
    ]
    return Mechanism(
        "entry-vmfail-no-number",
        "VMLAUNCH or VMRESUME failed without an error number (VMfailInvalid): to KVM, no VMCS was current.",
        "certain" if facts.vendor.vendor in {"vmx", None} else "likely",
        (*for_, *_state(facts)),
        tuple(_valid_exit(facts)),
    )


def _vmx(facts: Facts, basic: int, number: int) -> Mechanism:
    at = facts.at("hardware_error")
    if basic == vmx.MSR_LOAD_FAIL:
        text = "The CPU refused to enter the guest because an MSR of the VM-entry list could not be loaded."
        return Mechanism("entry-refused-controls", text, "certain", (Proof(f"{number:#x} is exit reason 34", at),))
    if basic == vmx.MCE_DURING_VMENTRY:
        text = "A machine check happened while the CPU was entering the guest."
        return Mechanism("entry-refused-controls", text, "likely", (Proof(f"{number:#x} is exit reason 41", at),))
    broken = _broken(facts, _GUEST)
    text = "The CPU refused to enter the guest because of its state"
    if broken:
        text += f": {broken[0].rule.sentence}; here {broken[0].value}."
    elif facts.checked is not None and not facts.checked.unknown:
        text += ", it says; yet in the dump every rule that kvmwhy knows holds."
    else:
        text += "; which rule it breaks is not shown."
    for_ = (
        Proof(f"{number:#x} is exit reason 33, invalid guest state, with the entry-failure bit", at),
        *_said(broken),
        *_state(facts),
    )
    return Mechanism("entry-refused-guest-state", text, "certain", for_, tuple(_valid_exit(facts)))


def _svm(facts: Facts, number: int) -> Mechanism:
    """A fault in the control area is shown, or the save area is taken for it."""
    proof = Proof(f"{number:#x} is VMEXIT_INVALID", facts.at("hardware_error"))
    guest, controls = _broken(facts, _GUEST), _broken(facts, _KERNELS)
    if controls and not guest:
        rule = controls[0]
        text = f"VMRUN refused the control block: {rule.rule.sentence}; here {rule.value}."
        return Mechanism("entry-refused-controls", text, "likely", (proof, *_said(controls)))
    text = "VMRUN refused to enter the guest because of its state"
    text += f": {guest[0].rule.sentence}; here {guest[0].value}." if guest else "; which rule it breaks is not shown."
    against = () if guest else (Proof("a fault in the control area gives the same number"),)
    certainty: Certainty = "certain" if guest and facts.failure.control else "likely"
    for_ = (proof, *_said(guest), *_state(facts))
    return Mechanism("entry-refused-guest-state", text, certainty, for_, against)


def _by_dump(facts: Facts) -> Mechanism | None:
    """A dump alone. Failed entries and exits without a handler print one, warnings of KVM may."""
    failure = facts.failure
    exit_, control = failure.exit, failure.control
    if control is None:  # a trace has the exit, and no number of its own
        refused = exit_ is not None and exit_.isa == "svm" and exit_.reason in _INVALID_SVM
        return _svm(facts, exit_.reason) if exit_ is not None and refused else None
    if control.kind == "vmcs":
        is_refusal = exit_ is not None and bool(exit_.reason >> 31 & 1)
        if exit_ is not None and is_refusal and exit_.reason & 0xFFFF in _BASIC:
            return _vmx(facts, exit_.reason & 0xFFFF, exit_.reason)
        if event := _broken(facts, frozenset({"event"})):
            return _never_injected(event)
        if exit_ is not None:
            return _unhandled(facts, exit_.reason & 0xFFFF)
    if exit_ is not None and exit_.reason in _INVALID_SVM:
        return _svm(facts, exit_.reason)
    if exit_ is not None:
        return _unhandled(facts, exit_.reason)
    broken = _broken(facts, _GUEST)
    if not broken:
        return None
    return Mechanism(
        "entry-refused-guest-state",
        f"The guest's state in this dump is one that no CPU enters: {broken[0].rule.sentence}; here {broken[0].value}.",
        "possible",
        _said(broken),
        (Proof("the end of the dump, which has the exit reason, is missing"),),
    )


def _never_injected(event: list[Violation]) -> Mechanism:
    """A VM exit clears the valid bit of the event to inject (SDM vol. 3C, 25.8.3): one that is there was refused."""
    text = f"The event in this dump is one that no CPU injects: {event[0].rule.sentence}; here {event[0].value}."
    against = (Proof("the line with the VM-instruction error is not shown: the VMM was told the number"),)
    return Mechanism("entry-refused-controls", text, "likely", _said(event), against)


def _unhandled(facts: Facts, reason: int) -> Mechanism | None:
    """A dump with a valid exit: of one without handler it is a record, of any other it says nothing."""
    control = facts.failure.control
    if control is not None and control.kind == "vmcs":
        known = vmx.REASONS.get(reason)
        handled = known.handled if known else False
        name = known.name if known else f"{reason:#x}"
    else:
        code = svm.find_code(reason)
        handled, name = bool(code and code.handled), code.name if code else f"{reason:#x}"
    if handled:
        return None
    return Mechanism(
        "exit-unhandled",
        f"The CPU left the guest with {name} ({reason:#x}), for which KVM has no handler.",
        "likely",
        (Proof("KVM dumps the control block for an exit without a handler, and this is one", facts.at("exit")),),
    )


def _broken(facts: Facts, about: frozenset[str]) -> list[Violation]:
    return (
        [violation for violation in facts.checked.violations if violation.rule.about in about] if facts.checked else []
    )


def _said(broken: list[Violation]) -> tuple[Proof, ...]:
    return tuple(
        Proof(f"{violation.rule.sentence}; here {violation.value} ({violation.rule.section})")
        for violation in broken[:3]
    )
