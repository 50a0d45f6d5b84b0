"""An access across a cache line under split-lock detection."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at, hexadecimal

CAUSE = Cause(
    id="split-lock",
    family="split-lock",
    title="#AC from a locked access that crosses a cache line",
    what=(
        "The host has split-lock detection on. The guest made a locked access across two cache lines (an atomic, or the"
        " CPU's own locked access to a descriptor), which raised #AC, and KVM passed it on to the VMM."
    ),
    recognise="`exception 17 exit`; the host's log has a split lock detection line with the same address.",
    confused_with="An alignment check of the guest's own (CR0.AM and RFLAGS.AC set at CPL 3), which KVM hands to the guest.",
    fix=Fix(
        guest="Align the data, or the GDT, to its size: descriptors to 8 bytes within a 64-byte line.",
        host="Boot with split_lock_detect=warn or off until the guest is mended.",
    ),
    references=("arch/x86/kvm/vmx/vmx.c: vmx_guest_inject_ac", "SDM vol. 3A, 9.1.2.3: bus locks and split locks"),
    example="the first far jump of an option ROM whose GDT straddles a cache line",
)

_AC = 17


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "exception-exit" or failure.exception != _AC:
        return None
    for_ = ["exception 17 is #AC, which KVM passes on when the host detects split locks"]
    gdt = failure.cpu.segments.get("gdt") if failure.cpu else None
    insn = facts.instruction
    if (
        gdt
        and gdt.base & 7
        and insn
        and insn.mnemonic in {"jmp", "call", "mov", "pop", "lds", "les", "lss", "retf", "iret"}
    ):
        for_.append(
            f"the GDT at {hexadecimal(gdt.base)} is not aligned to 8 bytes: `{insn.text or insn.mnemonic}` reads a descriptor of it"
        )
    return Finding(
        CAUSE,
        "likely",
        f"A locked access at {at(facts)} crossed a cache line, and the host forbids that (#AC).",
        tuple(for_),
    )
