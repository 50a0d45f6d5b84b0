"""Signs from how a guest came to its triple fault."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.sign import Answer, Sign, weights
from kvmwhy.diagnosis.scene import Scene

_SHUTDOWN: Final = ("triple-fault",)
_IN_WORDS: Final = {
    "idt-limit": "the guest's IDT has no gate for the exception",
    "idt-unmapped": "the guest's IDT is not mapped",
    "gate-type": "the guest's gate for the exception is none",
    "gate-not-present": "the guest's gate for the exception is not present",
    "gdt-unmapped": "the guest's GDT is not mapped",
    "tss-unmapped": "the guest's TSS is not mapped",
    "stack-unmapped": "the guest's stack is not mapped",
    "stack-read-only": "the guest's stack may not be written",
}


def _structure(scene: Scene) -> Answer:
    from kvmwhy.diagnosis.triple_fault import chain_of, no_gate_at_all

    for fault in chain_of(scene.failure).faults:
        if fault.broken is not None:
            return _IN_WORDS.get(
                fault.broken, "a structure that the guest needs for its exceptions is not as it must be"
            )
    return "the guest's IDT has no gate for any exception" if no_gate_at_all(scene.failure.cpu) is not None else None


SIGNS: Final = (
    Sign(
        "structure-missing",
        _SHUTDOWN,
        _structure,
        "{}",
        weights(guest_code=2.0, host_kernel=-1.0),
        "SDM vol. 3A, 6.10 to 6.15: IDT, GDT, TSS and stack are the guest's own.",
    ),
    Sign(
        "fails-without-kvm",
        _SHUTDOWN,
        lambda scene: scene.speaker == "tcg",
        "QEMU's own emulator ran this guest: no KVM is in it",
        weights(guest_code=2.5, host_kernel=-3.0, outer_hypervisor=-3.0, cpu=-3.0, host_setup=-2.0),
        "accel/tcg.",
    ),
)
