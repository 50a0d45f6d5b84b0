"""An interrupt or exception could not be delivered: a structure it needs is not in RAM."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import article, end_of_ram, hexadecimal

CAUSE = Cause(
    id="event-delivery-non-ram",
    family="event-delivery",
    title="An interrupt or exception could not be delivered: its stack, IDT, TSS or page tables are not in RAM",
    what=(
        "To deliver an event the CPU reads the IDT, the GDT and the TSS and pushes a frame on the stack. One of"
        " those accesses hit an address without RAM in the middle of the delivery. KVM cannot emulate half a"
        " delivery, so it stops the vCPU."
    ),
    recognise=(
        "Suberror 3: the first word is the event, the second the exit reason, then (where the kernel gives it) the"
        " address. That address, not RIP, is what to look at. From 6.1 to 6.12, and for INT n in 64-bit code, the"
        " same can show as suberror 1 on INT3, INT n or UD2."
    ),
    confused_with=(
        "cpu-erratum: there the exit reason is one that no event delivery can cause. emulator-no-handler: the"
        " instruction at RIP was not being emulated."
    ),
    fix=Fix(
        guest=(
            "Put the stack, IDT, GDT, TSS and page tables where RAM is. Check the stack pointer first: a stack that"
            " ran over, or was set up above the end of RAM, is the usual reason. Then ask why the event came at all."
        ),
        vmm=(
            "Give the guest as much RAM as its memory map promises (-m counts MiB), and do not offer emulated windows"
            " (CXL, device memory) as system RAM while KVM is in use."
        ),
        host=None,
    ),
    references=(
        "arch/x86/kvm/vmx/vmx.c: __vmx_handle_exit, vectoring_info",
        "704fc6021b9e, 47ef3ef843c0, 7bd7ff99110a (suberror 3 always has five words) (in v6.14)",
        "tools/testing/selftests/kvm/set_memory_region_test.c: test_mmio_during_vectoring",
    ),
    example="80000b0e 31 182 bfff0: #PF, its frame pushed to 0xbfff0 in the VGA window",
)

# VMX exits that an access during event delivery can cause: EPT violation, misconfiguration, APIC access.
_MEMORY_EXITS_VMX = frozenset({44, 48, 49})
_NPF = 0x400


def rule(facts: Facts) -> Finding | None:
    delivery, access, data = facts.delivery, facts.access, facts.failure.data
    if delivery is None or access is None:
        return None
    if facts.failure.suberror == 1:
        if facts.words is None:
            return None
        reason = facts.words.reason
    elif len(data) > 1:
        reason = data[1]
    else:
        return None
    if facts.vendor.vendor == "svm":
        if reason != _NPF:
            return None
    elif reason & 0xFFFF not in _MEMORY_EXITS_VMX:
        return None
    confidence: Confidence = "likely"
    for_, against = [], []
    if delivery.event:
        for_.append(f"the event being delivered was {delivery.event}")
    if access.gpa is not None:
        for_.append(f"the delivery touched guest physical address {hexadecimal(access.gpa)}")
    if delivery.structure:
        for_.append(delivery.why)
    if facts.failure.suberror == 1:
        for_.append(
            "KVM was asked to emulate in the middle of the delivery: it is no access of the instruction at RIP itself"
        )
    for_ += end_of_ram(facts, access.gpa)
    if access.place and access.place.ram is False:
        for_.append(f"{hexadecimal(access.gpa or 0)} is {article(access.place.text)}")
        if delivery.structure and facts.failure.host.ram_bytes is not None:
            confidence = "certain"  # the guest's memory is known, not assumed
    elif access.place and access.place.ram:
        against.append(f"{hexadecimal(access.gpa or 0)} is {article(access.place.text)}, which is normally RAM")
        confidence = "likely"
    elif delivery.structure is None:
        against.append("nothing shown says which structure lies at that address")
    event = (delivery.event or "An event").split(" (")[0].split(",")[0]
    event = event[0].upper() + event[1:]
    structure = {
        "stack frame": "its stack frame",
        "IDT": "its IDT entry",
        "TSS": "a field of the TSS",
        "GDT": "its segment's entry of the GDT",
        "page tables": "the page tables",
    }.get(delivery.structure or "", "the memory that it touches")
    verb = "are" if delivery.structure == "page tables" else "is"
    where = f" at {hexadecimal(access.gpa)}" if access.gpa is not None else ""
    what = f", {article(access.place.text)}" if access.place and access.place.ram is False else ""
    return Finding(
        CAUSE,
        confidence,
        f"{event} could not be delivered: {structure}{where}{what} {verb} no RAM to KVM.",
        tuple(for_),
        tuple(against),
    )
