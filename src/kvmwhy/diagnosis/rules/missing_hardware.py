"""The guest runs software that drives hardware which this machine does not have."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at, hexadecimal, instruction

CAUSE = Cause(
    id="guest-drives-missing-hardware",
    family="guest-drives-missing-hardware",
    title="The guest drives hardware that this virtual machine does not have",
    what=(
        "Firmware flashers, vendor diagnostics and appliance software talk to chips at fixed addresses or by SMI. In a VM"
        " there is nothing at those addresses, or something else; what comes back sends the software astray."
    ),
    recognise=(
        "The guest is an appliance or runs a vendor's tool (BIOS flasher, board monitor); accesses to fixed chipset addresses"
        " (0xfed0xxxx to 0xfedfxxxx, flash below 4 GiB) or to I/O port 0xb2; QEMU's assertion in cpu_asidx_from_attrs, which"
        " fails when a vCPU was left in SMM."
    ),
    confused_with="smm: there KVM or the firmware is at fault; here nobody should have raised the SMI.",
    fix=Fix(
        guest="Do not run tools for a vendor's board in a VM; remove or mask the service that starts them.",
        vmm="Turn SMM off (QEMU: -machine smm=off) where the firmware does not need it: stray SMIs then do nothing.",
    ),
    references=(
        "QEMU include/exec/cpu-common.h, hw/core/cpu-sysemu.c: cpu_asidx_from_attrs",
        "Intel chipset datasheets: APM_CNT, I/O port 0xb2",
    ),
    example="a NAS system's BIOS flasher, run at the first boot of a VM",
)

_SMI_PORT = 0xB2


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if failure.kind != "internal-error" or failure.suberror != 1:
        return None
    for_: list[str] = []
    if "qemu-assertion" in failure.host.remarks and failure.cpu is None:
        for_.append(
            "QEMU failed an assertion while it printed the code at RIP, as it does for a vCPU that is in System Management"
            " Mode: something had raised an SMI"
        )
    insn, access = facts.instruction, facts.access
    if insn and insn.mnemonic == "out" and insn.text and insn.text.startswith(f"out {_SMI_PORT:#x}"):
        for_.append(f"`{instruction(facts)}` at {at(facts)} raises an SMI")
    if access and access.kind in {"read", "write"} and access.place and access.place.name in {"chipset", "flash"}:
        for_.append(f"the instruction touched {hexadecimal(access.gpa or access.gva or 0)}, in {access.place.text}")
    if not for_:
        return None
    return Finding(
        CAUSE,
        "possible",
        "The guest was driving hardware that this machine does not have.",
        tuple(for_),
        ("the evidence does not show which program of the guest it was",),
    )
