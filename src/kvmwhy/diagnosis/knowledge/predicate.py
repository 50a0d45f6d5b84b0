"""What a failure looks like: conditions over its facts, each with its test and its words.

A condition that the evidence cannot answer is ``None``: neither met nor broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec import Struct

from kvmwhy.abi.x86.intr_info import VMX_TYPES
from kvmwhy.arch.x86.physical_map import IN_SHORT
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.host_events import unexpected_exit
from kvmwhy.record import Failure, Kind

Bits = tuple[str, int, int]  # a name, a mask, the value under it
_ALL: Final = (1 << 64) - 1


class Shape(Struct, frozen=True):
    """The conditions; a field that is ``None`` asks nothing. All numbers are as the kernel has them.

    ``reason`` is the basic exit reason or exit code of suberrors 1, 3 and 4.
    ``event`` is the event in delivery: its types and vectors. ``registers`` and ``control`` test bits of a register
    or of a field of a VMCS or VMCB dump; ``control`` may give several spellings as "one|other". ``hypervisor``
    has words of the name of the one around the host.
    """

    kind: Kind | None = None
    suberror: int | None = None
    hardware_error: tuple[int, ...] | None = None
    errno: tuple[str, ...] | None = None
    exception: int | None = None
    vmm_exit: tuple[int, ...] | None = None  # KVM_EXIT_* that the VMM did not know
    about_attributes: bool | None = None  # of KVM_EXIT_MEMORY_FAULT: whether private memory can be in it
    silent: bool | None = None
    layout: tuple[str, ...] | None = None
    vendor: str | None = None
    reason: tuple[int, ...] | None = None
    first_word: int | None = None  # data[0], whole
    event: tuple[tuple[int, ...] | None, tuple[int, ...] | None] | None = None  # types, vectors
    smm: bool | None = None
    cpl: int | None = None
    mode: tuple[str, ...] | None = None
    reset: tuple[str, ...] | None = None
    rip: tuple[int, ...] | None = None  # as printed: without the base of CS
    linear: tuple[tuple[int, int], ...] | None = None  # CS and RIP together, from and to
    registers: tuple[Bits, ...] | None = None
    signature: tuple[int, ...] | None = None  # family and model that EDX shows at reset, as CPUID.1:EAX has them
    big_segments: bool | None = None  # a data segment reaches past 64 KiB in real mode
    mnemonic: tuple[str, ...] | None = None
    encoding: tuple[str, ...] | None = None
    bytes: tuple[bytes, ...] | None = None  # what the code at RIP starts with
    code_unreadable: bool | None = None
    outcome: tuple[str, ...] | None = None  # of the emulator's verdict
    access: tuple[str, ...] | None = None
    place: tuple[str, ...] | None = None
    structure: tuple[str, ...] | None = None  # stack frame | IDT | TSS | GDT | page tables
    control: tuple[Bits, ...] | None = None
    events: tuple[str, ...] | None = None  # kinds of lines of the host's kernel, one of which must be there
    hypervisor: tuple[str, ...] | None = None


class Condition(Struct, frozen=True):
    """``weight`` is how much it sets a failure apart: 0 for what every failure of its kind has."""

    test: Callable[[Facts, Any], bool | None]
    say: Callable[[Any], str]
    weight: int


_PRIVATE: Final = 1 << 3  # KVM_MEMORY_EXIT_FLAG_PRIVATE


def is_about_attributes(failure: Failure) -> bool:
    """A VM without private memory gets KVM_EXIT_MEMORY_FAULT for any EFAULT of KVM_RUN, with no flag (since 6.8).

    arch/x86/kvm/mmu/mmu.c: kvm_handle_error_pfn; Documentation/virt/kvm/api.rst: KVM_EXIT_MEMORY_FAULT.
    """
    flags = failure.exit_fields.get("flags")
    return flags is None or bool(flags & _PRIVATE) or (flags == 0 and failure.host.confidential is not None)


def basic_reason(facts: Facts) -> int | None:
    """The basic exit reason of VMX without its flags, or SVM's exit code, wherever the suberror has it."""
    data = facts.failure.data
    if facts.failure.suberror == 3:
        reason = data[1] if len(data) > 1 else None
    elif facts.failure.suberror == 4:
        reason = data[0] if data else None
    else:
        reason = facts.words.reason if facts.words else None
    if reason is None and facts.failure.exit is not None:
        reason = facts.failure.exit.reason  # of a trace, a dump, or KVM's own line in the host's log
    if reason is None or reason >> 32 or facts.vendor.vendor not in {"vmx", None}:
        return reason
    return reason & 0xFFFF


def _event(facts: Facts, want: tuple[tuple[int, ...] | None, tuple[int, ...] | None]) -> bool | None:
    word = facts.vectoring
    if word is None:
        return None if facts.words is None and facts.failure.suberror != 3 else False
    types, vectors = want
    return (types is None or word >> 8 & 7 in types) and (vectors is None or word & 0xFF in vectors)


def _linear(facts: Facts, want: tuple[tuple[int, int], ...]) -> bool | None:
    at = facts.linear_rip
    return None if at is None else any(first <= at <= last for first, last in want)


def _signature(facts: Facts, want: tuple[int, ...]) -> bool | None:
    """RESET and INIT leave CPUID's signature in EDX (SDM vol. 3A, table 11-1); the stepping is no part of it."""
    cpu = facts.failure.cpu
    edx = cpu.get("rdx") if cpu and facts.reset and facts.reset.state == "reset" else None
    return None if edx is None else edx & 0x0FFF_0FF0 in want


def _registers(facts: Facts, want: tuple[Bits, ...]) -> bool | None:
    return _bits({} if facts.failure.cpu is None else facts.failure.cpu.registers, want)


def _control(facts: Facts, want: tuple[Bits, ...]) -> bool | None:
    return _bits({} if facts.failure.control is None else facts.failure.control.fields, want)


def _bits(values: dict[str, int], want: tuple[Bits, ...]) -> bool | None:
    seen = [
        next((values[n] & mask == value for n in name.split("|") if n in values), None) for name, mask, value in want
    ]
    if False in seen:
        return False
    return None if None in seen else True


def _is_about_segments(rule: str) -> bool:
    return rule.startswith(("vm86-", "segment-", "cr0-fixed"))


def _big_segments(facts: Facts, want: bool) -> bool | None:
    cpu, checked = facts.failure.cpu, facts.checked
    if want and checked and checked.violations and not any(_is_about_segments(v.rule.id) for v in checked.violations):
        return False  # the entry was refused for something else
    data = [cpu.segments[n] for n in ("ds", "es", "ss", "fs", "gs") if n in cpu.segments] if cpu else []
    return any(segment.limit > 0xFFFF for segment in data) is want if data else None


def _instruction(name: str) -> Callable[[Facts, tuple[str, ...]], bool | None]:
    def test(facts: Facts, want: tuple[str, ...]) -> bool | None:
        value = getattr(facts.instruction, name) if facts.instruction else None
        return None if value is None else value in want

    return test


def _code(facts: Facts) -> bytes | None:
    insn = facts.reading.failure.insn if facts.reading else None
    if insn:
        return insn
    return (facts.failure.code.at_rip() if facts.failure.code else None) or None


def _bytes(facts: Facts, want: tuple[bytes, ...]) -> bool | None:
    code = _code(facts)
    return None if code is None else code.startswith(want)


def _place(facts: Facts, want: tuple[str, ...]) -> bool | None:
    place = facts.access.place if facts.access else None
    return None if place is None else place.name in want


def _of(value: object, want: tuple[object, ...]) -> bool | None:
    return None if value is None else value in want


def _hex(values: tuple[int, ...]) -> str:
    return " or ".join(f"{value:#x}" for value in values)


def _phrase(phrases: dict[str, str], names: tuple[str, ...]) -> str:
    return _or(tuple(phrases.get(name, name) for name in names))


def _or(values: tuple[str, ...]) -> str:
    return " or ".join(values)


def _say_event(want: tuple[tuple[int, ...] | None, tuple[int, ...] | None]) -> str:
    types, vectors = want
    what = _or(tuple(VMX_TYPES[event_type] for event_type in types)) if types else "event"
    return f"an {what}{f' with vector {_hex(vectors)}' if vectors else ''} was in delivery"


def _say_bits(want: tuple[Bits, ...]) -> str:
    return ", ".join(
        f"{name.partition('|')[0]} = {value:#x}"
        if mask == _ALL
        else f"{name.partition('|')[0]} & {mask:#x} = {value:#x}"
        for name, mask, value in want
    )


def _say_linear(want: tuple[tuple[int, int], ...]) -> str:
    return "the code is at " + " or ".join(f"{a:#x}" if a == b else f"{a:#x} to {b:#x}" for a, b in want)


_KINDS: Final = {
    "internal-error": "a KVM internal error",
    "entry-failure": "a failed VM entry",
    "unknown-exit": "an exit that KVM does not know",
    "run-error": "KVM_RUN itself failed",
    "shutdown": "a triple fault",
    "exception-exit": "an exception that KVM handed to the VMM",
    "other": "an exit that the VMM does not know",
}
_STATES: Final = {
    "reset": "the guest had executed nothing",
    "startup": "the processor had only been placed by a start-up IPI",
    "zero": "all registers read as zero",
    "half-reset": "the processor is at its start with control registers that a reset clears",
    "first": "the firmware was in its first instructions",
    "smi-entry": "an SMI handler was about to start",
    "mixture": "the registers mix two states",
    "hidden": "the registers are encrypted",
    "unread": "what the control block holds reads as zero",
    "impossible": "no guest can be in this state",
    "ran": "the guest had been running",
    "unknown": "the registers tell no state",
}
_LAYOUTS: Final = {
    "none": "the record has no extra words",
    "final": "the record has the bytes and the exit words",
    "final-no-bytes": "the record has the exit words and no bytes",
}
_OUTCOMES: Final = {
    "handler": "KVM's emulator has a handler for the instruction",
    "no-handler": "KVM's emulator has no handler for the instruction",
    "gives-up": "KVM's emulator decodes the instruction and gives it up",
    "injects-ud": "KVM's emulator gives the guest #UD for the instruction",
}
_ACCESSES: Final = {
    "fetch": "the fetch of an instruction",
    "read": "a read",
    "write": "a write",
    "event-delivery": "part of an event's delivery",
    "page-walk": "a walk of the guest's page tables",
}
_MODES: Final = {
    "real16": "real mode",
    "prot16": "16-bit protected mode",
    "prot32": "32-bit protected mode",
    "long64": "64-bit mode",
}

CONDITIONS: Final[dict[str, Condition]] = {
    "kind": Condition(lambda f, w: f.failure.kind == w, lambda w: _KINDS[w], 0),
    "suberror": Condition(
        lambda f, w: f.failure.suberror == w or (w == 4 and unexpected_exit(f.failure) is not None),
        lambda w: f"suberror {w}",
        0,
    ),
    "hardware_error": Condition(lambda f, w: f.failure.hardware_error in w, lambda w: f"the number is {_hex(w)}", 1),
    "errno": Condition(lambda f, w: f.failure.errno in w, lambda w: f"with {_or(w)}", 1),
    "exception": Condition(lambda f, w: f.failure.exception == w, lambda w: f"its vector is {w}", 1),
    "vmm_exit": Condition(
        lambda f, w: f.failure.exit_reason in w, lambda w: f"KVM_EXIT number {_or(tuple(map(str, w)))}", 3
    ),
    "about_attributes": Condition(
        lambda f, w: is_about_attributes(f.failure) is w, lambda _: "nothing shows that no private memory is in it", 0
    ),
    "silent": Condition(lambda f, w: f.failure.silent is w, lambda _: "the guest got #UD and no VMM heard of it", 1),
    "layout": Condition(lambda f, w: _of(f.layout, w), lambda w: _phrase(_LAYOUTS, w), 0),
    "vendor": Condition(
        lambda f, w: None if f.vendor.vendor is None else f.vendor.vendor == w,
        lambda w: f"the words are those of {w.upper()}",
        1,
    ),
    "reason": Condition(
        lambda f, w: None if (basic := basic_reason(f)) is None else basic in w, lambda w: f"the exit is {_hex(w)}", 2
    ),
    "first_word": Condition(
        lambda f, w: f.failure.data[0] == w if f.failure.data else None, lambda w: f"the first word is {w:#x}", 3
    ),
    "event": Condition(_event, _say_event, 1),
    "smm": Condition(
        lambda f, w: None if f.failure.cpu is None or f.failure.cpu.smm is None else f.failure.cpu.smm is w,
        lambda w: "the vCPU is in SMM" if w else "the vCPU is not in SMM",
        1,
    ),
    "cpl": Condition(lambda f, w: None if f.cpl is None else f.cpl == w, lambda w: f"CPL is {w}", 1),
    "mode": Condition(
        lambda f, w: _of(f.mode.name if f.mode else None, w),
        lambda w: f"the vCPU is in {_or(tuple(_MODES[m] for m in w))}",
        1,
    ),
    "reset": Condition(
        lambda f, w: _of(f.reset.state if f.reset else None, w), lambda w: _or(tuple(_STATES[one] for one in w)), 1
    ),
    "rip": Condition(lambda f, w: _of(f.rip, w), lambda w: f"RIP is {_hex(w)}", 1),
    "linear": Condition(_linear, _say_linear, 1),
    "registers": Condition(_registers, _say_bits, 2),
    "signature": Condition(_signature, lambda w: f"EDX shows the CPU model {_hex(w)} at reset", 2),
    "big_segments": Condition(_big_segments, lambda _: "data segments reach past 64 KiB in real mode", 1),
    "mnemonic": Condition(_instruction("mnemonic"), lambda w: f"the instruction is {_or(w)}", 3),
    "encoding": Condition(_instruction("encoding"), lambda w: f"the instruction is encoded as {_or(w)}", 1),
    "bytes": Condition(_bytes, lambda w: f"the code there starts with {_or(tuple(b.hex(' ') for b in w))}", 2),
    "code_unreadable": Condition(
        lambda f, w: None if f.failure.code is None else f.failure.code.unreadable_at_rip is w,
        lambda w: "the VMM could not read the code at RIP" if w else "the VMM could read the code at RIP",
        1,
    ),
    "outcome": Condition(
        lambda f, w: _of(f.verdict.outcome if f.verdict else None, w),
        lambda w: _phrase(_OUTCOMES, w),
        1,
    ),
    "access": Condition(
        lambda f, w: _of(f.access.kind if f.access else None, w), lambda w: f"the access was {_phrase(_ACCESSES, w)}", 1
    ),
    "place": Condition(_place, lambda w: f"what was touched is {_phrase(IN_SHORT, w)}", 1),
    "structure": Condition(
        lambda f, w: _of(f.delivery.structure if f.delivery else None, w), lambda w: f"KVM met the {_or(w)}", 1
    ),
    "control": Condition(_control, _say_bits, 2),
    "events": Condition(
        lambda f, w: any(event.kind in w for event in f.failure.host.events) or None,
        lambda w: f"the host's kernel logs: {_or(w)}",
        2,
    ),
    "hypervisor": Condition(
        lambda f, w: None if (name := f.failure.host.hypervisor) is None else any(o in name.lower() for o in w),
        lambda w: f"this host is itself a virtual machine, of: {_or(w)}",
        2,
    ),
}


class Asked(NamedTuple):
    """One condition of one shape."""

    name: str
    test: Callable[[Facts, Any], bool | None]
    value: Any
    say: Callable[[Any], str]

    @property
    def text(self) -> str:
        return self.say(self.value)


def asked(shape: Shape | None) -> tuple[Asked, ...]:
    """What a shape asks for, in the order of its fields: the cheap questions first."""
    if shape is None:
        return ()
    return tuple(
        Asked(name, CONDITIONS[name].test, value, CONDITIONS[name].say)
        for name in Shape.__struct_fields__
        if (value := getattr(shape, name)) is not None
    )


def describe(shape: Shape) -> list[str]:
    """What a shape asks for, in words."""
    return [predicate.text for predicate in asked(shape) if not (shape.silent and predicate.name == "kind")]
