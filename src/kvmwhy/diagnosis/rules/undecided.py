"""No rule is sure: say what is known, and what to collect."""

from __future__ import annotations

from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.arch.x86.reset_state import State
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.host_events import all_said
from kvmwhy.diagnosis.mechanism import mechanism

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
_DUMPS = {
    "vmx": "the host's dmesg with kvm_intel dump_invalid_vmcs=1: only it names the field",
    "svm": "the host's dmesg with kvm_amd dump_invalid_vmcb=1: only it names the field",
    "": "the host's dmesg with kvm_intel dump_invalid_vmcs=1 or kvm_amd dump_invalid_vmcb=1: only it names the field",
}
_EXTRA = {
    1: "a kernel since 5.14 gives for suberror 1",
    2: "name both events",
    3: "name the event, the exit and the address",
    4: "name the exit",
}


def finding(facts: Facts, others: tuple[Finding, ...]) -> Finding:
    """The finding of last resort; with others beside it, it only says what would settle the matter."""
    for_ = [f"{others[0].cause.id} is only possible"] if others else []
    if facts.entry:
        for_.append(facts.entry.sentence)
    if facts.reset and facts.reset.pristine:
        for_.append(f"the guest never ran: {facts.reset.why}")
    elif facts.reset and facts.reset.state not in {State.RAN, State.UNKNOWN}:
        for_.append(facts.reset.why)
    for_.extend(all_said(facts.failure))
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
    if failure.kind == "other" and failure.cpu is None and failure.exit_reason is not None:
        if failure.exit_reason == 0:
            return "No failure here: the page says 0, as it does before a vCPU runs and while it is inside KVM_RUN."
        return f"No failure here: the vCPU's last exit was {exit_name(failure.exit_reason)}."
    return f"Undecided: {mechanism(facts).text}"


def _collect(facts: Facts) -> list[str]:
    """What is missing here, never what is on the page."""
    failure, host = facts.failure, facts.failure.host
    wanted = []
    if failure.kind == "other" and failure.exit_reason is None:
        wanted.append("the lines that name the failure")
    if failure.kind == "internal-error" and not failure.data and failure.suberror in _EXTRA:
        lines = (
            "the extra data lines" if (failure.source.vmm or "").startswith("qemu") else "internal.data[] of kvm_run"
        )
        wanted.append(f"{lines}, which {_EXTRA[failure.suberror]}")
    stopped = failure.kind in {"internal-error", "entry-failure", "unknown-exit", "exception-exit"}
    if stopped and not (failure.cpu and failure.cpu.is_dump):
        wanted.append("the vCPU's registers at that moment")
    if failure.kind == "entry-failure" and failure.control is None and facts.is_x86:
        wanted.append(_DUMPS.get(facts.vendor.vendor or "", _DUMPS[""]))
    elif stopped and not failure.trace and facts.is_x86:
        wanted.append(_TRACE)
    if failure.kind == "run-error":
        wanted.append("what backs the guest's RAM (hugetlb, /dev/shm, VFIO)")
        if not host.events:
            wanted.append("the host's dmesg of that second")
    if host.kernel is None:
        wanted.append("the host's kernel (uname -r)")
    if host.hypervisor is None and not host.is_physical:
        wanted.append("whether the host is itself a virtual machine (hypervisor in /proc/cpuinfo)")
    return wanted
