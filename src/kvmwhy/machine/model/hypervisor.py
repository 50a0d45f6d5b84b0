"""The modelled kernel: what KVM does with each reason for which the guest cannot run on."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.kvm_run import EXIT_SHUTDOWN
from kvmwhy.machine.exits import Hlt
from kvmwhy.machine.model import exit_info
from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.context import Context, Work
from kvmwhy.machine.model.cpu import Stop
from kvmwhy.machine.model.emulate_instruction import Carrier
from kvmwhy.machine.model.events import (
    EXTERNAL,
    NON_MASKABLE,
    SOFTWARE,
    SOFTWARE_EXCEPTION,
    Event,
    combine,
    deliver,
    of_fault,
)
from kvmwhy.machine.model.exit_info import Touch
from kvmwhy.machine.model.fetch import fetch
from kvmwhy.machine.model.kernel import delivery_words, failure_words, on_failure, simultaneous_words
from kvmwhy.machine.model.paging import PAGE
from kvmwhy.machine.model.ports import port
from kvmwhy.machine.model.traps import BP, OF, PF, UD, GuestFault, Hole, Kind
from kvmwhy.machine.model.unsupported_instruction import beyond_unicorn
from kvmwhy.machine.model.vm_entry import Shadow, refusal

_XSAVE_HEADER: Final = 512


def enter(context: Context) -> Work:
    """Enter the guest once, with what is queued, and deal with why it stops."""
    env, settings = context.cpu.env, context.settings
    context.gpa = None
    event = context.queue.next()
    held = bool(env.hflags & 1 << 3)
    context.mov_ss &= held
    reason = refusal(settings, env, event, Shadow(held and not context.mov_ss, held and context.mov_ss))
    if reason is not None:
        context.page.fail_entry(reason)
        yield True
        return
    if event is not None:
        context.queue.take()
        yield from _inject(context, event)
        return
    before = context.standing
    stop = context.cpu.run()
    context.moves += context.standing != before
    match stop.what:
        case "halted":
            context.page.reason(Hlt.number)
            yield True
        case "interrupt":
            yield from _inject(context, _event_of(context, stop))
        case "invalid":
            trap = yield from beyond_unicorn(context)
            if trap is not None:
                yield from _trapped(context, trap)
        case "blocked":
            if stop.trap is not None:
                yield from _trapped(context, stop.trap)
        case "port":
            yield from port(context, stop)
        case _:
            yield False


def _trapped(context: Context, trap: GuestFault | Hole) -> Work:
    if isinstance(trap, GuestFault):
        yield from _inject(context, of_fault(trap, real=context.real))
        return
    _exit(context, trap, None)
    yield from _emulate(context)


# -- events ------------------------------------------------------------------------------------------


def _event_of(context: Context, stop: Stop) -> Event:
    """The event that Unicorn stopped for; a software one is counted from its instruction."""
    if not stop.software:
        return of_fault(GuestFault(stop.vector, stop.error_code), real=context.real)
    env = context.cpu.env
    try:
        last = context.space(system=True).number(context.cpu.linear_rip - 1, 1)
    except (GuestFault, Hole):
        last = 0
    short = stop.vector in {BP, OF} and last in {0xCC, 0xCE}
    length = 1 if short else 2
    env.eip = env.eip - length & 0xFFFF_FFFF_FFFF_FFFF
    return Event(stop.vector, SOFTWARE_EXCEPTION if short else SOFTWARE, length=length)


def _inject(context: Context, event: Event) -> Work:
    """The CPU delivers ``event``; exceptions on the way make it another one."""
    current: Event | None = event
    while current is not None:
        try:
            space, intel = context.space(system=True), context.settings.vendor != "svm"
            deliver(context.cpu.env, space, current, selector_first=intel)
        except GuestFault as fault:
            following = combine(current, of_fault(fault, real=context.real), real=context.real)
            if following is None and fault.vector == PF and context.intercepts_page_faults:
                context.queue.exception = current  # it was KVM that injected it, and it stays with KVM
            current = following
        except Hole as hole:
            yield from _vectoring(context, hole, current)
            return
        else:
            state.set_inhibit(context.cpu.env, shadow=False)
            context.moves += 1
            return
    context.page.reason(EXIT_SHUTDOWN)
    yield True


def _vectoring(context: Context, hole: Hole, event: Event) -> Work:
    """The IDT, the GDT or the handler's stack is where no memory is."""
    settings = context.settings
    touch = _exit(context, hole, event)
    if settings.vendor == "pvm":
        # Measured on 6.18: kvm_pvm delivers events itself, and shuts down.
        context.page.reason(EXIT_SHUTDOWN)
        yield True
        return
    counts = event.type != EXTERNAL or settings.vendor == "vmx"  # SVM looks at the type bits only
    if settings.shadow_paging and touch.known and settings.vendor == "vmx":
        # handle_exception_nmi: two exceptions at once, where the second is a #PF with a reserved bit
        context.queue.put_back(event)
        context.page.internal_error(2, simultaneous_words(settings.kernel, context.info))
        yield True
        return
    if touch.known and counts and not settings.shadow_paging and settings.kernel.loops_while_vectoring(settings.vendor):
        context.queue.put_back(event)
        yield False  # and the next entry meets the same
        return
    refused = settings.kernel.refuses_while_vectoring and counts
    if refused or (settings.vendor == "vmx" and context.info.reason == exit_info.EPT_MISCONFIG):
        context.queue.put_back(event)
        stale = context.qualification
        context.page.internal_error(3, delivery_words(settings.kernel, context.info, hole.gpa, stale))
        yield True
        return
    # To 6.13 the instruction at RIP is emulated, as if it had made the access. An exception that was
    # being delivered is forgotten (kvm_clear_exception_queue), an interrupt is tried again.
    if event.type in {EXTERNAL, NON_MASKABLE, SOFTWARE}:
        context.queue.put_back(event)
    yield False
    yield from _emulate(context)


# -- emulation ---------------------------------------------------------------------------------------


def _exit(context: Context, hole: Hole, event: Event | None) -> Touch:
    """Note the words of an EPT violation or misconfig, or of an NPF; KVM caches the page as MMIO."""
    settings, page = context.settings, hole.gpa // PAGE
    context.gpa = None if settings.vendor == "pvm" or settings.shadow_paging else hole.gpa
    if event is None:
        hole.kind = _asked_for(context, hole)
    mapped = hole.readonly and page in settings.mapped
    own = event is not None and settings.vendor != "pvm"
    touch = Touch(hole, page in settings.known, mapped, 0 if own else state.cpl(context.cpu.env))
    context.info = exit_info.exit_info(
        settings.vendor, settings.bench, touch, event, shadow_paging=settings.shadow_paging
    )
    if context.info.reason == exit_info.EPT_VIOLATION:
        context.qualification = context.info.info1
    if not hole.readonly:
        settings.known.add(page)
    return touch


def _asked_for(context: Context, hole: Hole) -> Kind:
    """What the CPU asks for first, where Unicorn starts with something else."""
    bench = context.settings.bench
    if bench == "tcg" or hole.walk or hole.kind == "fetch":
        return hole.kind
    try:
        instruction = fetch(context.cpu, context.memory, context.mode, context.settings.kernel.release).instruction
    except GuestFault:
        return hole.kind
    if instruction is None or not instruction.memory:
        return hole.kind
    if (instruction.mnemonic or "").startswith("xsave"):
        if bench == "bochs" and not hole.readonly:  # reads the header first
            hole.move_to(hole.linear + _XSAVE_HEADER)
            return "read"
        return hole.kind
    # A read-modify-write asks for the right to write.
    return "write" if instruction.memory[0].access.startswith("read-") else hole.kind


def _emulate(context: Context) -> Work:
    """x86_emulate_instruction: fetch, decode, execute; or give up."""
    try:
        fetched = fetch(context.cpu, context.memory, context.mode, context.settings.kernel.release)
    except GuestFault as fault:
        context.raise_fault(fault)
        return
    instruction, verdict = fetched.instruction, fetched.verdict
    if fetched.torn or verdict is None or verdict.outcome in {"fetch", "no-handler"}:
        yield from _fail(context, fetched.window)
    elif verdict.outcome == "injects-ud" or instruction is None or instruction.invalid:
        context.raise_fault(GuestFault(UD))
    elif verdict.outcome == "gives-up":
        if instruction.mnemonic == "cmpxchg16b":  # the one that reads its operand before it gives up
            yield from Carrier(context, instruction).read_operands()
        yield from _fail(context, fetched.window)
    else:
        before = context.standing
        handled = yield from Carrier(context, instruction).run()
        context.moves += context.standing != before
        if not handled:
            yield from _fail(context, fetched.window)


def _fail(context: Context, window: bytes) -> Work:
    """handle_emulation_failure."""
    settings = context.settings
    cpl = state.cpl(context.cpu.env)
    decision = on_failure(enabled=settings.exit_on_failure, skip=False, cpl=cpl, vendor=settings.vendor)
    if decision.queues_ud:
        context.queue.exception = Event(UD)
    if decision.exits:
        by_request = settings.exit_on_failure
        words = failure_words(settings.kernel, context.info, window, by_request=by_request)
        context.page.internal_error(1, words)
    yield decision.exits
