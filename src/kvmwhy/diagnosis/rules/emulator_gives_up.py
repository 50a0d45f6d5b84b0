"""The emulator knows the instruction, but not in this mode or this form."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at, emulated_because, instruction, silently

CAUSE = Cause(
    id="emulator-gives-up",
    family="emulator-gap",
    title="KVM's emulator decodes this instruction but cannot finish it in this mode",
    what=(
        "Some instructions have an entry in KVM's opcode tables whose handler refuses part of the work: IRET and"
        " INT outside real mode, FXSAVE in 64-bit mode, CMPXCHG16B, a far return to an outer ring; others"
        " (ENDBR32, MONITOR) decode but have nothing behind them. KVM then reports an emulation failure."
    ),
    recognise=(
        "Suberror 1 with a readable instruction from that list. Frequent on hosts without unrestricted guest,"
        " where KVM emulates real mode and every switch of mode, and for software interrupts whose IDT is not in RAM."
    ),
    confused_with="emulator-no-handler: there no kernel knows the instruction at all.",
    fix=Fix(
        guest=(
            "Avoid the instruction there: no -fcf-protection in early boot code, valid segments and a stack in RAM"
            " before far transfers."
        ),
        vmm=(
            "Load segment state that VT-x accepts, so that KVM need not emulate; put descriptor tables and the stack"
            " in RAM."
        ),
        host="Use a CPU and module set-up with EPT and unrestricted guest (kvm_intel unrestricted_guest=1).",
    ),
    references=("arch/x86/kvm/emulate.c: em_iret, emulate_int, em_fxsave, em_cmpxchg8b",),
    example="endbr32 in a BIOS built with -fcf-protection, on a CPU without unrestricted guest",
)


def rule(facts: Facts) -> Finding | None:
    verdict = facts.verdict
    if verdict is None or facts.instruction is None or verdict.outcome != "gives-up" or facts.fetch_failed:
        return None
    if facts.vectoring is not None:
        return None  # an event was being delivered: the instruction at RIP is innocent
    confidence: Confidence = "likely"
    for_ = [verdict.sentence]
    if verdict.limit:
        for_.append(verdict.limit)
    against = []
    if not facts.instruction.memory:
        for_.append(emulated_because(facts))
    if facts.foreign_bytes:
        against.append(
            "the bytes that KVM was handed are not those that the VMM reads at RIP: another memory was fetched"
        )
        confidence = "possible"
    if facts.access and facts.access.kind == "fetch":
        against.append("RIP itself lies where there is no RAM: the bytes shown may not be what the guest ran")
        confidence = "possible"
    whose = "KVM was handed its bytes" if facts.foreign_bytes else f"the guest ran it at {at(facts)}"
    fix = CAUSE.fix._replace(host=None) if facts.vendor.vendor == "svm" else None  # unrestricted guest is Intel's
    return Finding(
        CAUSE,
        confidence,
        f"KVM's emulator cannot finish `{instruction(facts)}` in this mode; {whose}.{silently(facts)}",
        tuple(dict.fromkeys(for_)),
        tuple(against),
        fix,
    )
