"""Signs from how a guest came to its triple fault."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.injections import injections
from kvmwhy.diagnosis.knowledge.sign import Answer, Sign, weights
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import At

_SHUTDOWN: Final = ("triple-fault",)
_IN_WORDS: Final = {
    "idt-limit": "the guest's IDT has no gate for the exception",
    "idt-unmapped": "the guest's IDT is not mapped",
    "gate-type": "the guest's IDT has something else than a gate for the exception",
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


def _of_its_own(scene: Scene) -> Answer:
    """A trace names the exception, and KVM did not make it."""
    from kvmwhy.diagnosis.triple_fault import chain_of

    trace, faults = scene.failure.trace, chain_of(scene.failure).faults
    if not faults or faults[0].by != "trace":
        return None
    own = [injection for injection in injections(trace) if not injection.passed_on]
    return None if own else At(line=scene.failure.source.line)


def _tables_not_in_ram(scene: Scene) -> Answer:
    last = next(reversed(tuple(injections(scene.failure.trace))), None)
    return last.at if last is not None and last.walk else None


SIGNS: Final = (
    Sign(
        "triple-fault-under-a-young-vmm",
        _SHUTDOWN,
        lambda scene: scene.young_vmm,
        "{} sets the vCPU's first state by itself",
        weights(vmm=1.0, guest_code=0.5, guest_firmware=-2.0, outer_hypervisor=-0.5),
        "No firmware lies between: page tables, GDT and entry point are the VMM's, all behind them the guest's.",
    ),
    Sign(
        "page-tables-not-in-ram",
        _SHUTDOWN,
        _tables_not_in_ram,
        "the CPU's walk of the guest's page tables met what is no RAM, and KVM answered with #PF",
        weights(guest_code=1.5, vm_configuration=0.5, host_kernel=-0.5),
        "CR3 and the tables are the guest's own. arch/x86/kvm/mmu/paging_tmpl.h: walk_addr_generic.",
    ),
    Sign(
        "structure-missing",
        _SHUTDOWN,
        _structure,
        "{}",
        weights(guest_code=2.0, host_kernel=-1.0),
        "SDM vol. 3A, 6.10 to 6.15: IDT, GDT, TSS and stack are the guest's own.",
    ),
    Sign(
        "exception-of-its-own",
        _SHUTDOWN,
        _of_its_own,
        "the exception that it could not take is one that the guest itself raised",
        weights(guest_code=1.0, host_kernel=-0.5),
        "KVM's own injections come after an emulation, without an exit of that exception before them.",
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
