"""A plan on a machine: memory, state, KVM_RUN until it ends. Bounded in time and in exits.

The guest gets no device: reads of what is not memory are answered with zeros, and after a few exits, or
half a second, it is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Final

from kvmwhy.abi.x86.exceptions import mnemonic
from kvmwhy.machine import (
    CapabilityAbsentError,
    Events,
    ExceptionExit,
    Exit,
    FailEntry,
    Hlt,
    InternalError,
    Io,
    Machine,
    MachineError,
    Mmio,
    RefusedStateError,
    Regs,
    Shutdown,
    Sregs,
    TimedOut,
    Unknown,
    Vcpu,
    X86Rdmsr,
    X86Wrmsr,
    replace,
)
from kvmwhy.reproduce.descriptors import STEP, VECTORS
from kvmwhy.reproduce.guest_plan import Plan
from kvmwhy.reproduce.outcome import Ended
from kvmwhy.reproduce.tables import PAGE

MAX_EXITS: Final = 64
SECONDS: Final = 1.0
_ALL_SECONDS: Final = 2.0
_CAP204: Final = "KVM_CAP_EXIT_ON_EMULATION_FAILURE"
_XSAVE_LEAF: Final = 0xD
_XCR0: Final = 0xE7  # x87, SSE, AVX, AVX-512: what needs no permission of its own
_AVX512: Final = 0xE0
# What must stay: it decides how code is decoded and addresses are mapped. The rest may go where it is refused.
_CR4_NEEDED: Final = 1 << 4 | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 18
_CR4_SMALL: Final = _CR4_NEEDED | 1 << 7 | 1 << 20 | 1 << 21  # PGE, SMEP, SMAP too
_EFER_NEEDED: Final = 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11
_CR0_NEEDED: Final = 0xE005_003F
_LMA, _PG = 1 << 10, 1 << 31


def run(plan: Plan, machine: Machine) -> Ended:
    """Run the plan on an empty machine. What KVM refuses is an end as well; never raises MachineError.

    Where it does not fail as it should, the instruction is run once more with HLT behind it.
    """
    try:
        vcpu, left_out = load(plan, machine)
    except MachineError as error:
        return Ended("refused", error=error.fact)
    try:
        ended = replace(_run(plan, vcpu), left_out=left_out)
        expected = plan.expected
        if expected.suberror == 1 and (ended.suberror != 1 or ended.rip != plan.rip):
            return replace(ended, alone=_alone(plan, machine, vcpu))
    except MachineError as error:
        return Ended("error", error=error.fact, left_out=left_out)
    return ended


def load(plan: Plan, machine: Machine) -> tuple[Vcpu, tuple[str, ...]]:
    """The vCPU that is about to run, and what of its state this machine refused. Raises MachineError."""
    left_out: list[str] = []
    for ram in plan.memory:
        machine.add_memory(ram.gpa, ram.size, readonly=ram.readonly)
    for content in plan.contents:
        machine.write(content.gpa, content.data)
    if plan.cap204:
        try:
            machine.enable(_CAP204, 1)
        except CapabilityAbsentError:
            left_out.append(f"{_CAP204}, which this kernel does not have")
    vcpu = machine.create_vcpu()
    cpuid = machine.supported_cpuid()
    vcpu.set_cpuid(cpuid)
    _set_sregs(plan, vcpu, left_out)
    if plan.xsave:
        offered = next((e.eax for e in cpuid if e.function == _XSAVE_LEAF and e.index == 0), 0) & _XCR0
        if offered & _AVX512 != _AVX512:
            offered &= ~_AVX512
        if offered:
            vcpu.set_xcrs({0: offered})
    if plan.first is not None:
        _touch(plan.first, vcpu)
        _set_sregs(plan, vcpu, [])
    vcpu.set_regs(plan.regs)
    if plan.events is not None:
        vcpu.set_events(plan.events)
    return vcpu, tuple(left_out)


def _touch(regs: Regs, vcpu: Vcpu) -> None:
    """Run until the load from the hole exits: KVM knows the page from then on."""
    vcpu.set_regs(regs)
    exit_ = vcpu.run(timeout=SECONDS)
    if isinstance(exit_, Mmio) and not exit_.is_write:
        vcpu.complete(bytes(exit_.len))
    vcpu.settle()
    vcpu.set_events(Events())


def _alone(plan: Plan, machine: Machine, vcpu: Vcpu) -> str | None:
    """What the instruction does when nothing comes after it: ``carried out``, or None if that is not what it did."""
    page = dict(plan.mapped).get(plan.rip & -PAGE)
    end = (plan.rip & 0xFFF) + len(plan.insn)
    if page is None or not plan.insn or end >= PAGE or plan.events is not None:
        return None
    vcpu.settle()
    for content in plan.contents:
        machine.write(content.gpa, content.data)
    machine.write((page | plan.rip & 0xFFF) + len(plan.insn), b"\xf4")
    vcpu.set_events(Events())
    vcpu.set_regs(plan.regs)
    _set_sregs(plan, vcpu, [])
    ended = _run(plan, vcpu)
    if ended.how == "halted" and ended.rip == plan.rip + len(plan.insn) + 1:
        return "carried out"
    if ended.how == "halted" and ended.vector is not None:
        return f"took {mnemonic(ended.vector)}"
    return None


def _set_sregs(plan: Plan, vcpu: Vcpu, left_out: list[str]) -> None:
    """The state as it was; bits that this machine does not have go, but not if they are the question."""
    sregs = replace(plan.sregs, apic_base=vcpu.get_sregs().apic_base)
    for attempt in _weaker(sregs):
        try:
            vcpu.set_sregs(attempt)
        except RefusedStateError:
            if plan.exact:
                raise
            last = attempt
            continue
        for name in ("cr0", "cr4", "efer"):
            gone = getattr(sregs, name) & ~getattr(attempt, name)
            if gone:
                left_out.append(f"{gone:#x} of {name.upper()}, which this machine refuses")
        return
    vcpu.set_sregs(last)  # raises: nothing helped


def _weaker(sregs: Sregs) -> Iterator[Sregs]:
    yield sregs
    for cr4 in (_CR4_SMALL, _CR4_NEEDED):
        yield replace(sregs, cr4=sregs.cr4 & cr4)
        yield replace(sregs, cr4=sregs.cr4 & cr4, efer=sregs.efer & _EFER_NEEDED, cr0=sregs.cr0 & _CR0_NEEDED)
    if not sregs.cr0 & _PG:  # an L bit or LMA left over from before
        code = replace(sregs.cs, l=0)
        cr4 = sregs.cr4 & _CR4_NEEDED
        yield replace(sregs, cr4=cr4, efer=sregs.efer & ~_LMA & _EFER_NEEDED, cr0=sregs.cr0 & _CR0_NEEDED, cs=code)


# -- running -------------------------------------------------------------------------------------------


def _run(plan: Plan, vcpu: Vcpu) -> Ended:
    exits: list[str] = []
    touched: list[int] = []
    until = monotonic() + _ALL_SECONDS
    last: Exit | None = None
    for _ in range(MAX_EXITS):
        last = vcpu.run(timeout=SECONDS)
        exits.append(_describe(last))
        match last:
            case Mmio(phys_addr=gpa, is_write=write, len=size):
                touched.append(gpa)
                if not write:
                    vcpu.complete(bytes(size))
            case Io(is_write=False, size=size, count=count):
                vcpu.complete(bytes(size * count))
            case X86Rdmsr() | X86Wrmsr():
                vcpu.refuse()
            case Io():
                pass
            case _:
                break
        if monotonic() > until:
            break
    if plan.warm and plan.first is None and touched:
        touched.pop(0)  # the prelude's own
    ended = _end(plan, vcpu, last)
    return replace(ended, exits=tuple(exits), touched=tuple(touched))


def _end(plan: Plan, vcpu: Vcpu, last: Exit | None) -> Ended:
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    rip = regs.rip if sregs.cs.l and sregs.efer & _LMA else sregs.cs.base + regs.rip & 0xFFFF_FFFF
    match last:
        case InternalError(suberror=suberror, words=words):
            return Ended("internal-error", suberror=suberror, words=words, rip=rip)
        case FailEntry(hardware_entry_failure_reason=number):
            return Ended("entry-failure", number=number, rip=rip)
        case ExceptionExit(exception=vector):
            return Ended("exception-exit", number=vector, rip=rip)
        case Unknown(hardware_exit_reason=number):
            return Ended("unknown-exit", number=number, rip=rip)
        case Shutdown():
            return Ended("shutdown", rip=rip)
        case Hlt():
            return Ended("halted", rip=rip, vector=_vector(plan, rip - 1))
        case TimedOut() | Mmio() | Io():
            return Ended("looped", rip=rip)
    return Ended("other", rip=rip)


def _vector(plan: Plan, at: int) -> int | None:
    if plan.handlers is None or not plan.handlers <= at < plan.handlers + STEP * VECTORS:
        return None
    return (at - plan.handlers) // STEP


def _describe(exit_: Exit) -> str:
    match exit_:
        case Mmio(phys_addr=gpa, is_write=write, len=size):
            return f"MMIO {'write' if write else 'read'} of {size} at {gpa:#x}"
        case Io(port=port, is_write=write, size=size):
            return f"{'OUT to' if write else 'IN from'} port {port:#x}, {size} bytes"
        case TimedOut(seconds=seconds):
            return f"no exit within {seconds:g} s"
        case InternalError(suberror=suberror, ndata=ndata):
            return f"KVM_EXIT_INTERNAL_ERROR, suberror {suberror}, ndata {ndata}"
        case FailEntry(hardware_entry_failure_reason=number):
            return f"KVM_EXIT_FAIL_ENTRY, {number:#x}"
    return exit_.name
