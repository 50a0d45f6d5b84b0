"""KVM_RUN itself failed: the host could not supply a page of the guest's memory."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.host_events import said
from kvmwhy.diagnosis.phrasing import at

CAUSE = Cause(
    id="host-memory-fault",
    family="host-memory",
    title="The host could not supply a page of the guest's memory",
    what=(
        "The guest touched memory that it does have, but the host could not map the page behind it: what backs it is full,"
        " gone, poisoned or of a kind that KVM cannot map. KVM_RUN then fails with an errno; there is no exit of the guest."
    ),
    recognise="`error: kvm run failed Bad address` (or a hardware-error or out-of-memory text), with ordinary code at RIP.",
    confused_with="emulator-no-handler: the instruction at RIP looks suspicious, but it only happened to touch that page.",
    fix=Fix(
        vmm="Check what backs the guest's RAM and BARs: size of /dev/shm or hugetlbfs, files truncated behind its back, VFIO maps.",
        host=(
            "Read the host's kernel log of that second; look for memory errors, OOM kills and a full /dev/shm or hugepage"
            " pool. GPU pages behind virtio-gpu blobs need a host kernel from 6.13 on."
        ),
    ),
    references=(
        "Documentation/virt/kvm/api.rst: KVM_RUN, KVM_EXIT_MEMORY_FAULT",
        "KVM page-refcount rework (in v6.13): pages without a reference count can be mapped",
    ),
    example="error: kvm run failed Bad address, while storing into a virtio-gpu blob",
)

_ERRNOS = {
    "EFAULT": "the page behind an address of the guest cannot be had",
    "EHWPOISON": "the page is poisoned: a memory error of the host",
    "ENOMEM": "the host had no memory left for it",
}

_OF_MEMORY = {"page-state-bad", "memory-poisoned", "memory-error", "page-allocation-failed", "host-memory-missing"}

# Lines of KVM's that give the same errno another reason.
_NOT_MEMORY = ("ppc-memory-fault", "abort-not-handled", "access-without-syndrome")


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    meaning = _ERRNOS.get(failure.errno or "")
    if failure.kind != "run-error" or meaning is None or facts.events(*_NOT_MEMORY):
        return None
    confidence: Confidence = "likely"
    for_ = [f"KVM_RUN failed with {failure.errno}: {meaning}"]
    if facts.instruction and facts.instruction.text:
        for_.append(f"the instruction at {at(facts)}, `{facts.instruction.text}`, is an ordinary one")
    for_ += [said(event) for event in failure.host.events if event.kind in _OF_MEMORY]
    return Finding(
        CAUSE,
        confidence,
        f"The host could not supply a page of the guest's memory ({failure.errno}); the guest is innocent.",
        tuple(for_),
    )
