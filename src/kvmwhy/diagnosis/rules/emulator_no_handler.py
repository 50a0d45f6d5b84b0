"""The instruction is one that KVM's emulator has never learnt, or had not yet."""

from __future__ import annotations

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.emulation import Why
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.phrasing import at, emulated_because, emulates_all, instruction, may_be_older, operand, silently

CAUSE = Cause(
    id="emulator-no-handler",
    family="emulator-gap",
    title="KVM's emulator has no handler for this instruction",
    what=(
        "Most guest instructions run on the CPU itself. When one touches memory that is not RAM, KVM must carry"
        " it out in software, and its emulator knows only part of the instruction set: moves, integer arithmetic,"
        " strings, a few SSE moves, AVX moves since 6.19. An instruction outside that set cannot be finished, so"
        " KVM stops the vCPU and reports an emulation failure."
    ),
    recognise=(
        "Suberror 1 with instruction bytes (ndata 8), or on kernels before 5.16 a readable instruction at RIP;"
        " the instruction has no entry in KVM's opcode tables; its operand lies in MMIO, ROM or a hole. At CPL 3"
        " the guest's program gets #UD (SIGILL) instead, and the host says nothing."
    ),
    confused_with=(
        "fetch-non-ram: there the instruction itself could not be read. event-delivery-non-ram: there the"
        " instruction at RIP is innocent. A missing CPU feature: the CPU has the instruction, KVM's emulator not."
    ),
    fix=Fix(
        guest=(
            "Access device memory with plain MOV of 1, 2, 4 or 8 bytes (readl/writel, volatile of fixed width,"
            " memcpy_fromio); keep SIMD, x87 and compiler-vectorised copies away from it. If the address was"
            " meant to be RAM, find out why it is not."
        ),
        vmm=(
            "If the region behaves like memory (framebuffer, shared memory, a CXL window), back it with a"
            " memory slot instead of handling it as MMIO. KVM_CAP_EXIT_ON_EMULATION_FAILURE (204) lets you see"
            " and emulate the instruction yourself."
        ),
        host="A newer kernel helps only if it has a handler for this instruction; most SIMD never got one.",
    ),
    references=(
        "arch/x86/kvm/emulate.c: opcode_table, twobyte_table, opcode_map_0f_38",
        "Documentation/virt/kvm/api.rst: KVM_CAP_EXIT_ON_EMULATION_FAILURE",
    ),
    example="xsave64 [rdi] on a memory window that the VMM emulates as MMIO",
)

_UNDEFINED = frozenset({"ud0", "ud1", "ud2"})
_RAISE_EVENTS = frozenset({"ud2", "ud1", "ud0", "int", "int1", "int3", "into"})


def rule(facts: Facts) -> Finding | None:
    verdict, insn = facts.verdict, facts.instruction
    if verdict is None or insn is None or facts.fetch_failed or facts.vectoring is not None:
        return None
    # A verdict without a kernel is the newest kernel's; the host's may be older than the handler.
    too_old = verdict.outcome == "handler" and may_be_older(facts)
    if verdict.outcome != "no-handler" and not too_old:
        return None
    from_report = facts.instruction_source == "report"
    if facts.failure.silent and insn.mnemonic in _UNDEFINED:
        return None  # it is there to raise #UD, and the guest got it
    if facts.why == Why.NESTED:
        return None  # KVM has handlers of its own for VMX and SVM: their operand was at fault, or their state
    sure = from_report and not too_old and facts.mode is not None and facts.mode.certain and not facts.foreign_bytes
    confidence: Confidence = "certain" if sure else "likely"
    for_ = [verdict.sentence, _source(from_report)]
    against = []
    where = operand(facts)
    place = facts.access.place if facts.access and facts.access.kind != "fetch" else None
    if place and place.ram is False:
        for_.append(f"it touched {where}: not RAM, so KVM had to emulate it")
    elif not insn.memory or emulates_all(facts) or facts.why == Why.REAL_MODE:
        for_.append(emulated_because(facts))
    elif place and place.ram:
        against.append(f"it touched {where}, which is normally RAM and needs no emulation")
        confidence = "likely"
    if not insn.memory and facts.words is None:
        confidence = "likely"
    if insn.mnemonic in _RAISE_EVENTS and not emulates_all(facts):
        against.append(
            "it raises an event: if the IDT, GDT, TSS or stack is not RAM, KVM fails at it although it is innocent"
        )
        confidence = "possible"
    if facts.foreign_bytes:
        against.append("the bytes that KVM was handed are not those that the VMM reads at RIP")
    if facts.mode is None and facts.code_mode:
        against.append(facts.code_mode.why)
    if facts.access and facts.access.kind == "fetch":
        against.append("RIP itself lies where there is no RAM: the bytes shown may not be what the guest ran")
        confidence = "possible"
    if too_old:
        for_.append(f"the host's kernel is not shown; one older than {verdict.since} has no handler for it")
    fix = CAUSE.fix
    if verdict.since and not verdict.never:
        fix = fix._replace(
            host=f"Update the host's kernel to {verdict.since} or newer: it can emulate this instruction."
        )
    elif verdict.never:
        fix = fix._replace(host="No kernel up to 7.3 can emulate this instruction; updating the host does not help.")
    since = f" before Linux {verdict.since}" if verdict.since and not verdict.never else ""
    touching = f" on {where}" if where and place and place.ram is False else ""
    return Finding(
        CAUSE,
        confidence,
        f"KVM cannot emulate `{instruction(facts)}`{since}, which the guest ran at {at(facts)}{touching}.{silently(facts)}",
        tuple(for_),
        tuple(against),
        fix,
    )


def _source(from_report: bool) -> str:
    if from_report:
        return "the bytes are those that KVM itself fetched"
    return "the bytes are those that the VMM read at RIP afterwards"
