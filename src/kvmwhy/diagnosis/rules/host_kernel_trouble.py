"""The host's own kernel is in trouble beside the failure, or refused what it had set up itself."""

from __future__ import annotations

from kvmwhy.diagnosis import host_events
from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="host-kernel-trouble",
    family="host-kernel-bug",
    title="The host's kernel itself is at fault; the guest is innocent",
    what=(
        "KVM prepares the CPU's control structures and page tables itself. When the entry is refused, or KVM_RUN fails,"
        " before the guest has executed anything, or when the host's kernel oopses or warns in the same moment, what was"
        " wrong is the host's own work: a regression, a module that does not fit its kernel, or damaged memory."
    ),
    recognise=(
        "A guest at its reset state whose first entry fails; `kvm run failed Invalid argument` there; `kvm run failed"
        " Input/output error`, for a VM that KVM declared dead; an oops, a"
        " WARNING in arch/x86/kvm, or `reserved bits` messages in the host's log of the same second; it began with an"
        " update of the host."
    ),
    confused_with=(
        "outer-hypervisor-entry: the same numbers, on a host that is itself a VM. invalid-guest-state: there the guest had"
        " been running."
    ),
    fix=Fix(
        host=(
            "Boot the previous kernel: if the failure goes, bisect or report it with the host's dmesg. Note uname -r and"
            " whether KVM's module is the kernel's own."
        ),
    ),
    references=(
        "include/linux/kvm_host.h: KVM_BUG_ON, kvm_vm_dead",
        "virt/kvm/kvm_main.c: kvm_vcpu_ioctl",
    ),
    example="hardware error 0x80000021 at the first far jump, and an oops in mmu_free_root_page beside it",
)

_INVALID_STATE = 0x8000_0021


def host_trouble(facts: Facts) -> tuple[str, ...]:
    """What the host's kernel log says of its own troubles."""
    return tuple(host_events.trouble(facts.failure))


def never_ran(facts: Facts) -> bool:
    return bool(facts.reset and facts.reset.never_ran)


_BREAKS = {
    "oops",
    "kernel-bug",
    "hyp-panic",
    "pkvm-exception",
    "kernel-panic",
    "page-state-bad",
    "vmwrite-failed",
    "vmptrld-failed",
}


def _quiet(facts: Facts) -> str:
    if facts.failure.host.events:
        return "no trouble of the host's own is recognised in the lines of its kernel log"
    return "nothing of the host's kernel log is shown"


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind in {"other", "host-trouble"}:
        return _alone(facts)
    if failure.kind not in {"entry-failure", "run-error", "unknown-exit"}:
        return None
    for_: list[str] = []
    confidence: Confidence = "possible"
    refused = failure.kind == "run-error" and failure.errno == "EINVAL"
    # arch/riscv/kvm/vcpu_insn.c: a misaligned access without RAM is -EIO as well
    dead = failure.kind == "run-error" and failure.errno == "EIO" and failure.arch != "riscv64"
    trouble = host_trouble(facts)
    if facts.reset and facts.reset.pristine:
        for_.append(f"the guest had not run yet: {facts.reset.why}")
    elif failure.hardware_error == _INVALID_STATE and failure.cpu is None and failure.control is None:
        for_.append("with nothing but the number, a bug of the host's KVM is as possible as a bad state")
    for_ += trouble
    if trouble and not (facts.reset and facts.reset.state == "mixture"):
        confidence = "likely"
    if refused:
        for_.insert(0, "KVM_RUN refused with EINVAL: what it was given does not fit, and the VMM or the kernel gave it")
        confidence = "likely" if never_ran(facts) else confidence
    if dead:
        for_.insert(
            0, "KVM_RUN failed with EIO: KVM may have found a bug of its own and declared this VM dead (KVM_BUG_ON)"
        )
    if not for_ or (facts.failure.kind == "run-error" and not (refused or dead or trouble)):
        return None
    against = [] if trouble else [_quiet(facts)]
    if dead and not trouble:
        against.append("EIO also comes from a TDX or SEV guest that has ended, and from a call by another process")
    how = "KVM_RUN failed" if failure.kind == "run-error" else "The entry was refused"
    before = " before the guest had executed anything" if never_ran(facts) else ""
    beside = ", and the host's kernel was in trouble of its own" if trouble else ""
    return Finding(
        CAUSE,
        confidence,
        f"{how}{before}{beside}: the host's kernel is at fault, not the guest.",
        tuple(for_),
        tuple(against),
    )


def _alone(facts: Facts) -> Finding | None:
    """A kernel log that tells of no guest's failure, but of KVM's own."""
    failure = facts.failure
    trouble = host_trouble(facts)
    if failure.cpu or failure.exit_reason is not None or failure.errno or not trouble:
        return None
    return Finding(
        CAUSE,
        "possible",
        "The host's KVM complained of itself; no failure of a guest is shown beside it.",
        trouble,
        ()
        if any(event.kind in _BREAKS for event in failure.host.events)
        else ("a warning alone need not have hurt any guest",),
    )
