"""No rule is sure: say what is known, and what to collect."""

from __future__ import annotations

from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at, hexadecimal

CAUSE = Cause(
    id="undecided",
    family="undecided",
    title="This evidence cannot decide what went wrong",
    what="What is here fits several causes, or none that kvmwhy knows. A guess would be worse than none.",
    recognise="No other finding is at least likely.",
    confused_with="Nothing: this is the honest answer when the others do not fit.",
    fix=Fix(),
    references=("https://docs.kernel.org/virt/kvm/api.html (KVM_RUN, struct kvm_run)",),
    example="KVM: entry failed, hardware error 0x0, and nothing else",
)

_TRACE = (
    "a trace of the moment: trace-cmd record -e kvm:kvm_exit -e kvm:kvm_emulate_insn -e kvm:kvm_page_fault"
    " -e kvm:kvm_mmio -e kvm:kvm_inj_exception"
)
_VMCS = "the host's dmesg with kvm_intel dump_invalid_vmcs=1 (kvm_amd: dump_invalid_vmcb=1): only it names the field"
_HOST = (
    "the host: uname -r, CPU model and microcode, whether it is itself a virtual machine (hypervisor in /proc/cpuinfo)"
)


def finding(facts: Facts, others: tuple[Finding, ...]) -> Finding:
    """The finding of last resort; with others beside it, it only says what would settle the matter."""
    for_ = [f"{others[0].cause.id} is only possible"] if others else []
    if facts.entry:
        for_.append(facts.entry.sentence)
    if facts.reset and facts.reset.pristine:
        for_.append(f"the guest never ran: {facts.reset.why}")
    elif facts.reset and facts.reset.state in {"mixture", "zero"}:
        for_.append(facts.reset.why)
    for_.extend(facts.failure.host.facts)
    collect = _collect(facts)
    return Finding(
        CAUSE,
        "possible",
        _answer(facts),
        tuple(for_),
        (),
        Fix(host="Collect: " + "; ".join(collect) + ".") if collect else Fix(),
    )


def _answer(facts: Facts) -> str:
    failure = facts.failure
    match failure.kind:
        case "internal-error" if failure.suberror == 1:
            known = "KVM could not emulate an instruction"
            if facts.rip is not None:
                known += f" at {at(facts)}"
        case "internal-error" if failure.suberror == 2:
            known = "a second event came while one was being delivered"
        case "internal-error" if failure.suberror == 3:
            known = "KVM could not finish delivering an event"
        case "internal-error" if failure.suberror == 4:
            known = "the CPU left the guest for a reason that KVM has no handler for"
            if facts.explained and facts.explained.name:
                known += f" ({facts.explained.name})"
        case "internal-error" if failure.suberror is None:
            known = "KVM reported an internal error, but which one is cut off"
        case "internal-error":
            known = f"KVM reported an internal error with suberror {failure.suberror}, which no kernel up to 7.3 has"
        case "entry-failure":
            name = facts.entry.name if facts.entry else None
            number = hexadecimal(failure.hardware_error) if failure.hardware_error is not None else "not shown"
            named = f", {name}" if name and name not in {"none", number} else ""
            known = f"the CPU refused to enter the guest (hardware error {number}{named})"
            if facts.reset and facts.reset.pristine:
                known += " before it had executed a single instruction"
        case "unknown-exit":
            known = f"KVM did not know the hardware's exit reason {hexadecimal(failure.hardware_reason or 0)}"
        case "run-error":
            known = f"KVM_RUN itself failed with {failure.errno or 'an error'}, without any exit of the guest"
        case "exception-exit":
            known = f"KVM handed exception {failure.exception} to the VMM, which has no use for it"
        case "shutdown":
            known = "the guest shut down by a triple fault, as the hardware does; KVM did not give up"
        case _:
            if failure.exit_reason == 0 and failure.cpu is None:
                return "No failure here: the page says 0, as it does before a vCPU runs and while it is inside KVM_RUN."
            if failure.exit_reason is not None and failure.cpu is None:
                return f"No failure here: the vCPU's last exit was {exit_name(failure.exit_reason)}."
            known = "there are registers here, but no line that says what failed"
    return f"Undecided: {known}."


def _collect(facts: Facts) -> list[str]:
    failure = facts.failure
    wanted = []
    if failure.kind == "other":
        wanted.append("the lines before the register dump, which name the failure")
    if failure.kind == "internal-error" and not failure.data and failure.suberror in {1, 2, 3, 4}:
        wanted.append("the extra data lines (a kernel since 5.16 gives them for suberror 1)")
    if failure.cpu is None and failure.kind != "shutdown":
        wanted.append("the register dump that the VMM printed with the failure")
    if failure.kind == "entry-failure":
        wanted.append(_VMCS)
    elif failure.kind != "run-error":
        wanted.append(_TRACE)
    if failure.kind == "run-error":
        wanted.append("the host's dmesg of that second, and what backs the guest's RAM (hugetlb, /dev/shm, VFIO)")
    wanted.append(_HOST)
    return wanted
