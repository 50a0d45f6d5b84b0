"""Turns of phrase that several rules share: the same fact is always said in the same words."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.emulation import Why
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.emulator.opcode_table import version_of
from kvmwhy.record import Failure


def hexadecimal(value: int) -> str:
    return f"{value:#x}"


def article(text: str) -> str:
    """A place as an apposition: "0xb0000, in the VGA window"; "0xd0000000, past the end of RAM"."""
    return text if text.startswith(("past ", "beyond ", "above ", "RAM or ")) else f"in {text}"


def at(facts: Facts) -> str:
    """RIP as people write it: with its segment in real mode."""
    if facts.rip is None:
        return "an address that is not shown"
    cpu = facts.failure.cpu
    cs = cpu.segments.get("cs") if cpu else None
    if facts.mode and facts.mode.name in {"real16", "vm86", "prot16"} and cs and cs.base:
        return f"{cs.selector:04x}:{facts.rip:04x} ({hexadecimal(facts.linear_rip or 0)})"
    emulation = facts.failure.emulation
    if emulation is not None and emulation.cs_base and emulation.rip == facts.rip:
        return f"{hexadecimal(emulation.cs_base + emulation.rip)} (IP {facts.rip:#x})"
    return hexadecimal(facts.rip)


def fetched_from(facts: Facts) -> str:
    """Where the instruction was to come from: RIP, or the guest physical address that KVM's words have instead."""
    access = facts.access
    if facts.rip is None and access is not None and access.kind == "fetch" and access.gpa is not None:
        return f"guest physical address {hexadecimal(access.gpa)}"
    return at(facts)


def instruction(facts: Facts) -> str:
    insn = facts.instruction
    if insn is None:
        return "an instruction"
    return insn.text or insn.bytes.hex(" ")


def operand(facts: Facts) -> str | None:
    """Where the operand lies, and what lives there."""
    access = facts.access
    if access is None or access.kind == "fetch":
        return None
    address = access.gpa if access.gpa is not None else access.gva
    if address is None:
        return None
    kind = "guest physical address" if access.gpa is not None else "linear address"
    return f"{kind} {hexadecimal(address)}" + (f", {article(access.what)}" if access.what else "")


def end_of_ram(facts: Facts, gpa: int | None) -> list[str]:
    """A low address without RAM, where PCs have it: the guest may have got less than it thinks."""
    if gpa is None or not 1 << 20 <= gpa < 1 << 28 or facts.failure.host.ram_bytes is not None:
        return []
    mib = (gpa >> 20) + 1
    return [f"a guest with {mib} MiB of RAM or more has RAM at {gpa:#x}: was -m too small? (it counts MiB)"]


def may_be_older(facts: Facts) -> bool:
    """The handler came with some release, and nothing shows that the host's kernel is not older."""
    first = version_of(facts.verdict.since) if facts.verdict and facts.verdict.since else None
    if first is None or facts.failure.host.kernel is not None:
        return False
    return facts.age.oldest is None or facts.age.oldest < first


def silently(facts: Facts) -> str:
    """What became of a failure that no VMM was told of."""
    return " KVM told nobody: it gave the guest's program #UD (SIGILL) instead." if facts.failure.silent else ""


def emulates_all(facts: Facts) -> bool:
    """kvm_pvm runs ring-0 code in the emulator (measured on 6.18: reason 0x1000), wherever its operands are."""
    return facts.vendor.vendor == "pvm" and facts.words is not None and facts.words.reason == 0x1000


def emulated_because(facts: Facts) -> str:
    """Why KVM emulated an instruction whose operand is no reason for it."""
    none = facts.instruction is None or not facts.instruction.memory
    innocent = "it touches no memory" if none else "what it touches is RAM, as far as is shown"
    if emulates_all(facts):
        return "kvm_pvm emulates the guest's ring-0 code, so the operand need not be the reason"
    if facts.why == Why.INVALID_STATE:
        return "KVM emulated it because the guest's state is one that this CPU cannot run (invalid guest state)"
    if facts.why == Why.REAL_MODE:
        return (
            f"{innocent}: KVM emulated it because it emulates real mode as a whole, as it must on Intel CPUs without"
            " unrestricted guest (also with ept=0, and where an outer hypervisor does not offer it)"
        )
    if facts.why == Why.INTERCEPT and facts.explained and facts.explained.name:
        return f"{innocent}: the exit was {facts.explained.name}, which KVM handles by emulation"
    return f"{innocent}: KVM emulated it for another reason than its operand"


def logs_the_guest(failure: Failure) -> bool:
    """QEMU's ``-d int`` or ``-d cpu``: exceptions and registers of the guest, and no failure of the emulator's."""
    speaker = failure.speaker
    return speaker is not None and speaker.name == "tcg" and not speaker.fields.keys() & {"message", "address"}


def call_in_words(call: str) -> str:
    """A request to KVM: by the ioctl's name, or in words where the message names none."""
    return _CALLS.get(call, call)


_CALLS: Final = {
    "open": "opening /dev/kvm",
    "module": "loading KVM's module",
    "vcpu-init": "setting up a vCPU",
    "registers": "setting the vCPU's registers",
    "get-registers": "getting the vCPU's registers",
    "KVM": "a request to KVM",
    "SEV": "the set-up of SEV",
    "SEV_LAUNCH": "the launch of the SEV guest",
    "KVM_TDX": "a request of TDX",
    "mmap": "mapping the vCPU's kvm_run page",
    "libkrun": "libkrun's set-up",
}
