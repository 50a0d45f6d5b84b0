"""The events of one vCPU around a failure, as the record has it."""

from __future__ import annotations

from errno import errorcode
from typing import Final, Literal

import msgspec

from kvmwhy.abi import kvm_run
from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.abi.x86.exceptions import MNEMONICS
from kvmwhy.readers.trace import symbols
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.record import Emulation, Event, Exit, Failure, Kind, Source

_KINDS: Final[dict[int | None, Kind]] = {
    kvm_run.EXIT_UNKNOWN: "unknown-exit",
    kvm_run.EXIT_EXCEPTION: "exception-exit",
    kvm_run.EXIT_SHUTDOWN: "shutdown",
    kvm_run.EXIT_FAIL_ENTRY: "entry-failure",
    kvm_run.EXIT_INTERNAL_ERROR: "internal-error",
}
_ISAS: Final[dict[int, Literal["vmx", "svm"]]] = {symbols.VMX: "vmx", symbols.SVM: "svm"}
_U64: Final = (1 << 64) - 1
UD: Final = 6

LOST: Final = "the trace lost events shortly before: what is missing may belong to this vCPU"
UNSEEN: Final = "the trace does not show whether KVM told userspace of the failed emulation"
# libtraceevent's KVM plugin (1.7.1) prints what is left in a static buffer where there are no bytes.
STALE: Final = "trace-cmd printed bytes of an earlier instruction here; KVM had fetched none"
WENT_ON: Final = "KVM did not stop for the failed emulation, and the trace does not show what it did instead"


def failed_emulation(
    vcpu: int | None,
    event: TraceEvent,
    exit_: Exit | None,
    recent: tuple[TraceEvent, ...],
    *,
    injected: int | None,
    told: bool | None,
    path: str | None,
) -> Failure:
    """``injected``: the exception that the guest got for it. ``told``: userspace got KVM_EXIT_INTERNAL_ERROR.

    Either is None if the trace does not show it.
    """
    seen = emulation(event)
    stale = bool(seen.insn) and "flags" not in event.fields and _of_a_fetch(exit_)
    silent = injected == UD and not told
    heard = told or (told is None and injected is None)
    return Failure(
        kind="internal-error" if heard else "other",
        source=_source(path, event, vcpu),
        suberror=1 if heard else None,
        exit_reason=kvm_run.EXIT_INTERNAL_ERROR if told else None,
        emulation=msgspec.structs.replace(seen, insn=b"") if stale else seen,
        exit=exit_,
        silent=silent,
        trace=tuple(map(shown, recent)),
        damage=(*((STALE,) if stale else ()), *(() if silent or told else (_unclear(injected, told),))),
    )


def _of_a_fetch(exit_: Exit | None) -> bool:
    """An access that was an instruction fetch: I/D of an NPF's error code, bit 2 of an EPT qualification."""
    if exit_ is None or exit_.info1 is None:
        return False
    if exit_.isa == "svm":
        return exit_.reason == svm.NPF and bool(exit_.info1 >> 4 & 1)
    return exit_.isa == "vmx" and exit_.reason == vmx.EPT_VIOLATION and bool(exit_.info1 >> 2 & 1)


def _unclear(injected: int | None, told: bool | None) -> str:
    if injected is not None:  # #GP, of an instruction that was tried for VMware's sake (EMULTYPE_VMWARE_GP)
        return f"KVM injected {MNEMONICS.get(injected, f'exception {injected}')} for the failed emulation, and went on"
    return UNSEEN if told is None else WENT_ON


def userspace_exit(
    vcpu: int | None, event: TraceEvent, exit_: Exit | None, recent: tuple[TraceEvent, ...], *, path: str | None
) -> Failure:
    """A return to userspace that is a failure by itself: no failed emulation came before it."""
    errno = -(event.number("errno") or 0)
    reason = event.number("reason") if errno <= 0 else None
    kind: Kind = "run-error" if errno > 0 else _KINDS.get(reason, "other")
    number = exit_.reason if exit_ else None
    on_vmx = exit_ is not None and exit_.isa == "vmx"
    exception = exit_.intr_info if exit_ and on_vmx and kind == "exception-exit" else None
    return Failure(
        kind=kind,
        source=_source(path, event, vcpu),
        # VMX hands the whole reason over. SVM's word depends on the kernel, so it is left to ``exit``.
        hardware_error=number if kind == "entry-failure" and on_vmx and (number or 0) & vmx.ENTRY_FAILURE else None,
        hardware_reason=number if kind == "unknown-exit" else None,
        exception=exception & 0xFF if exception else None,
        errno=errorcode.get(errno, str(errno)) if errno > 0 else None,
        exit_reason=reason,
        exit=exit_,
        trace=tuple(map(shown, recent)),
    )


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


def vm_exit(event: TraceEvent | None, isa: int | None) -> Exit | None:
    """``isa`` is what other exits of the same host say."""
    reason = event.number("exit_reason") if event else None
    if event is None or reason is None:
        return None
    return Exit(
        reason=reason,
        info1=event.number("info1"),
        info2=event.number("info2"),
        intr_info=event.number("intr_info"),
        error_code=event.number("error_code"),
        isa=_ISAS.get(event.number("isa") or isa or 0),
    )


def shown(event: TraceEvent) -> Event:
    return Event(name=event.name, time=event.time, fields=event.fields)


def _source(path: str | None, event: TraceEvent, vcpu: int | None) -> Source:
    time = None if event.time is None else f"{event.time:.6f}"
    return Source(path=path, line=event.place or None, vcpu=vcpu, time=time, writer=f"thread {event.pid}")
