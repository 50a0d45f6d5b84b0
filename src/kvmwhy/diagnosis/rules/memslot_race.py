"""The memory at RIP is there, and yet KVM could not fetch from it: the slot was gone for a moment."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at

CAUSE = Cause(
    id="memslot-race",
    family="memslot-race",
    title="The VMM took a memory slot away for a moment while another vCPU ran in it",
    what=(
        "To change a memory slot (its size, its flags, a shadowed ROM) a VMM deletes it and makes it again. A vCPU that"
        " fetches from it in between finds no memory, and KVM has nothing to emulate. A moment later the same bytes"
        " are there again, which is what the VMM then prints."
    ),
    recognise=(
        "A failed fetch (no bytes, or the instruction-fetch bit) at an address whose code the VMM prints without"
        " trouble; often in the BIOS area (PAM registers) or under a BAR, several vCPUs, and vCPUs that spin there"
        " (`eb fe`, `f4`; QEMU -overcommit cpu-pm=on)."
    ),
    confused_with=(
        "fetch-non-ram: there the VMM cannot read the code either, or reads zeros. A flash chip in command mode also"
        " looks like this: QEMU reads its status, not its code."
    ),
    fix=Fix(
        guest="Park application processors in RAM that no chipset register can remap while the BIOS area is being switched.",
        vmm=(
            "Keep all vCPUs out of guest mode while slots change (QEMU does since 8.0: accel-blocker), or change slots"
            " without deleting them."
        ),
        host="Without cpu-pm=on, halted vCPUs wait outside the guest and the window closes.",
    ),
    references=(
        'QEMU bd688fc931 ("accel: introduce accelerator blocker API") and "kvm: Atomic memslot updates" (in 8.0)',
        "Documentation/virt/kvm/api.rst: KVM_SET_USER_MEMORY_REGION",
    ),
    example="AMD 0x400 with error code 0x100000014 at 0xfffe0, Code=<eb> fd f4: executable, and gone when it was fetched",
)


def rule(facts: Facts) -> Finding | None:
    if not facts.emulated or not facts.access or facts.access.kind != "fetch" or facts.words is None:
        return None
    code = facts.failure.code.at_rip() if facts.failure.code else b""
    if len(code) < 2 or not any(code) or set(code) == {0xFF} or facts.instruction is None or facts.instruction.invalid:
        return None
    place = facts.access.place
    if place and place.ram is False and place.name not in {"flash", "reset-vector", "bios"}:
        return None
    where = at(facts)
    for_ = [
        f"the words say that an instruction fetch at {where} found no memory",
        f"and yet the VMM could read executable bytes there: {code[:8].hex(' ')}",
    ]
    if facts.instruction.text:
        for_.append(f"they are `{facts.instruction.text}`, an ordinary instruction")
    against = ["the VMM reads device memory that it emulates as well, which KVM cannot execute"]
    return Finding(
        CAUSE,
        "likely" if place is None or place.ram or place.name == "bios" else "possible",
        f"The memory at {where} was gone for a moment when the CPU fetched from it: the VMM was changing its slots.",
        tuple(for_),
        tuple(against),
    )
