"""The events of one vCPU around a failure, as the record has it."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from kvmwhy.abi import error_numbers, kvm_run
from kvmwhy.abi.arm64 import esr as syndrome_register
from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.readers.trace import symbols
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.record import Arch, Code, Cpu, Emulation, Event, Exit, Failure, Kind, Source

_KINDS: Final[dict[int | None, Kind]] = {
    kvm_run.EXIT_UNKNOWN: "unknown-exit",
    kvm_run.EXIT_EXCEPTION: "exception-exit",
    kvm_run.EXIT_SHUTDOWN: "shutdown",
    kvm_run.EXIT_FAIL_ENTRY: "entry-failure",
    kvm_run.EXIT_INTERNAL_ERROR: "internal-error",
}
_ISAS: Final[dict[int, Literal["vmx", "svm"]]] = {symbols.VMX: "vmx", symbols.SVM: "svm"}
_U64: Final = (1 << 64) - 1
_FETCH: Final = 1 << 4  # PFERR_FETCH_MASK
UD: Final = 6
_TRIPLE_FAULT: Final = 2  # EXIT_REASON_TRIPLE_FAULT
_SHUTDOWN: Final = 0x7F  # SVM_EXIT_SHUTDOWN
# A field that only one architecture's kvm_exit, kvm_entry or fault event has.
_ARCH_FIELDS: Final[tuple[tuple[frozenset[str], Arch], ...]] = (
    (frozenset({"isa", "guest_rip", "intr_info"}), "x86"),
    (frozenset({"esr_ec", "esr", "hsr"}), "arm64"),
    (frozenset({"scause"}), "riscv64"),
    (frozenset({"pswaddr"}), "s390x"),
    (frozenset({"trap", "pexcp"}), "ppc64"),
)
_REGISTERS: Final = (
    ("guest_rip", "rip"), ("vcpu_pc", "pc"), ("sepc", "pc"), ("pc", "nip"), ("pswmask", "psw_mask"),
    ("pswaddr", "psw_addr"), ("msr", "msr"), ("esr", "esr_el2"), ("hsr", "esr_el2"), ("far", "far_el2"),
    ("hxfar", "far_el2"), ("scause", "scause"),
    ("stval", "stval"), ("htval", "htval"), ("htinst", "htinst"),
)  # fmt: skip

LOST: Final = "the trace lost events shortly before: what is missing may belong to this vCPU"
UNSEEN: Final = "the trace does not show whether KVM told userspace of the failed emulation"
# libtraceevent's KVM plugin (1.7.1) prints what is left in a static buffer where there are no bytes.
STALE: Final = "trace-cmd printed bytes of an earlier instruction here; KVM had fetched none"
NOT_FETCHED: Final = "the bytes that were printed here are an earlier instruction's; KVM's walk to this one had failed"
CUT: Final = "the trace ends before KVM returned to userspace"
_ARCH_FROM: Final = "event format"
WENT_ON: Final = "KVM did not stop for the failed emulation, and the trace does not show what it did instead"


def failed_emulation(
    vcpu: int | None,
    event: TraceEvent,
    exit_: Exit | None,
    recent: tuple[TraceEvent, ...],
    *,
    injected: int | None,
    told: bool | None,
    walk: TraceEvent | None,
    path: str | None,
) -> Failure:
    """``injected``: the exception that the guest got for it. ``told``: userspace got KVM_EXIT_INTERNAL_ERROR.

    Either is None if the trace does not show it. ``walk`` is a walk of the guest's page tables that failed before.
    """
    seen = emulation(event)
    stale = bool(seen.insn) and "flags" not in event.fields and _of_a_fetch(exit_)
    unfetched = bool(seen.insn) and not stale and _fetch_failed(walk, seen)
    silent = injected == UD and not told
    heard = told or (told is None and injected is None)
    remarks = (*((STALE,) if stale else ()), *((NOT_FETCHED,) if unfetched else ()))
    return Failure(
        kind="internal-error" if heard else "other",
        arch="x86",
        arch_from=_ARCH_FROM,
        source=_source(path, event, vcpu),
        suberror=1 if heard else None,
        exit_reason=kvm_run.EXIT_INTERNAL_ERROR if told else None,
        emulation=msgspec.structs.replace(seen, insn=b"") if remarks else seen,
        exit=exit_,
        silent=silent,
        cpu=Cpu(registers={"rip": seen.rip}, wide=None if seen.mode is None else seen.mode == "long64"),
        trace=tuple(_without_bytes(shown(e), seen.rip) if remarks else shown(e) for e in recent),
        damage=(*remarks, *(() if silent or told else (_unclear(injected, told),))),
    )


def _of_a_fetch(exit_: Exit | None) -> bool:
    """An access that was an instruction fetch: I/D of an NPF's error code, bit 2 of an EPT qualification."""
    if exit_ is None or exit_.info1 is None:
        return False
    if exit_.isa == "svm":
        return exit_.reason == svm.NPF and bool(exit_.info1 >> 4 & 1)
    return exit_.isa == "vmx" and exit_.reason == vmx.EPT_VIOLATION and bool(exit_.info1 >> 2 & 1)


def _fetch_failed(walk: TraceEvent | None, seen: Emulation) -> bool:
    """KVM walked the guest's page tables to fetch this instruction, and the walk ended in an error."""
    if walk is None:
        return False
    return bool((walk.number("pferr") or 0) & _FETCH) and walk.number("addr") == seen.cs_base + seen.rip & _U64


def _unclear(injected: int | None, told: bool | None) -> str:
    if injected is not None:  # #GP, of an instruction that was tried for VMware's sake (EMULTYPE_VMWARE_GP)
        return f"KVM injected {MNEMONICS.get(injected, f'exception {injected}')} for the failed emulation, and went on"
    return UNSEEN if told is None else WENT_ON


def userspace_exit(
    vcpu: int | None,
    event: TraceEvent,
    exit_: Exit | None,
    recent: tuple[TraceEvent, ...],
    *,
    arch: Arch | None,
    registers: dict[str, int],
    path: str | None,
) -> Failure:
    """A return to userspace that is a failure by itself: no failed emulation came before it."""
    errno = -(event.number("errno") or 0)
    reason = _reason(event) if errno <= 0 else None
    kind: Kind = "run-error" if errno > 0 else _KINDS.get(reason, "other")
    number = exit_.reason if exit_ else None
    on_vmx = exit_ is not None and exit_.isa == "vmx"
    exception = exit_.intr_info if exit_ and on_vmx and kind == "exception-exit" else None
    return Failure(
        kind=kind,
        arch=arch,
        arch_from=_ARCH_FROM if arch else None,
        source=_source(path, event, vcpu),
        # VMX hands the whole reason over. SVM's word depends on the kernel, so it is left to ``exit``.
        hardware_error=number if kind == "entry-failure" and on_vmx and (number or 0) & vmx.ENTRY_FAILURE else None,
        hardware_reason=number if kind == "unknown-exit" else None,
        exception=exception & 0xFF if exception else None,
        errno=_errno(errno) if errno > 0 else None,
        exit_reason=reason,
        cpu=Cpu(registers=registers, smm=_in_smm(recent)) if registers else None,
        exit=exit_,
        trace=tuple(map(shown, recent)),
    )


def _in_smm(recent: tuple[TraceEvent, ...]) -> bool | None:
    """By the last transition that is traced: a field of the binary form, a word of the text (arch/x86/kvm/trace.h)."""
    for event in reversed(recent):
        if event.name == "kvm_smm_transition":
            text = event.fields.get("text")
            return "entering" in text if isinstance(text, str) else bool(event.number("entering"))
    return None


def _emulated_at(rip: int | None, recent: tuple[TraceEvent, ...]) -> Emulation | None:
    """The instruction there, if KVM had emulated it shortly before: its bytes are those of the same address."""
    for event in reversed(recent):
        if event.name == "kvm_emulate_insn" and "flags" in event.fields and event.number("rip") == rip:
            return emulation(event)
    return None


def _errno(number: int) -> str:
    return error_numbers.NAMES.get(number, str(number))


def fatal_exit(
    vcpu: int | None,
    event: TraceEvent,
    exit_: Exit | None,
    recent: tuple[TraceEvent, ...],
    *,
    is_last: bool,
    path: str | None,
) -> Failure:
    """An exit after which KVM returns to userspace, of which the trace does not show the return."""
    shutdown = is_shutdown(event)
    seen = _emulated_at(event.number("guest_rip"), recent)
    on_vmx = exit_ is not None and exit_.isa == "vmx"
    return Failure(
        kind="shutdown" if shutdown else "entry-failure",
        arch="x86",
        arch_from=_ARCH_FROM,
        source=_source(path, event, vcpu),
        hardware_error=exit_.reason if exit_ and on_vmx and not shutdown else None,
        cpu=Cpu(registers=registers_of(event), wide=seen.mode == "long64" if seen and seen.mode else None),
        code=Code(tuple(seen.insn), 0) if seen and seen.insn else None,
        exit=exit_,
        trace=tuple(map(shown, recent)),
        damage=(CUT,) if is_last else (),
    )


def is_shutdown(event: TraceEvent) -> bool:
    """A triple fault."""
    reason, isa = event.number("exit_reason"), event.number("isa")
    return (reason, isa) in {(_TRIPLE_FAULT, symbols.VMX), (_SHUTDOWN, symbols.SVM)}


def is_fatal(event: TraceEvent) -> bool:
    """An exit that KVM does not handle: a triple fault, or an entry that did not happen."""
    reason, isa = event.number("exit_reason") or 0, event.number("isa")
    failed_vmrun = isa == symbols.SVM and reason in svm.VMEXIT_INVALID
    refused = bool(reason & vmx.ENTRY_FAILURE) if isa == symbols.VMX else failed_vmrun
    return refused or is_shutdown(event)


def arch_of(event: TraceEvent) -> Arch | None:
    """What the form of an exit or an entry tells."""
    fields = event.fields
    for names, arch in _ARCH_FIELDS:
        if not names.isdisjoint(fields):
            return arch
    return None


def registers_of(event: TraceEvent) -> dict[str, int]:
    """The program counter, and the fault's address where the event has it, by the architecture's names."""
    fields = event.fields
    return {ours: value for name, ours in _REGISTERS if isinstance(value := fields.get(name), int)}


def _reason(event: TraceEvent) -> int | None:
    if event.name == "kvmppc_run_vcpu_exit":
        return event.number("exit")
    return event.number("reason")


def incomplete(failure: Failure) -> Failure:
    return msgspec.structs.replace(failure, damage=(*failure.damage, LOST))


def emulation(event: TraceEvent) -> Emulation:
    insn = event.fields.get("insn")
    try:
        code = bytes.fromhex(insn) if isinstance(insn, str) else b""
    except ValueError:
        code = b""
    flags = event.number("flags")
    return Emulation(
        rip=(event.number("rip") or 0) & _U64,
        cs_base=(event.number("csbase") or 0) & _U64,
        insn=code[:15],
        mode=None if flags is None else symbols.MODES.get(flags),
    )


def vm_exit(event: TraceEvent | None, isa: int | None, fault: TraceEvent | None = None) -> Exit | None:
    """``isa`` is what other exits of the same host say; ``fault`` is arm64's kvm_guest_fault of the same exit."""
    if event is None:  # a fault's own event may be all that was recorded
        syndrome = _syndrome(fault) if fault else None
        if fault is None or syndrome is None:
            return None
        return Exit(reason=syndrome_register.exception_class(syndrome), info1=syndrome, info2=fault.number("ipa"))
    reason = event.number("exit_reason")
    if reason is not None:
        return Exit(
            reason=reason,
            info1=event.number("info1"),
            info2=event.number("info2"),
            intr_info=event.number("intr_info"),
            error_code=event.number("error_code"),
            isa=_ISAS.get(event.number("isa") or isa or 0),
        )
    if (cause := event.number("scause")) is not None:
        return Exit(reason=cause, info1=event.number("stval"), info2=_guest_physical(event))
    if (exception_class := event.number("esr_ec")) is not None:
        esr = _syndrome(fault) if fault else None
        return Exit(reason=exception_class, info1=esr, info2=fault.number("ipa") if fault else None)
    if (code := event.number("icptcode")) is not None:
        return Exit(reason=code)
    return None


def _syndrome(fault: TraceEvent) -> int | None:
    """The text has one name for it; kvm_guest_fault's own field is ``hsr``, kvm_mmio_nisv's ``esr``."""
    esr = fault.number("esr")
    return fault.number("hsr") if esr is None else esr


def _guest_physical(event: TraceEvent) -> int | None:
    """HTVAL has the address without its two low bits, which STVAL has (privileged spec, htval)."""
    htval, stval = event.number("htval"), event.number("stval")
    return htval << 2 | (stval or 0) & 3 if htval else None


def _without_bytes(event: Event, rip: int) -> Event:
    """The event of an instruction whose printed bytes are not its own."""
    if event.name != "kvm_emulate_insn" or event.fields.get("rip") != rip:
        return event
    fields = {name: value for name, value in event.fields.items() if name not in {"insn", "len"}}
    return msgspec.structs.replace(event, fields=fields)


def shown(event: TraceEvent) -> Event:
    return Event(name=event.name, time=event.time, fields=event.fields)


def _source(path: str | None, event: TraceEvent, vcpu: int | None) -> Source:
    time = None if event.time is None else f"{event.time:.6f}"
    return Source(path=path, line=event.place or None, vcpu=vcpu, time=time, writer=f"thread {event.pid}")
