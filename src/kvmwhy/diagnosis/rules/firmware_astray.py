"""The guest's firmware ran astray in code that works everywhere else."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at

CAUSE = Cause(
    id="firmware-astray",
    family="outer-hypervisor",
    title="The guest's own firmware ran astray: suspect what runs it",
    what=(
        "The guest was still in its BIOS, which is the same code in every VM and works there. When that code returns to a"
        " wrong address and executes zeros, something changed its registers or memory under it: an outer hypervisor that"
        " nests badly, a bug of the host's KVM, or the CPU."
    ),
    recognise=(
        "Suberror 1 with zeros at RIP, paging off, flat 32-bit segments, the GDT in the BIOS area and an IDT with limit 0:"
        " SeaBIOS's 32-bit code."
    ),
    confused_with="fetch-non-ram in a boot loader or kernel: that code is the guest's own, and may well be wrong.",
    fix=Fix(
        host=(
            "Check for `hypervisor` in /proc/cpuinfo: if this host is a VM, update or leave the outer hypervisor. If not, try"
            " another host kernel. Try one vCPU and no option ROMs."
        )
    ),
    references=(
        "SeaBIOS src/romlayout.S: transition32",
        "QEMU TCG stored a wrong EIP at #VMEXIT in the middle of a block: guests of its guests ran astray",
    ),
    example="EIP=40000000 in SeaBIOS, RET to a popped wrong address, with KVM inside QEMU's TCG",
)

_BIOS = range(0xE_0000, 0x10_0000)


def rule(facts: Facts) -> Finding | None:
    cpu = facts.failure.cpu
    if facts.failure.suberror != 1 or cpu is None or facts.mode is None or facts.mode.name != "prot32" or facts.paging:
        return None
    gdt, idt = cpu.segments.get("gdt"), cpu.segments.get("idt")
    if gdt is None or idt is None or gdt.base not in _BIOS or idt.limit or facts.rip is None:
        return None
    code = facts.failure.code.at_rip() if facts.failure.code else b""
    lost = facts.fetch_failed or (facts.words is None and code and not any(code[:8]))
    if not lost:
        return None
    return Finding(
        CAUSE,
        "possible",
        f"The guest's own BIOS ran astray, to {at(facts)}: suspect what runs it, most often a hypervisor around this host.",
        (
            f"the GDT at {gdt.base:#x} and the empty IDT are SeaBIOS's: no boot loader or kernel had started",
            "the same BIOS runs everywhere else, so its code is not to blame",
        ),
        ("an option ROM, or RAM that is smaller than the BIOS was told, can do the same",),
    )
