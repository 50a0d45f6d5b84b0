"""An emulation that failed: what KVM could fetch, and why it emulated at all.

The order of arch/x86/kvm/x86.c: x86_emulate_instruction fetches, decodes and executes; its callers are the handlers of
exits, and on Intel handle_invalid_guest_state for what the CPU cannot enter.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from kvmwhy.abi.internal_error import Reading
from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.abi.x86.describe import ExitWords, WordAccess
from kvmwhy.abi.x86.page_fault import PRESENT, RESERVED
from kvmwhy.record import Failure

INVALID_STATE: Final = vmx.ENTRY_FAILURE | vmx.INVALID_STATE
_PVM_RING0: Final = 0x1000
# Exits whose producer reports no bytes although nothing was wrong with the fetch: VMX instructions
# and INVPCID with their operand on MMIO (kvm_handle_memory_failure), ENCLS, invalid guest state.
OPERAND_VMX: Final = frozenset({19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 58})
OPERAND_SVM: Final = frozenset({0x80, 0x82, 0x83})
_ENCLS: Final = 60
_TASK_SWITCH: Final = {"vmx": 9, "svm": 0x7D}
# Mnemonics of VMX and SVM: KVM carries them out by handlers of their own, never by the emulator.
VIRTUALIZATION: Final = frozenset(
    {
        *("vmlaunch", "vmresume", "vmptrld", "vmptrst", "vmclear", "vmread", "vmwrite", "vmxon", "vmxoff", "vmfunc"),
        *("invept", "invvpid", "vmcall", "vmrun", "vmload", "vmsave", "vmmcall", "stgi", "clgi", "skinit", "invlpga"),
    }
)


class Fetch(StrEnum):
    """What became of reading the instruction."""

    READ = "read"  # KVM has bytes of it
    FAULTED = "faulted"  # the exit itself was an instruction fetch
    NO_BYTES = "no-bytes"  # KVM reports that it could read not one
    OWN_WALK = "own-walk"  # the CPU had read it; KVM's own walk of the guest's page tables failed
    NOT_SHOWN = "not-shown"


class Why(StrEnum):
    """Why KVM emulated an instruction instead of leaving it to the CPU."""

    FETCH = "fetch"  # the CPU could not fetch it
    OPERAND = "operand"  # its operand is not RAM, or KVM protects it
    EVENT = "event"  # an event was being delivered: the instruction at RIP is innocent
    INVALID_STATE = "invalid-state"  # Intel: the CPU cannot enter with this state
    REAL_MODE = "real-mode"  # no unrestricted guest, or its equivalent: KVM emulates real mode as a whole
    INTERCEPT = "intercept"  # the exit asks for it: strings of I/O, control registers, RSM
    TASK_SWITCH = "task-switch"
    NESTED = "nested"  # an instruction of VMX or SVM, which has a handler of its own
    SGX = "sgx"
    RING0 = "ring0"  # kvm_pvm emulates a guest's ring 0
    NOT_SHOWN = "not-shown"


def walk_error(failure: Failure) -> int | None:
    """The page-fault code with which KVM's own walk failed before the emulation did, where a trace has it.

    ``kvm_mmu_walker_error`` is traced by walk_addr_generic in paging_tmpl.h.
    """
    if failure.emulation is None:
        return None
    error_code = None
    for event in failure.trace:
        if event.name == "kvm_exit":
            error_code = None
        elif event.name == "kvm_mmu_walker_error":
            code = event.fields.get("pferr", event.fields.get("error_code"))
            error_code = code if isinstance(code, int) else PRESENT | RESERVED if "RSVD" in str(code) else 0
    return error_code


def fetch_of(
    failure: Failure,
    reading: Reading | None,
    words: ExitWords | None,
    word_access: WordAccess | None,
    vendor: str | None,
) -> Fetch:
    """What the record, or the trace, says of the fetch."""
    if failure.suberror != 1 and failure.emulation is None:
        return Fetch.NOT_SHOWN
    if word_access is not None and word_access.kind in {"fetch", "page-walk"}:
        return Fetch.FAULTED
    if walk_error(failure) is not None:
        return Fetch.OWN_WALK
    if failure.emulation is not None:
        insn: bytes | None = failure.emulation.insn
    else:
        insn = reading.failure.insn if reading else None
    if insn:
        return Fetch.READ
    if not _says_no_bytes(failure, reading, words, vendor):
        return Fetch.NOT_SHOWN
    # The CPU made a data access, so it had fetched the instruction; it is KVM's walk that found nothing.
    return (
        Fetch.OWN_WALK
        if word_access is not None and word_access.kind in {"read", "write"} and word_access.certain
        else Fetch.NO_BYTES
    )


def _says_no_bytes(failure: Failure, reading: Reading | None, words: ExitWords | None, vendor: str | None) -> bool:
    """The final form without bytes says so, unless another producer than the emulator wrote it."""
    if failure.emulation is not None:
        return True
    if reading is None or reading.failure.layout != "final-no-bytes":
        return False
    if words is None:  # the record is cut behind the exit reason; that there are no bytes stands before it
        return reading.failure.reason in {vmx.EPT_VIOLATION, vmx.EPT_MISCONFIG, svm.NPF}
    if words.no_exit_yet:
        return False
    basic = words.reason & 0xFFFF
    if vendor in {"vmx", None} and (basic in OPERAND_VMX or basic in {_ENCLS, vmx.INVALID_STATE, vmx.UNDEFINED}):
        return False
    if vendor == "svm" and words.reason in OPERAND_SVM:
        return False
    return not reading.failure.debug


def why_by_words(
    words: ExitWords | None, word_access: WordAccess | None, vendor: str | None, *, delivering: bool
) -> Why:
    """What the exit words alone say."""
    if words is None:
        return Why.NOT_SHOWN
    if delivering:
        return Why.EVENT
    if word_access is not None and word_access.kind in {"fetch", "page-walk"}:
        return Why.FETCH
    if vendor == "vmx":
        basic = words.reason & 0xFFFF
        if words.reason == INVALID_STATE or words.no_exit_yet:
            return Why.INVALID_STATE
        if basic in {vmx.EPT_VIOLATION, vmx.EPT_MISCONFIG, vmx.APIC_ACCESS, vmx.EXCEPTION_NMI}:
            return Why.OPERAND
        if basic in OPERAND_VMX:
            return Why.NESTED
        if basic == _ENCLS:
            return Why.SGX
    elif vendor == "svm":
        if words.reason in {svm.NPF, svm.PF}:
            return Why.OPERAND
        if words.reason in OPERAND_SVM:
            return Why.NESTED
    elif vendor == "pvm":
        return Why.RING0 if words.reason == _PVM_RING0 else Why.NOT_SHOWN
    if words.reason & 0xFFFF == _TASK_SWITCH.get(vendor or "", -1):
        return Why.TASK_SWITCH
    return Why.INTERCEPT if vendor in {"vmx", "svm"} else Why.NOT_SHOWN
