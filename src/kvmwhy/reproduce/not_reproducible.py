"""Failures that no guest can bring about again: their cause lies outside of the guest."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86 import vmx
from kvmwhy.abi.x86.entry_failure import ERRNO, INSTRUCTION_ERROR
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.reproduce.guest_plan import Cannot

_MEMORY_REASONS: Final = {vmx.EPT_VIOLATION, vmx.EPT_MISCONFIG, vmx.EXCEPTION_NMI, 44}
_REGISTERS: Final = "the registers"


def beyond_reach(facts: Facts) -> Cannot | None:
    """Why there is no use in trying, or None."""
    failure = facts.failure
    if facts.reset is not None and facts.reset.state == "zero":
        return Cannot("all registers are zero: the VMM could not read them (a protected guest?)", (_REGISTERS,))
    if facts.emulated:
        return _torn(facts)
    match failure.kind:
        case "run-error":
            return Cannot("KVM_RUN itself failed: the cause is in the host, not in what the guest executed")
        case "unknown-exit":
            return Cannot("the host's CPU left the guest for a reason its KVM does not know: that takes this CPU")
        case "other":
            return Cannot("the VMM did not know this exit: nothing failed in KVM")
        case "entry-failure":
            return _entry(facts)
        case "internal-error":
            return _internal(facts)
    if failure.cpu is None or not failure.cpu.registers:
        return Cannot("the report does not show the guest's state", (_REGISTERS,))
    return None


def _torn(facts: Facts) -> Cannot | None:
    """A trace shows the bytes that the decoder took: it gives up at the opcode, before the operand."""
    emulation, decoded = facts.failure.emulation, facts.instruction
    if emulation is None or not emulation.insn or decoded is None or decoded.complete or decoded.invalid:
        return None
    window = facts.failure.code.at_rip() if facts.failure.code else b""
    end = (facts.linear_rip or 0) + len(emulation.insn)
    if not end & 0xFFF or window.startswith(emulation.insn) or facts.failure.data:
        return None
    shown = emulation.insn.hex(" ")
    return Cannot(f"the trace shows the instruction only up to where KVM gave up ({shown})", ("the whole instruction",))


def _entry(facts: Facts) -> Cannot | None:
    entry, cpu = facts.entry, facts.failure.cpu
    if entry is not None and entry.scheme == INSTRUCTION_ERROR:
        return Cannot(
            "the CPU refused KVM's own control fields, or there were none: no guest state leads to that, "
            "but a KVM or an outer hypervisor that sets them so"
        )
    if entry is not None and entry.scheme == ERRNO:
        return Cannot("the entry failed with an error of the kernel's own, not for the guest's state")
    if cpu is None or "rip" not in cpu.registers or "cs" not in cpu.segments:
        return Cannot("the report does not show the state that was refused", (_REGISTERS, "the segments"))
    return None


def _internal(facts: Facts) -> Cannot | None:
    failure = facts.failure
    match failure.suberror:
        case 2:
            return Cannot("an exception in the delivery of another, as KVM sees it without EPT: it depends on the host")
        case 3:
            return _delivery(facts)
        case 4:
            return Cannot("the host's CPU left the guest for a reason its KVM has no handler for: that takes this CPU")
    if failure.suberror is None:
        return Cannot("the report does not say which internal error it was", ("the suberror", _REGISTERS))
    return Cannot(f"suberror {failure.suberror} is not known")


def _delivery(facts: Facts) -> Cannot | None:
    data = facts.failure.data
    if len(data) < 2:
        return Cannot("the report does not say what the exit was", ("the words of the internal error",))
    if facts.vendor.vendor == "vmx" and data[1] & 0xFFFF not in _MEMORY_REASONS:
        name = vmx.reason_name(data[1])
        return Cannot(f"the exit while an event was being delivered was {name}, which no memory of the guest causes")
    cpu = facts.failure.cpu
    if (cpu is None or "rsp" not in cpu.registers) and (facts.delivery is None or facts.delivery.gpa is None):
        return Cannot("nothing shows where the event was being delivered to", (_REGISTERS,))
    return None
