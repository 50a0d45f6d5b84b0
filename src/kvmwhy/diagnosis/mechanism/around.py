"""What no exit of a vCPU tells: other hypervisors, refused set-ups, the host's own lines, and nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvmwhy.abi import kvm_run
from kvmwhy.diagnosis.answer import Mechanism, Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.host_events import TROUBLE, is_vmm, said
from kvmwhy.diagnosis.knowledge.setup_meanings import meaning_of, slugs_of
from kvmwhy.diagnosis.mechanism.run_errno import no_syndrome_logged
from kvmwhy.diagnosis.never_printed import never_printed
from kvmwhy.diagnosis.phrasing import call_in_words, logs_the_guest
from kvmwhy.record import REFUSED_AT_START, At, Failure, HostEvent, Setup

_SPEAKERS: Final = {
    "xen": "Xen",
    "haxm": "HAXM",
    "bhyve": "bhyve",
    "whpx": "Windows Hypervisor Platform",
    "hvf": "macOS's Hypervisor framework",
    "virtualbox": "VirtualBox",
    "vmware": "VMware",
    "hyper-v": "Hyper-V",
    "gunyah": "Gunyah, Qualcomm's hypervisor",
    "geniezone": "GenieZone, MediaTek's hypervisor",
    "tcg": "QEMU's own emulator (TCG)",
    "openbsd-vmm": "OpenBSD's vmm",
    "jailhouse": "Jailhouse",
    "acrn": "ACRN",
    "own": "a hypervisor of its own",
    "guest-kernel": "the guest's own kernel",
}
# Lines of the host's kernel that name another mechanism than "the host's own trouble", where nothing else does.
# Source: the function that prints the line, and what it returns.
_BY_EVENT: Final[dict[str, tuple[str, str]]] = {
    # arch/arm64/kvm/mmu.c: kvm_handle_guest_abort returns -EFAULT; user_mem_abort likewise
    "abort-not-handled": (
        "run-errno",
        "KVM cannot handle this kind of abort of the guest, and KVM_RUN fails with EFAULT",
    ),
    "host-memory-missing": ("run-errno", "No memory of the VMM is behind the guest's, and KVM_RUN fails with EFAULT"),
    # arch/riscv/kvm/vcpu_exit.c: kvm_riscv_vcpu_exit
    "riscv-exit-error": ("run-errno", "KVM_RUN failed with the error that the host's kernel logged"),
    # arch/arm64/kvm/handle_exit.c: the default of handle_exit's switch sets KVM_EXIT_INTERNAL_ERROR
    "exception-type-unknown": ("exit-unhandled", "KVM has no handler for the code with which EL2 came back"),
    # arch/powerpc/kvm/book3s_pr.c and booke.c: a program check is injected, again and again
    "ppc-emulation-failed": ("guest-loops", "KVM cannot emulate an instruction, and the guest meets it again for ever"),
    # arch/powerpc/kvm/book3s_hv.c: kvmppc_handle_exit_hv
    "ppc-unknown-trap": ("exit-unknown-to-kvm", "KVM did not know the trap with which the guest was left"),
    "ppc-trap-in-host": ("exit-unhandled", "The guest was left in hypervisor mode, for which KVM has no handler"),
    "ppc-memory-fault": ("run-errno", "KVM has no support for a fault of the guest's memory, and KVM_RUN fails"),
    # arch/s390/kvm/intercept.c: handle_validity; kvm-s390.c: kvm_arch_vcpu_ioctl_run
    "s390-validity": ("run-errno", "The SIE block is not valid, and KVM_RUN fails with EINVAL"),
    "s390-vcpu-stopped": ("run-errno", "The vCPU is stopped, and KVM_RUN fails with EINVAL"),
    # arch/mips/kvm/mips.c: kvm_mips_handle_exit, its default
    "mips-exception-unknown": ("exit-unhandled", "KVM has no handler for the guest's exception"),
    # arch/x86/kvm/emulate.c: emulator_cmpxchg_emulated; the guest goes on
    "exchange-as-write": ("guest-loops", "KVM keeps emulating a locked instruction as a plain write"),
    # arch/x86/kvm/svm/sev.c: sev_handle_vmgexit_msr_protocol, KVM_EXIT_SYSTEM_EVENT since 5.19 (before: -EINVAL)
    "sev-termination": ("exit-unknown-to-vmm", "The guest asked to be ended, and KVM left the matter to the VMM"),
    # arch/x86/kernel/cpu/bus_lock.c: split_lock_warn for a vCPU's thread; with split_lock_detect=fatal the exit is
    # KVM_EXIT_EXCEPTION
    "split-lock": (
        "exception-exit",
        (
            "A locked access of the guest crossed a cache line: the host took #AC for it, and slowed the vCPU down or"
            " passed #AC on to the VMM"
        ),
    ),
    "ept-misconfig": ("exit-unknown-to-kvm", "KVM found an EPT entry misconfigured and passed the exit on"),
    "unexpected-exit": ("exit-unhandled", "The CPU left the guest for a reason that KVM has no handler for"),
}
# What the guest was refused, by the kinds of lines that say so.
_REFUSALS: Final = {
    "sysreg-refused": "a system register",
    "msr-unhandled": "MSR",
    "msr-ignored": "MSR",
    "control-register-unhandled": "a control register",
    "exception-class-unknown": "an instruction of a class that KVM does not know",
    "ppc-register-refused": "special-purpose register",
    "loongarch-csr-refused": "control register",
    "loongarch-access-refused": "an access to memory",
    "loongarch-exception-unknown": "an instruction",
    "mips-access-refused": "an access to memory",
    "mips-instruction-refused": "an instruction",
    "vmgexit-refused": "a request through its GHCB",
}
_BREAKDOWNS: Final = frozenset(
    {
        "oops",
        "kernel-bug",
        "warning",
        "cut-report",
        "sanitizer",
        "locking",
        "kernel-panic",
        "hyp-panic",
        "pkvm-exception",
    }
)
_ENDS: Final = frozenset({"oom-kill"})  # of a task, by name
_MEANT: Final = frozenset({"ud0", "ud1", "ud2"})  # undefined on purpose: every WARN of a Linux guest has one


# What was refused before anyone asked the kernel.
_ASKED_OF_QEMU: Final = {
    "domain-requires-kvm": "a domain that needs KVM",
    "accelerator-not-built": "KVM as accelerator",
}


def not_kvm(facts: Facts) -> Mechanism | None:
    """Another hypervisor's words, or an emulator's."""
    failure = facts.failure
    if failure.kind != "not-kvm":
        return None
    name = failure.speaker.name if failure.speaker else ""
    if failure.faults:  # the guest's own end, whoever ran it
        from kvmwhy.diagnosis.triple_fault import first_words

        where, first = _SPEAKERS.get(name, name), first_words(failure)
        text = f"The guest shut down under {where}; the first exception that it could not take: {first} (triple fault)."
        return Mechanism("triple-fault", text, "certain", (Proof("the log says so", facts.at("speaker")),))
    if name == "own":
        return _own_entry(facts)
    who = _SPEAKERS.get(name, name or "another hypervisor")
    text = f"This is a failure of {who}, not of KVM."
    if logs_the_guest(failure):
        text = f"{who} logged this, and not KVM: it tells what the guest did."
    return Mechanism("not-this", text, "certain", (Proof(f"the text is that of {who}", facts.at("speaker")),))


def _own_entry(facts: Facts) -> Mechanism:
    """VMLAUNCH or VMRESUME failed in words that no program's source is known for.

    KVM prints none: arch/x86/kvm/vmx/vmx.c, vmx_handle_exit, has the number in kvm_run. But people write it so, too.
    """
    number = facts.failure.speaker.fields.get("instruction_error") if facts.failure.speaker else None
    from kvmwhy.abi.x86.vmx import VM_INSTRUCTION_ERRORS

    meaning = VM_INSTRUCTION_ERRORS.get(number) if isinstance(number, int) else None
    error = f" with VM-instruction error {number}" + (f" ({meaning})" if meaning else "") if number is not None else ""
    text = f"VMLAUNCH or VMRESUME failed{error} in a hypervisor that prints so itself; KVM does not."
    return Mechanism("not-this", text, "likely", (Proof("KVM has no such line in its log", facts.at("speaker")),))


def setup_refused(facts: Facts) -> Mechanism | None:
    """An ioctl other than KVM_RUN."""
    failure = facts.failure
    # Records of schema 1 have no kind for it: an errno without an exit, of a call that is not KVM_RUN.
    stored = failure.kind == "other" and failure.errno is not None and failure.exit_reason is None
    if failure.kind != "setup-refused" and not stored:
        return None
    call = failure.setup.call if failure.setup else "a call that is not shown"
    meaning = (_firmwares_answer(failure.setup) or meaning_of(failure.setup, failure.errno)) if failure.setup else None
    shown = call_in_words(call)
    if failure.setup is not None and not failure.errno:
        shown = _ASKED_OF_QEMU.get(failure.setup.detail or "", shown)
    detail = ""
    if failure.setup is not None and failure.setup.msr is not None:
        from kvmwhy.abi.x86.msr import describe_msr  # asked of few failures

        known = describe_msr(failure.setup.msr)
        detail = f" of MSR {failure.setup.msr:#x}" + (f" ({known.name})" if known else "")
    if failure.setup is not None and "one_reg" in failure.setup.fields:
        detail = _one_reg(failure.setup)
    elif failure.setup is not None and failure.setup.call.endswith("ONE_REG"):
        detail = _by_id(failure.setup.register)
    errno = f" with {failure.errno}" if failure.errno else ""
    text = f"{shown[0].upper()}{shown[1:]}{detail} was refused{errno}: {meaning or 'the VM was not set up as asked'}."
    if stored:
        return Mechanism("setup-refused", text, "likely", (Proof("an errno is shown, and no exit", facts.at("errno")),))
    return Mechanism("setup-refused", text, "certain", (Proof("the message names the call", facts.at("setup")),))


def _firmwares_answer(setup: Setup) -> str | None:
    """What the security processor said of a launch; a message about one part of it says more."""
    if not setup.firmware_error or "snp-cpuid" in slugs_of(setup):
        return None
    from kvmwhy.abi.x86.sev import describe_code  # asked of few failures

    return f"the SEV firmware's answer is {describe_code(setup.firmware_error)}"


def _one_reg(setup: Setup) -> str:
    """The register of a KVM_SET_ONE_REG, by name where it has one, and the value."""
    number, value = setup.fields["one_reg"], setup.fields.get("value")
    name = setup.register or (f"register {number:#x}" if isinstance(number, int) else str(number))
    return f" of {name}" + (f" to {value:#x}" if isinstance(value, int) else "")


def _by_id(register: str | None) -> str:
    """The register of an id, or of a name, that a VMM printed."""
    if register is None:
        return ""
    if not register.startswith("0x"):
        return f" of {register}"
    from kvmwhy.abi.one_reg import register_of

    name = register_of(int(register, 16))
    return f" of {name}" if name else ""


def injected(facts: Facts) -> Mechanism | None:
    """KVM refused something and put an exception into the guest: nobody outside is told."""
    failure = facts.failure
    insn = facts.instruction
    if failure.silent and insn is not None and insn.mnemonic in _MEANT:
        text = f"Nothing failed: `{insn.text}` is there to raise #UD, and KVM gave the guest what it asked for."
        return Mechanism("not-shown", text, "likely", (Proof("no VMM was told of anything", facts.at("rip")),))
    if failure.silent and failure.emulation is not None:
        text = "KVM could not emulate an instruction and gave the guest #UD for it; no VMM was told."
        where = [n for n, event in enumerate(failure.trace) if event.name == "kvm_inj_exception"]
        proof = Proof("the trace shows the injected #UD", At(event=where[-1]) if where else facts.at("event"))
        # Without the exit's words it is not known whether an event was being delivered.
        return Mechanism("undef-injected", text, "likely" if facts.words is None else "certain", (proof,))
    if failure.kind != "undef-injected":
        return None
    if (other := _named_by_event(facts)) is not None:
        return other
    event = next((event for event in failure.host.events if event.kind in _REFUSALS), None)
    if event is None:
        text = "KVM refused the guest a register or an instruction and gave it an exception; the VM goes on."
        source = failure.source.vmm
        seen = "the guest met an exception that it has no handler for" if source else "the text says so"
        if source:  # kvm-unit-tests, lib/x86/desc.c: unhandled_exception calls abort
            vector = "" if failure.exception is None else f" {failure.exception}"
            text = (
                f"The guest took exception{vector} without a handler for it, and ended: KVM refused it something, or"
                " the CPU did."
            )
        return Mechanism("undef-injected", text, "likely", (Proof(seen, facts.at("kind")),))
    what = _REFUSALS[event.kind]
    number = event.fields.get("msr", event.fields.get("register"))
    if words := _detail(facts, event):
        what += f" ({words})"
    elif isinstance(number, int):
        what += f" {number:#x}"
    if event.kind == "msr-ignored":  # the guest got zero, or nothing was written: no exception
        text = f"KVM ignored the guest's access to {what}, and gave it no exception; the VM goes on."
        return Mechanism("undef-injected", text, "likely", (Proof("the host's kernel says so", event.at),))
    text = f"KVM refused the guest {what} and gave it an exception, or ignored it; the VM goes on."
    return Mechanism("undef-injected", text, "certain", (Proof("the host's kernel says so", event.at),))


def host_trouble(facts: Facts) -> Mechanism | None:
    """Only the host's own lines are here."""
    if facts.failure.kind != "host-trouble":
        return None
    if (other := _named_by_event(facts)) is not None:
        return other
    if (reported := next(filter(_is_vmms, facts.failure.host.events), None)) is not None:
        return Mechanism("host-trouble", _poisoned(reported), "certain", (Proof(said(reported), reported.at),))
    order = (_BREAKDOWNS, TROUBLE, _ENDS, REFUSED_AT_START)
    events = sorted(facts.failure.host.events, key=lambda event: [event.kind not in kinds for kinds in order])
    what = _most_telling(facts, [event for event in events if event.kind == events[0].kind])
    text = f"Only trouble of the host's own is shown{what}. What became of a guest is not shown."
    killed = next((event for event in events if event.kind == "oom-kill" and is_vmm(event)), None)
    if killed is not None and events[0].kind in _ENDS:
        why = said(killed)
        text = f"The guest ended with its VMM: {why}."
        events = [killed, *(event for event in events if event is not killed)]
    once = {said(event): event for event in reversed(events)}  # the first of equal ones
    proofs = tuple(Proof(said(event), event.at) for event in events if once[said(event)] is event)[:3]
    return Mechanism("host-trouble", text, "likely", proofs)


def _is_vmms(event: HostEvent) -> bool:
    """The VMM told of it, and not the kernel's log."""
    return event.kind == "memory-poisoned" and "vmm" in event.fields


def _poisoned(event: HostEvent) -> str:
    """What a memory error of the host meant to the VM."""
    address = event.fields.get("address")
    if event.fields.get("owner"):
        return "A memory error of the host met the VMM's own memory, which ends the VM or leaves it damaged."
    if isinstance(address, int) and "type" in event.fields:
        return (
            f"A memory error of the host met the guest's memory at {address:#x}; the guest got a machine check for it."
        )
    return "A memory error of the host met the VM."


def _most_telling(facts: Facts, events: Sequence[HostEvent]) -> str:
    """One of several events of a kind in words: the first of which more than its kind is known."""
    for event in events:
        if detail := _detail(facts, event):
            return f": {said(event)} ({detail})"
    return f": {said(events[0])}" if events else ""


def _detail(facts: Facts, event: HostEvent) -> str:
    """What the line says beyond its kind; x86's lines are put into words elsewhere."""
    if facts.is_x86:
        return ""
    from kvmwhy.diagnosis.event_words import detail

    return detail(event)


def _named_by_event(facts: Facts) -> Mechanism | None:
    """A line of the kernel that tells how KVM_RUN ended, though no VMM's line is here."""
    if (answer := no_syndrome_logged(facts)) is not None:
        return answer
    if facts.failure.arch == "riscv64":
        from kvmwhy.diagnosis.mechanism.riscv64 import by_cause

        if (answer := by_cause(facts)) is not None:
            return answer
    event = _first(facts.failure.host.events)
    if event is None:
        return None
    mechanism, text = _BY_EVENT[event.kind]
    if words := _detail(facts, event):
        text += f" ({words})"
    return Mechanism(mechanism, f"{text}.", "likely", (Proof("the host's kernel says so", event.at),))


def _first(events: tuple[HostEvent, ...]) -> HostEvent | None:
    """What repeats without harm names nothing where the host's kernel broke down beside it."""
    broken = any(event.kind in _BREAKDOWNS for event in events)
    for event in events:
        if event.kind in _BY_EVENT and not (broken and _BY_EVENT[event.kind][0] == "guest-loops"):
            return event
    return None


def loops(facts: Facts) -> Mechanism | None:
    """A trace without a failure in which one exit repeats."""
    loop = facts.loop
    if (
        loop is None
        or facts.failure.kind not in {"healthy", "other", "symptom"}
        or facts.failure.exit_reason is not None
    ):
        return None
    where = f" at {loop.rip:#x}" if loop.rip is not None else ""
    reason = loop.reason if isinstance(loop.reason, str) else f"{loop.reason:#x}"
    return Mechanism(
        "guest-loops",
        f"No failure is reported: the guest leaves for the same reason ({reason}){where} again and again.",
        "possible",
        (Proof(f"{loop.times} exits of the trace are the same", At(event=loop.event)),),
    )


def _untold(failure: Failure, field: str) -> str:
    """Of a number that the line has not: whether it is worth looking for elsewhere in the log."""
    return "this VMM does not print" if never_printed(failure.source.vmm, field) else "is not shown"


def not_shown(facts: Facts) -> Mechanism:
    """A symptom, a dump that names nothing, a trace in which nothing fails."""
    failure = facts.failure
    if dumps := facts.events("vmcs-dump-off", "vmcb-dump-off"):
        text = "A VM entry failed, or an exit had no handler; which is not shown, as the dump of it is switched off."
        return Mechanism("not-shown", text, "likely", (Proof(said(dumps[0]), dumps[0].at),))
    if failure.kind == "healthy":
        text = "Nothing fails in this evidence."
    elif failure.kind == "internal-error":
        text = f"KVM reported an internal error; which one {_untold(failure, 'suberror')}."
        if failure.suberror is not None:
            text = f"KVM reported an internal error with suberror {failure.suberror}, which no kernel up to 7.3 has."
    elif failure.kind == "entry-failure":
        text = f"KVM could not enter the guest; with which error {_untold(failure, 'hardware_error')}."
    elif failure.kind == "other" and failure.exit_reason in kvm_run.ROUTINE:
        name = f"{kvm_run.exit_name(failure.exit_reason)} ({failure.exit_reason})"
        text = f"Nothing failed: the vCPU's last exit was {name}, which every VMM is asked for."
    elif failure.kind == "symptom":
        seen = failure.symptom.kind.replace("-", " ") if failure.symptom else "not named"
        text = f"Only a symptom is shown ({seen}), without the record that would say what happened."
    elif failure.cpu is not None or failure.control is not None:
        text = "The vCPU's state is shown, without a line that says what failed."
    else:
        text = "What happened is not shown here."
    return Mechanism("not-shown", text, "likely")
