"""The guest went on executing where there is no RAM."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.code_window import EMPTY, Window
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import article, at, end_of_ram, hexadecimal

CAUSE = Cause(
    id="fetch-non-ram",
    family="fetch-non-ram",
    title="The guest jumped to where there is no RAM",
    what=(
        "The CPU tried to fetch an instruction from an address behind which there is no memory: MMIO, the VGA"
        " window, a hole, past the end of RAM. KVM was asked to emulate it, could not read a single byte there,"
        " and so had nothing to emulate and no bytes to report."
    ),
    recognise=(
        "Suberror 1 without instruction bytes: flags 0, ndata 6; on Intel exit reason 0x30 with bit 2 of the"
        " qualification, on AMD 0x400 with bit 4 of the error code; the VMM's Code= line is ?? or zeros. Before"
        " 5.16 only RIP tells."
    ),
    confused_with=(
        "emulator-no-handler: there the bytes are known. Zero bytes at RIP alone prove nothing: unreadable memory"
        " and RAM that was never written look the same."
    ),
    fix=Fix(
        guest=(
            "Find the jump: a NULL or overwritten function pointer, a corrupted return address, a wrong entry point or"
            " load address, an AP start vector, code that ran past its end. KVM only reports where it landed."
        ),
        vmm=(
            "Check that the memory map given to the guest is the one that exists (size of RAM, holes, SMRAM), that the"
            " firmware image is mapped where it is entered, and that no slot is taken away while vCPUs run."
        ),
        host=None,
    ),
    references=("arch/x86/kvm/x86.c: handle_emulation_failure, prepare_emulation_failure_exit",),
    example="flags 0, reason 0x30, qualification 0x584, RIP 0xb0000: executing the VGA window",
)

_BIOS_DUMMY_VECTOR = 0xF000FF53


def rule(facts: Facts) -> Finding | None:
    if not facts.emulated:
        return None
    access = facts.access
    if access is not None and access.kind == "fetch":
        return _fetch(facts)
    return _innocent_instruction(facts)


def _fetch(facts: Facts) -> Finding:
    access = facts.access
    assert access is not None  # noqa: S101 -- the caller looked
    place, for_, against = access.place, [], []
    # That the fetch failed is KVM's own word; that the guest's own jump led there seldom is the only way.
    guessed = access.assumed or (facts.window in EMPTY and (place is None or place.ram is None))
    confidence: Confidence = "possible" if guessed and facts.words is None else "likely"
    known = facts.failure.host.ram_bytes is not None and place is not None and place.ram is False
    if known and (facts.fetch_failed or facts.words is not None):
        confidence = "certain"
    if facts.fetch_failed:
        for_.append("KVM reports no instruction bytes: it could not read one byte at RIP")
    elif facts.words is not None:
        for_.append(f"{access.why}")
    if facts.fetch_failed and access.why != "KVM could read no byte there":
        for_.append(access.why)
    if facts.window == Window.UNREADABLE:
        walk = ", whose address it takes from the guest's page tables" if facts.paging else ""
        for_.append(f"the VMM could not read the code at RIP either (Code= shows ??){walk}")
    if place and place.ram is False:
        for_.append(f"RIP is {article(access.what or '')}")
    elif place and place.ram:
        against.append(
            f"RIP is {article(place.text)}: there should be RAM, so either it is missing or RIP is not what it seems"
        )
    for_ += _remarks(facts)
    for_ += end_of_ram(facts, access.gpa)
    if not for_:
        for_.append("RIP lies where there is no RAM")
    where = at(facts)
    if access.gva is not None and facts.linear_rip is not None and access.gva != facts.linear_rip:
        answer = (
            f"The instruction at {where} goes on at {hexadecimal(access.gva)}, where there is no RAM:"
            " KVM could fetch only its beginning."
        )
    elif facts.reset and facts.reset.pristine:
        answer = "The vCPU could not fetch its very first instruction: no firmware is mapped at the reset vector."
    else:
        what = f", {article(place.text)}" if place and place.ram is False else ""
        answer = f"The guest jumped to {where}{what}: there is no RAM to fetch an instruction from."
        if facts.paging and facts.words is None and facts.window == Window.UNREADABLE and not what:
            answer = f"KVM could not fetch the instruction at {where}: the guest's page tables lead there to no RAM, or nowhere."
    return Finding(CAUSE, confidence, answer, tuple(for_), tuple(against))


def _remarks(facts: Facts) -> list[str]:
    """What the address itself, or the bytes behind it, say about how the guest got there."""
    remarks = []
    rip, linear = facts.rip, facts.linear_rip
    if rip == _BIOS_DUMMY_VECTOR:
        remarks.append("0xf000ff53 is the BIOS's dummy interrupt vector f000:ff53, used as a flat address")
    if linear == 0xA0000:
        remarks.append("0xa0000 is the first byte behind conventional memory: code that runs off its end arrives here")
    code = facts.failure.code.at_rip() if facts.failure.code else b""
    if code[:6] == b"\x20\x07\x20\x07\x20\x07":
        remarks.append("the bytes there are blank cells of the VGA text screen (20 07)")
    return remarks


def _innocent_instruction(facts: Facts) -> Finding | None:
    """Old kernels gave no words: an instruction that KVM can emulate, on no operand, was not what failed."""
    verdict, insn = facts.verdict, facts.instruction
    if verdict is None or insn is None or facts.words is not None or facts.instruction_source != "code":
        return None
    code = facts.failure.code.at_rip() if facts.failure.code else b""
    place = facts.place_of(facts.linear_rip) if facts.paging is False else None
    if verdict.outcome != "handler" or any(code) or (place and place.ram):
        return None
    return Finding(
        CAUSE,
        "possible",
        f"The guest was executing zeros at {at(facts)}; most likely it had jumped to where there is nothing.",
        ("all bytes at RIP are zero, as the VMM reads memory that is not there or was never written",),
        (
            "KVM can emulate this instruction, so its bytes do not explain the failure",
            "zeros at RIP have had several unrelated causes",
        ),
    )
