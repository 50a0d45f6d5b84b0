"""One event of a trace in a line: its fields by the tracepoint's names, numbers that have names by these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kvmwhy.abi import error_numbers
from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.record import Event

_VMX: Final = 1  # KVM_ISA_VMX
_SVM: Final = 2
_MODES: Final = {0: "real", 1: "prot16", 2: "vm86", 3: "vm86", 5: "prot32", 9: "prot64"}  # KVM_EMUL_INSN_F_*
_MMIO: Final = {0: "unsatisfied-read", 1: "read", 2: "write"}
_WRITES: Final = {0: "read", 1: "write"}
_PFERR: Final = ((1, "P"), (2, "W"), (4, "U"), (8, "RSVD"), (16, "F"))  # kvm_mmu_trace_pferr_flags
# arch/arm64/include/asm/kvm_arm.h: kvm_arm_exception_class; arch/riscv: EXC_*; arch/s390/kvm/trace.h
_ARM_CLASSES: Final = {
    0x00: "UNKNOWN", 0x01: "WFI", 0x07: "FP_ASIMD", 0x0E: "ILL", 0x16: "HVC64", 0x17: "SMC64", 0x18: "SYS64",
    0x19: "SVE", 0x20: "IABT_LOW", 0x21: "IABT_CUR", 0x24: "DABT_LOW", 0x25: "DABT_CUR", 0x2F: "SERROR", 0x3C: "BRK64",
}  # fmt: skip
_RISCV_CAUSES: Final = {
    2: "illegal instruction", 10: "supervisor call", 20: "instruction guest-page fault", 21: "load guest-page fault",
    22: "virtual instruction", 23: "store guest-page fault",
}  # fmt: skip
_S390_INTERCEPTS: Final = {
    0x04: "instruction", 0x08: "program interruption", 0x0C: "both", 0x10: "external request",
    0x14: "external interruption", 0x18: "I/O request", 0x1C: "wait state", 0x20: "validity", 0x28: "stop request",
}  # fmt: skip
# Said by another field, or of no use to a reader.
_SILENT: Final = frozenset({"isa", "has_error", "id", "class"})
_DECIMAL: Final = frozenset({"vcpu_id", "size", "count", "number"})
_REASONS: Final = ("exit_reason", "esr_ec", "scause", "icptcode", "trap")  # x86, arm64, riscv64, s390x, ppc64

Fields = Mapping[str, int | str]


def event_line(event: Event, *, isa: int | None = None) -> str:
    """``isa`` is what other exits of the same trace say: a reason without a name does not tell."""
    fields = event.fields
    known = fields.get("isa")
    words = [_word(event, name, value, known if isinstance(known, int) else isa) for name, value in fields.items()]
    return f"{event.name}: {' '.join(word for word in words if word)}"


def arguments(event: str, fields: Fields, *, isa: int | None = None) -> Iterator[tuple[str, int | str, bool]]:
    """Each field with its value, or the word for it, and whether a number of it is a count and no address."""
    known = fields.get("isa")
    isa = known if isinstance(known, int) else isa
    for name, value in fields.items():
        if name in _SILENT or value == "" or (name == "len" and "insn" in fields):
            continue
        word = value if isinstance(value, str) else _named(event, name, value, isa)
        if word is None:
            yield name, value, name in _DECIMAL
        elif word:
            yield name, word.removeprefix(f"{name} "), False


def reason(fields: Fields, isa: int | None) -> str:
    """Why a vCPU left the guest, in the words of its architecture; empty if the event does not say it."""
    known = fields.get("isa")
    for name in _REASONS:
        value = fields.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            word = _named("kvm_exit", name, value, known if isinstance(known, int) else isa)
            return word.removeprefix(f"{name} ") if word else f"{name} {value:#x}"
    return ""


def _word(event: Event, name: str, value: int | str, isa: int | None) -> str:
    if name in _SILENT or value == "" or (name == "len" and "insn" in event.fields):
        return ""
    if isinstance(value, str):
        return value if name in {"text", "msg"} else f"{name} {value}"
    if (named := _named(event.name, name, value, isa)) is not None:
        return named
    return f"{name} {value}" if name in _DECIMAL else f"{name} {value:#x}"


def _named(event: str, field: str, value: int, isa: int | None) -> str | None:
    match event, field:
        case _, "exit_reason" | "exit_code":
            return _exit_reason(value, isa)
        case "kvm_userspace_exit", "reason":
            return exit_name(value)
        case "kvm_userspace_exit", "errno":
            return f"errno {error_numbers.NAMES.get(-value, str(-value))}" if value else ""
        case "kvm_inj_exception", "exception":
            return MNEMONICS.get(value)
        case "kvm_inj_exception" | "kvm_inj_virq", "reinjected":
            return "[reinjected]" if value else ""
        case "kvm_emulate_insn", "flags":
            return f"({_MODES[value]})" if value in _MODES else None
        case "kvm_emulate_insn", "failed":
            return "failed" if value else ""
        case "kvm_mmio", "type":
            return _MMIO.get(value)
        case _, "rw" | "write":
            return _WRITES.get(value)
        case "kvm_mmu_walker_error" | "kvm_mmu_pagetable_walk", "pferr":
            flags = "|".join(letter for bit, letter in _PFERR if value & bit)
            return f"pferr {value:#x} {flags}".rstrip()
        case _, "esr_ec" if value in _ARM_CLASSES:
            return f"{_ARM_CLASSES[value]} ({value:#x})"
        case _, "scause" if value in _RISCV_CAUSES:
            return f"scause {value:#x} ({_RISCV_CAUSES[value]})"
        case _, "icptcode" if value in _S390_INTERCEPTS:
            return f"icptcode {value:#x} ({_S390_INTERCEPTS[value]})"
    return None


def _exit_reason(value: int, isa: int | None) -> str | None:
    if isa == _VMX:
        known = vmx.REASONS.get(value & 0xFFFF)
        failed = " FAILED_VMENTRY" if value & vmx.ENTRY_FAILURE else ""
        return f"{known.name}{failed}" if known else None
    if isa == _SVM:
        return svm.code_name(value)
    return None
