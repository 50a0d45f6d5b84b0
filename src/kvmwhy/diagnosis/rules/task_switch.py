"""A hardware task switch that KVM could not carry out."""

from __future__ import annotations

from kvmwhy.abi.x86 import vmx
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at, instruction

CAUSE = Cause(
    id="task-switch",
    family="emulator-gap",
    title="KVM could not finish a hardware task switch",
    what=(
        "The CPU does no task switch inside a VM: it leaves to KVM, which reads both task-state segments, checks them and"
        " loads the new state in software. When one of them cannot be read, or the new state is refused, KVM reports an"
        " emulation failure without any words."
    ),
    recognise=(
        "Suberror 1 with ndata 0 on a kernel since 5.14; a far jump, call, IRET, INT or an exception through a task gate;"
        " guests that use TSSes for tasks: old DOS extenders, hobby kernels, a double-fault task of 32-bit Linux."
    ),
    confused_with="Kernels before 5.14, which gave no words for any emulation failure.",
    fix=Fix(
        guest="Check the TSS descriptors: present, not busy, limit at least 103, both segments in RAM and mapped; CR3 in the TSS.",
        vmm="Make sure that the guest's tables lie in a memory slot that KVM can write.",
    ),
    references=(
        "arch/x86/kvm/x86.c: kvm_task_switch",
        "arch/x86/kvm/emulate.c: emulator_do_task_switch",
        "SDM vol. 3A, 8.3",
    ),
    example="jmp 0x28:0 to a TSS whose page is not mapped",
)

_FAR = ("int", "int3", "into", "iret", "iretd", "jmp", "call")


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.suberror != 1 or failure.ndata != 0 or facts.mode is None or facts.mode.bitness == 64:
        return None
    if facts.mode.name in {"real16", "vm86"} or facts.instruction is None:
        return None
    if facts.words is not None and facts.words.reason != vmx.TASK_SWITCH:
        return None
    text = facts.instruction.text or ""
    far = facts.instruction.mnemonic in {"int", "int3", "into", "iret", "iretd"} or (
        facts.instruction.mnemonic in _FAR and (":" in text or "far" in text or "fword" in text)
    )
    if not far:
        return None
    return Finding(
        CAUSE,
        "possible",
        f"`{instruction(facts)}` at {at(facts)} may have asked for a task switch, which KVM could not finish.",
        (
            "the record has no words, as for a failed task switch",
            f"`{instruction(facts)}` can go through a task gate",
        ),
        ("kernels before 5.14 gave no words for other failures either",),
    )
