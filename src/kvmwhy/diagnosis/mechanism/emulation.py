"""Suberror 1: the instruction could not be fetched, has no handler, or has one that refused; or which is not shown.

The order is that of x86_emulate_instruction in arch/x86/kvm/x86.c: an event in delivery, the fetch, the decoder's
tables, the handler.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86 import vmx
from kvmwhy.abi.x86.page_fault import describe_page_fault_error
from kvmwhy.diagnosis.access import nothing_at_rip, rip_outside_ram, straddling
from kvmwhy.diagnosis.answer import Certainty, Mechanism, Proof
from kvmwhy.diagnosis.code_window import EMPTY, Window
from kvmwhy.diagnosis.emulation import Fetch, Why
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.mechanism.event_delivery import vectored
from kvmwhy.diagnosis.phrasing import (
    article,
    at,
    emulated_because,
    fetched_from,
    hexadecimal,
    instruction,
    may_be_older,
    operand,
)
from kvmwhy.emulator import caveats
from kvmwhy.record import At

# Handlers that touch no memory of the guest's own operand and can still refuse: they load segments from a descriptor
# table, go through a stack or an IDT, or leave for userspace (emulate.c: em_ret_far, emulate_int).
_CAN_REFUSE: Final = frozenset(
    {
        *("int", "int1", "int3", "into", "iret", "iretd", "iretq", "retf", "rsm", "syscall", "sysenter", "sysexit"),
        *("in", "insb", "insw", "insd", "out", "outsb", "outsw", "outsd", "ltr", "lldt", "monitor", "mwait", "xsetbv"),
    }
)
_RAISE: Final = frozenset({"ud0", "ud1", "ud2", "int", "int1", "int3", "into"})
_LOADS_SEGMENT: Final = ("mov es,", "mov ss,", "mov ds,", "mov fs,", "mov gs,")
_GIVES_UP_AT: Final = ("far-target", "outer-return", "rsm", "enter-level")
_RESERVED_NOPS: Final = (5, 8)
_WINDOWS: Final = {
    Window.ZEROS: "the bytes at RIP are all zero",
    Window.ONES: "the bytes at RIP are all ff",
    Window.VGA_TEXT: "the bytes at RIP are blank cells of the VGA text screen (20 07)",
}


def emulation_failed(facts: Facts) -> Mechanism | None:
    """Reported to the VMM, or to nobody (a trace shows it); an emulation that the guest got #UD for is another step."""
    if not facts.emulated or (facts.failure.silent and facts.vectoring is None):
        return None
    for step in (_in_delivery, _refused_before, _not_fetched, _by_window, _raises, _by_verdict, _by_place):
        if (answer := step(facts)) is not None:
            return answer
    return _unknown(facts)


def _in_delivery(facts: Facts) -> Mechanism | None:
    return vectored(facts) if facts.vectoring is not None else None


def _refused_before(facts: Facts) -> Mechanism | None:
    """Producers that never come to the decoder: kvm_handle_memory_failure, nested state, invalid guest state, SGX."""
    if facts.why == Why.NESTED:
        name = instruction(facts) if facts.instruction else "a VMX or SVM instruction"
        return Mechanism(
            "emulation-gives-up",
            f"KVM could not carry out `{name}`, which the guest uses as a hypervisor: what it names is not in RAM.",
            "likely",
            (Proof("KVM has a handler of its own for it, which reads the guest's memory", facts.at("rip")),),
        )
    if facts.fetch == Fetch.NOT_SHOWN and facts.why == Why.INVALID_STATE and facts.words is not None:
        return Mechanism(
            "emulation-gives-up",
            "The guest's state is one that this CPU cannot enter, and KVM could not emulate its way out of it.",
            "likely",
            (Proof("the exit words are those that KVM makes up for an invalid guest state", facts.at_word("reason")),),
        )
    if facts.why == Why.SGX and facts.fetch != Fetch.READ:
        return Mechanism(
            "emulation-gives-up",
            "KVM intercepted ENCLS and could not carry it out.",
            "likely",
            (Proof("the exit was ENCLS", facts.at_word("reason")),),
        )
    return None


# -- the fetch -------------------------------------------------------------------------------------


def _not_fetched(facts: Facts) -> Mechanism | None:
    """What KVM itself says of the fetch."""
    if facts.fetch == Fetch.OWN_WALK:
        return _own_walk(facts)
    if straddling(facts) is not None:
        where = hexadecimal(straddling(facts) or 0)
        faulted = facts.fetch == Fetch.FAULTED and facts.word_access is not None and facts.word_access.kind == "fetch"
        exit_ = (Proof(facts.word_access.why, facts.at_word("info1")),) if faulted and facts.word_access else ()
        return Mechanism(
            "fetch-not-ram",
            f"The instruction at {at(facts)} goes on at {where}, and KVM could not read on there.",
            "likely",
            (
                Proof(
                    "the bytes end with their page, and the instruction does not",
                    facts.at("data[1]" if facts.instruction_source == "report" else "code"),
                ),
                *exit_,
            ),
        )
    if facts.fetch == Fetch.FAULTED and facts.word_access is not None:
        walk = facts.word_access.kind == "page-walk"
        if walk and facts.instruction_source == "report":
            return None  # KVM has read the instruction all the same
        return _no_ram(facts, [Proof(facts.word_access.why, facts.at_word("info1"))], "certain")
    if facts.fetch == Fetch.NO_BYTES:
        proof = Proof("KVM reports no instruction bytes: it could not read one byte at RIP", facts.at("data[0]"))
        return _no_ram(facts, [proof], "likely" if facts.paging or facts.words is None else "certain")
    return None


def _own_walk(facts: Facts) -> Mechanism:
    """The CPU had the instruction; KVM's walk of the same page tables failed (walk_addr_generic, paging_tmpl.h)."""
    if facts.walk_error is not None:
        code = describe_page_fault_error(facts.walk_error, nested=False) if facts.walk_error else "an error"
        proof = Proof(f"in the trace KVM's walk of the guest's page tables ends with {code}", _walked(facts))
    else:
        why = facts.word_access.why if facts.word_access else "the exit was a data access"
        proof = Proof(f"{why}: the CPU had fetched the instruction, KVM reports no byte of it", facts.at_word("info1"))
    return Mechanism(
        "emulation-gives-up",
        f"KVM's own walk of the guest's page tables could not read the instruction at {at(facts)}, as the CPU did.",
        "likely",
        (proof,),
    )


def _walked(facts: Facts) -> At:
    walks = [index for index, event in enumerate(facts.failure.trace) if event.name == "kvm_mmu_walker_error"]
    return At(line=facts.failure.source.line, event=walks[-1] if walks else None)


def _no_ram(facts: Facts, for_: list[Proof], certainty: Certainty) -> Mechanism:
    against = []
    place = facts.access.place if facts.access and facts.access.kind == "fetch" else None
    if place is None and not facts.paging:
        place = facts.place_of(facts.linear_rip)
    where = f", {article(place.text)}" if place and place.ram is False else ""
    if place and place.ram is False:
        what = "RIP is" if facts.rip is not None else "the address is"
        for_.append(Proof(f"{what} {article(place.text)}", facts.at("rip")))
    elif place and place.ram:
        against.append(Proof(f"RIP is {article(place.text)}, where there should be RAM", facts.at("rip")))
    if facts.window in _WINDOWS:
        for_.append(Proof(f"{_WINDOWS[facts.window]}, as the VMM reads memory that is not there", facts.at("code")))
    elif facts.window == Window.UNREADABLE:
        for_.append(Proof("the VMM could not read the code at RIP either", facts.at("code")))
    elif facts.window == Window.CODE and facts.fetch in {Fetch.NO_BYTES, Fetch.FAULTED}:
        against.append(
            Proof("the VMM could read bytes there afterwards: the memory may have come back", facts.at("code"))
        )
    if facts.reset is not None and facts.reset.pristine:
        text = "The vCPU could not fetch its very first instruction: no firmware is mapped at the reset vector."
    else:
        text = f"KVM could not fetch the instruction at {fetched_from(facts)}{where}: no RAM was there for it."
    return Mechanism("fetch-not-ram", text, certainty, tuple(for_), tuple(against))


# -- what the VMM read -----------------------------------------------------------------------------


def _by_window(facts: Facts) -> Mechanism | None:
    """Without KVM's own word on the fetch: what the VMM read at RIP, and where RIP is."""
    if facts.fetch == Fetch.READ:
        return None
    if rip_outside_ram(facts):
        return _no_ram(facts, [], "likely")
    if nothing_at_rip(facts):
        return _no_ram(facts, [], "likely")
    if facts.window in EMPTY and facts.paging and facts.words is None:
        return _no_ram(facts, [], "possible")
    if facts.window == Window.UNREADABLE:
        return _no_ram(facts, [], "possible" if facts.paging else "likely")
    return None


def _raises(facts: Facts) -> Mechanism | None:
    """An instruction whose work is to raise an event: the CPU does that, and only its delivery can have met a hole.

    In real mode KVM may emulate it for want of unrestricted guest; then it goes through the IVT by itself.
    """
    insn, mode = facts.instruction, facts.mode
    if insn is None or insn.mnemonic not in _RAISE or (mode is None and facts.words is not None):
        return None
    if facts.words is not None and not _touches_by_itself(facts):
        return None
    if mode is not None and mode.name in {"real16", "vm86"}:
        return None
    why = f"`{insn.text}` needs no emulation: it raises an event, and KVM met what is not RAM while that was delivered"
    text = f"The event that `{insn.text}` raises at {at(facts)} could not be delivered: what it needs is no RAM."
    source = "rip" if facts.failure.emulation is not None else "code"
    certainty: Certainty = "likely" if mode is not None else "possible"  # real mode's events KVM emulates
    return Mechanism("event-delivery", text, certainty, (Proof(why, facts.at(source)),))


def _touches_by_itself(facts: Facts) -> bool:
    """The exit is an access of data, and no event is named: up to 5.10 kvm_exit is traced before KVM reads which.

    vmx.c: vmx_handle_exit traces ``idt_vectoring_info`` before vmx_complete_interrupts has it.
    """
    return facts.vectoring is None and facts.word_access is not None and facts.word_access.kind in {"read", "write"}


def _by_verdict(facts: Facts) -> Mechanism | None:
    """What KVM's emulator makes of the instruction."""
    verdict, insn = facts.verdict, facts.instruction
    if verdict is None or insn is None:
        return None
    if insn.invalid or verdict.outcome == "no-handler":
        return _no_handler(facts)
    if verdict.outcome == "fetch" or (not insn.complete and insn.mnemonic is None):
        return None
    if verdict.outcome == "gives-up" and _reserved_nop_of_old(facts):
        return _no_handler(facts)
    if verdict.outcome == "gives-up":
        return _refused(facts, "certain" if _sure_of_bytes(facts) else "likely", verdict.limit or verdict.sentence)
    if verdict.outcome == "handler" and may_be_older(facts) and not _a_state_can_refuse(facts):
        return _no_handler(facts)
    if verdict.outcome == "handler" and _cannot_fail(facts):
        why = "KVM can do this instruction without any memory but its own bytes, so it was the fetch that failed"
        return _no_ram(facts, [Proof(why, facts.at("code"))], "likely")
    why = verdict.limit or f"{verdict.sentence} So its operand, or the CPU's state, is what made the handler refuse."
    return _refused(facts, "likely", why)


def _reserved_nop_of_old(facts: Facts) -> bool:
    """ENDBR and its like decode since 5.8, with nothing behind them; kernels before have no entry at all."""
    verdict = facts.verdict
    if verdict is None or verdict.limit != caveats.GIVES_UP["reserved-nop"] or facts.failure.host.kernel is not None:
        return False
    return facts.age.oldest is None or facts.age.oldest < _RESERVED_NOPS


def _sure_of_bytes(facts: Facts) -> bool:
    """These are the bytes that KVM met, read in the mode that the CPU was in."""
    mode = facts.mode
    return facts.instruction_source == "report" and mode is not None and mode.certain and not facts.failure.cpu_shared


def _a_state_can_refuse(facts: Facts) -> bool:
    """The handler's limit is one at which it gives up, and not one at which it spins or injects."""
    limit = facts.verdict.limit if facts.verdict else None
    return limit is not None and any(caveats.CONDITIONAL[name] in limit for name in _GIVES_UP_AT)


def _cannot_fail(facts: Facts) -> bool:
    """A handler of registers alone: what can fail is the fetch, which the old record says nothing of."""
    insn = facts.instruction
    if insn is None or facts.words is not None or facts.fetch == Fetch.READ or not insn.complete:
        return False
    if insn.memory or insn.mnemonic in _CAN_REFUSE or (facts.verdict and facts.verdict.limit):
        return False
    text = insn.text or ""
    return ":" not in text and not text.startswith(_LOADS_SEGMENT)


def _no_handler(facts: Facts) -> Mechanism:
    verdict = facts.verdict
    assert verdict is not None  # noqa: S101 -- the caller looked
    since = verdict.since
    maybe = verdict.outcome == "handler"
    decodes = verdict.outcome == "gives-up"  # in newer kernels; which one this is, is not shown
    certainty: Certainty = "certain" if _sure_of_bytes(facts) and not (maybe or decodes) else "likely"
    for_ = [Proof(verdict.sentence, facts.at("data[1]" if facts.instruction_source == "report" else "code"))]
    against = []
    where = operand(facts)
    if facts.access and facts.access.place and facts.access.place.ram is False and where:
        for_.append(Proof(f"it touched {where}: not RAM, so KVM had to emulate it", facts.at("rip")))
    elif facts.why == Why.REAL_MODE or (facts.instruction is not None and not facts.instruction.memory):
        for_.append(Proof(emulated_because(facts), facts.at("rip")))
    if maybe:
        for_.append(Proof("the handler refuses nothing here, and the host's kernel is not shown", None))
    if facts.mode is None and facts.code_mode:
        against.append(Proof(facts.code_mode.why))
        certainty = "likely" if certainty == "certain" else certainty
    foreign = _foreign(facts)
    against += foreign
    text = f"KVM's emulator has no handler for `{instruction(facts)}`"
    if since and not verdict.never:
        text += f" before Linux {since}"
    place = f"at {at(facts)}"
    if facts.rip is None:  # kvm_run has the bytes and, mostly, the address that was touched
        gpa = facts.access.gpa if facts.access and facts.access.kind != "fetch" else None
        place = f"to access guest physical address {gpa:#x}" if gpa is not None else place
    return Mechanism(
        "emulation-no-handler", f"{text}; the guest ran it {place}.", certainty, tuple(for_), tuple(against)
    )


def _foreign(facts: Facts) -> list[Proof]:
    if not facts.foreign_bytes:
        return []
    return [Proof("the bytes that KVM was handed are not those that the VMM reads at RIP", facts.at("code"))]


def _refused(facts: Facts, certainty: Certainty, why: str) -> Mechanism:
    name = instruction(facts)
    foreign = _foreign(facts)
    if foreign:
        text = f"KVM was handed the bytes of `{name}`, which are not those at RIP, and could not carry them out."
    elif facts.window == Window.ZEROS and facts.instruction_source == "code":
        text = f"The guest runs zeros at {at(facts)} (as code: `{name}`), and KVM's emulator gave one up."
    else:
        text = f"KVM's emulator knows `{name}`, which the guest ran at {at(facts)}, and gave it up."
    source = "data[1]" if facts.instruction_source == "report" else "code"
    return Mechanism("emulation-gives-up", text, certainty, (Proof(why, facts.at(source)),), tuple(foreign))


# -- what is left ----------------------------------------------------------------------------------


def _by_place(facts: Facts) -> Mechanism | None:
    """No bytes that are an instruction, and no words: only where RIP is."""
    access = facts.access
    if access is not None and access.kind == "fetch":
        return _no_ram(facts, [], "likely" if facts.words is not None else "possible")
    return _device(facts)


def _device(facts: Facts) -> Mechanism | None:
    """An access to what is not RAM, by an instruction that is not shown: with a handler it would have been done."""
    reason = facts.reading.failure.reason if facts.reading else None
    if facts.instruction is not None or reason != vmx.EPT_MISCONFIG:
        return None
    text = "KVM was to emulate an access to what is not RAM, and most likely has no handler for the instruction."
    proof = Proof(f"the exit reason is {reason:#x}: an address that KVM knows as no RAM", facts.at("suberror"))
    return Mechanism("emulation-no-handler", text, "possible", (proof,), (Proof("the instruction is not shown"),))


def _unknown(facts: Facts) -> Mechanism:
    missing = []
    if facts.failure.cpu is None:
        missing.append("no registers")
    if facts.instruction is None:
        missing.append("no instruction")
    if facts.words is None:
        missing.append("no exit words")
    where = f" at {at(facts)}" if facts.rip is not None else ""
    return Mechanism(
        "emulation-failed",
        f"KVM could not emulate an instruction{where}; why is not shown (no fetch, no handler, or a refusal).",
        "possible" if facts.failure.cpu is not None and facts.failure.cpu.is_dump else "likely",
        (Proof("suberror 1 says so", facts.at("suberror")),),
        (Proof(", ".join(missing) + " in this evidence"),) if missing else (),
    )
