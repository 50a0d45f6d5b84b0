"""Facts before rules: what follows from one failure alone, worked out once.

Nothing here is an opinion. A fact that cannot be had is ``None`` (or ``NOT_SHOWN``); a rule that needs it stays
silent. Every fact is typed, and :meth:`Facts.at` says where it was seen; sentences are made of them at the end.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from kvmwhy.abi.internal_error import Reading, decode_emulation
from kvmwhy.abi.uname import series_of
from kvmwhy.abi.x86.describe import (
    ExitWords,
    Explained,
    WordAccess,
    access_of_delivery,
    access_of_exit,
    explain_delivery,
    explain_exit,
    explain_simultaneous,
    explain_unexpected,
)
from kvmwhy.abi.x86.entry_failure import EntryFailure, describe_entry_failure
from kvmwhy.abi.x86.record_age import Age, age_of
from kvmwhy.abi.x86.vendor_guess import VendorGuess
from kvmwhy.arch.x86.instruction import Instruction, Syntax, decode_first
from kvmwhy.arch.x86.mode import LONG64, PROT16, PROT32, REAL16, VM86, Mode, cpu_cpl, cpu_mode, linear_rip
from kvmwhy.arch.x86.operand import Operand, operand_address
from kvmwhy.arch.x86.physical_map import Place, what_lives_at
from kvmwhy.arch.x86.reset_state import UNSEEN, Loaded, ResetVerdict, State, is_reset_state
from kvmwhy.diagnosis.access import Access, access_of, nothing_at_rip
from kvmwhy.diagnosis.code_window import Window, window_of
from kvmwhy.diagnosis.delivery import Delivery, delivery_of
from kvmwhy.diagnosis.emulation import (
    INVALID_STATE,
    VIRTUALIZATION,
    Fetch,
    Why,
    fetch_of,
    walk_error,
    why_by_words,
)
from kvmwhy.diagnosis.loops import Loop, loop_of
from kvmwhy.diagnosis.vendor import vendor_of
from kvmwhy.emulator.verdict import Verdict, verdict
from kvmwhy.record import Arch, At, Failure, HostEvent

if TYPE_CHECKING:
    from kvmwhy.arch.x86.vm_entry import Checked

# Pure, and asked the same again and again: a host's failures share a few instructions and exits.
_decode = lru_cache(maxsize=4096)(decode_first)
_verdict = lru_cache(maxsize=4096)(verdict)
_explain = lru_cache(maxsize=4096)(explain_exit)

_CR0_PG: Final = 1 << 31
_RFLAGS_1: Final = 1 << 1  # always set
_MODES: Final = {"real16": REAL16, "vm86": VM86, "prot16": PROT16, "prot32": PROT32, "long64": LONG64}
_NO: Final = frozenset({"n", "0", "no", "off"})
_YES: Final = frozenset({"y", "1", "yes", "on"})


class Facts(Struct, frozen=True):
    """What one failure tells. Words that mean one thing: see docs/architecture.md.

    Of another architecture than x86 only ``failure`` and ``arch`` are filled in: the rest is about x86's registers,
    instructions and exits.
    """

    failure: Failure
    arch: Arch | None  # None: nothing shows it, and x86 is assumed
    age: Age  # which kernels can have written this record
    reading: Reading | None  # suberror 1
    vendor: VendorGuess
    words: ExitWords | None
    explained: Explained | None
    entry: EntryFailure | None
    word_access: WordAccess | None  # what the words say about the access
    vectoring: int | None  # the event-information word of an event being delivered, if there was one
    delivery: Delivery | None  # of that event, or of suberror 3
    mode: Mode | None
    code_mode: Mode | None  # the mode, or the only one in which KVM would have failed on these bytes
    cpl: int | None
    rip: int | None
    linear_rip: int | None
    paging: bool | None
    reset: ResetVerdict | None
    window: Window  # what the VMM read at RIP
    instruction: Instruction | None  # never of bytes that are none: zeros outside RAM, or another event's
    instruction_source: Literal["report", "code"] | None
    foreign_bytes: bool | None  # KVM's bytes are not those that the VMM read at RIP
    operands: tuple[Operand, ...]
    verdict: Verdict | None
    fetch: Fetch
    walk_error: int | None  # the code with which KVM's own walk of the guest's page tables failed
    why: Why  # why KVM emulated at all
    unrestricted: bool | None  # whether the host's CPU runs real mode by itself (Intel)
    checked: Checked | None  # the manual's rules held against a refused entry, where there is a state to hold them to
    access: Access | None
    loop: Loop | None  # the exit that a trace consists of

    @property
    def is_x86(self) -> bool:
        return self.arch in {"x86", None}

    @property
    def emulated(self) -> bool:
        """KVM was asked to carry out an instruction, and could not: reported, or only traced."""
        return self.failure.suberror == 1 or self.failure.emulation is not None

    @property
    def fetch_failed(self) -> bool | None:
        """KVM could not read one byte at RIP."""
        match self.fetch:
            case Fetch.READ:
                return False
            case Fetch.NO_BYTES:
                return True
            case Fetch.FAULTED if self.instruction_source != "report":
                return True if self.words is not None else None
            case Fetch.FAULTED:
                return False
        return None

    @property
    def layout(self) -> str | None:
        failure = self.failure
        if failure.kind != "internal-error":
            return None
        if self.reading:
            return None if failure.ndata is None and not failure.data else self.reading.failure.layout
        return {2: "simultaneous", 3: "delivery", 4: "unexpected"}.get(failure.suberror or 0, "unknown")

    def place_of(self, gpa: int | None) -> Place | None:
        return None if gpa is None else what_lives_at(gpa, ram_bytes=self.failure.host.ram_bytes)

    def events(self, *kinds: str) -> tuple[HostEvent, ...]:
        """The lines of the host's kernel of these kinds."""
        return tuple(event for event in self.failure.host.events if event.kind in kinds)

    def at(self, what: str) -> At:
        """Where a part of the record was seen: ``suberror``, ``errno``, ``rip``, ``code``; ``data[3]`` is a word."""
        line = self.failure.seen_at.get(what, self.failure.source.line)
        if what.startswith("data[") and what[5:-1].isdigit():
            return At(line=line, word=int(what[5:-1]))
        if self.failure.cpu and (what in self.failure.cpu.registers or what in self.failure.cpu.segments):
            return At(line=line, register=what)
        return At(line=line)

    def at_word(self, name: str) -> At:
        """Where one of the five exit words stands: in ``data`` of suberror 1, or in the trace's last exit."""
        if self.reading is None or not self.reading.failure.has_exit:
            exits = [index for index, event in enumerate(self.failure.trace) if event.name == "kvm_exit"]
            return At(line=self.failure.source.line, event=exits[-1] if exits else None)
        first = 3 if self.reading.failure.insn is not None or self.reading.failure.layout == "skip" else 1
        return self.at(f"data[{first + ExitWords._fields.index(name)}]")


def gather(failure: Failure, *, syntax: Syntax = "intel") -> Facts:
    """Work out every fact of this failure. Pure; never raises on any record."""
    if failure.arch not in {None, "x86"}:
        return _foreign(failure)
    reading = None
    if failure.suberror == 1:
        reading = decode_emulation(failure.data, failure.ndata, cut=failure.ndata is None)
    words = _words(reading) or _named_words(failure)
    cpu = failure.cpu
    emulation = failure.emulation
    vendor = vendor_of(failure, reading, words)
    reset = is_reset_state(cpu) if cpu and cpu.registers else None
    # All zeros is what a VMM prints of a protected guest, or of a control block that was not read: no CPU's mode.
    unread = reset is not None and (reset.state in UNSEEN or (reset.state == State.UNREAD and failure.control is None))
    mode = cpu_mode(cpu) if cpu and not unread else None
    if emulation and emulation.mode and (mode is None or (cpu and "cr0" not in cpu.registers)):
        mode = _MODES[emulation.mode]._replace(why="the trace of the emulation says so")
    rip = cpu.get("rip") if cpu else None
    linear = linear_rip(cpu, mode) if cpu and mode else None
    if rip is None and emulation:
        rip = emulation.rip
    if linear is None and emulation:
        linear = emulation.cs_base + emulation.rip & ((1 << 64) - 1)
    cr0 = cpu.get("cr0") if cpu else None
    paging = None if cr0 is None else bool(cr0 & _CR0_PG)
    if paging is None and mode and mode.name in {"long64", "compat32", "compat16"}:
        paging = True  # long mode has no other way
    vectoring = _vectoring(failure, vendor.vendor, words)
    word_access = None
    if failure.suberror == 3:
        word_access = access_of_delivery(vendor.vendor, failure.data)
    elif words:
        word_access = access_of_exit(vendor.vendor, words)
    delivery = None
    if vectoring is not None or failure.suberror == 3:
        delivery = delivery_of(failure, vectoring, word_access.gpa if word_access else None, mode)
    facts = Facts(
        failure=failure,
        arch=failure.arch,
        age=_age(failure),
        reading=reading,
        vendor=vendor,
        words=words,
        explained=_explained(failure, vendor.vendor, words),
        entry=None if failure.hardware_error is None else describe_entry_failure(failure.hardware_error),
        word_access=word_access,
        vectoring=vectoring,
        delivery=delivery,
        mode=mode,
        code_mode=mode,
        cpl=cpu_cpl(cpu) if cpu else None,
        rip=rip,
        linear_rip=linear,
        paging=paging,
        reset=reset,
        window=window_of(failure.code),
        instruction=None,
        instruction_source=None,
        foreign_bytes=None,
        operands=(),
        verdict=None,
        fetch=fetch_of(failure, reading, words, word_access, vendor.vendor),
        walk_error=walk_error(failure),
        why=Why.NOT_SHOWN,
        unrestricted=_unrestricted(failure, words, reset),
        checked=_checked(failure, vendor.vendor, reset),
        access=None,
        loop=loop_of(failure.trace),
    )
    facts = _with_instruction(facts, syntax)
    facts = replace(facts, access=access_of(facts))
    whole: Facts = replace(facts, why=_why(facts))
    return whole


def _foreign(failure: Failure) -> Facts:
    """Of another architecture: nothing of what x86's tables would make of it."""
    return Facts(
        failure=failure,
        arch=failure.arch,
        age=Age(),
        reading=None,
        vendor=VendorGuess(None, "this is not x86"),
        words=None,
        explained=None,
        entry=None,
        word_access=None,
        vectoring=None,
        delivery=None,
        mode=None,
        code_mode=None,
        cpl=None,
        rip=None,
        linear_rip=None,
        paging=None,
        reset=None,
        window=Window.NOT_SHOWN,
        instruction=None,
        instruction_source=None,
        foreign_bytes=None,
        operands=(),
        verdict=None,
        fetch=Fetch.NOT_SHOWN,
        walk_error=None,
        why=Why.NOT_SHOWN,
        unrestricted=None,
        checked=None,
        access=None,
        loop=loop_of(failure.trace),
    )


def _age(failure: Failure) -> Age:
    """The kernel's own name counts; where it is not shown, the form of the record."""
    version = series_of(failure.host.kernel)
    if version is not None:
        return Age(version, version)
    return age_of(failure.suberror, failure.data, failure.ndata)


def _with_instruction(facts: Facts, syntax: Syntax) -> Facts:
    """The instruction that KVM met, if the bytes shown are it."""
    failure = facts.failure
    code, source = _bytes(facts)
    asked = failure.suberror == 1 or failure.emulation is not None
    kernel, newest = failure.host.kernel, facts.age.newest
    code_mode = facts.mode or (_mode_of(code, kernel) if asked and code else None)
    instruction = None
    if code and code_mode:
        instruction = _decode(code[:15], bitness=code_mode.bitness, address=facts.rip or 0, syntax=syntax)
    operands: tuple[Operand, ...] = ()
    judged = None
    cpu = failure.cpu
    if instruction and facts.mode and cpu and cpu.registers:
        mode = facts.mode
        operands = tuple(operand_address(m, instruction, cpu, mode) for m in instruction.memory if m.access != "none")
    if instruction and code_mode and asked:
        judged = _verdict(code, mode=code_mode, kernel=kernel, newest=newest)
    known: Facts = replace(
        facts,
        code_mode=code_mode,
        instruction=instruction,
        instruction_source=source,
        foreign_bytes=_foreign_bytes(facts, code, source),
        operands=operands,
        verdict=judged,
    )
    return known


def _bytes(facts: Facts) -> tuple[bytes, Literal["report", "code"] | None]:
    """The report's own bytes if it has any: the VMM's window was read later, and may differ.

    No bytes of an instruction are: zeros or ff where there is no RAM; what an earlier emulation left in the buffer,
    when this one's fetch failed.
    """
    failure, reading = facts.failure, facts.reading
    if reading and reading.failure.insn:
        return reading.failure.insn, "report"
    if failure.emulation and failure.emulation.insn and facts.walk_error is None:
        return failure.emulation.insn, "report"
    if failure.code and (code := failure.code.at_rip()) and not nothing_at_rip(facts):
        return code, "code"
    return b"", None


def _foreign_bytes(facts: Facts, code: bytes, source: str | None) -> bool | None:
    if source != "report" or facts.window != Window.CODE or facts.failure.code is None:
        return None
    shown = facts.failure.code.at_rip()
    length = min(len(shown), len(code))
    return code[:length] != shown[:length]


def _unrestricted(failure: Failure, words: ExitWords | None, reset: ResetVerdict | None) -> bool | None:
    """Only without unrestricted guest does KVM use virtual-8086 mode, or emulate what the CPU cannot enter."""
    if failure.control is not None:
        from kvmwhy.arch.x86.vm_entry.state import unrestricted_of

        if (dumped := unrestricted_of(failure.control)) is not None:
            return dumped
    parameters = failure.host.parameters
    for name in ("kvm_intel.unrestricted_guest", "kvm_intel.ept"):
        if parameters.get(name, "").lower() in _NO:
            return False
    if parameters.get("kvm_intel.unrestricted_guest", "").lower() in _YES:
        return True
    if reset is not None and reset.loaded == Loaded.VM86:
        return False
    return False if words is not None and words.reason == INVALID_STATE else None


def _why(facts: Facts) -> Why:
    """By the words; without them, by what the instruction and the CPU's mode leave."""
    if not facts.emulated:
        return Why.NOT_SHOWN
    insn = facts.instruction
    if insn is not None and insn.mnemonic in VIRTUALIZATION and facts.vectoring is None:
        return Why.NESTED
    why = why_by_words(facts.words, facts.word_access, facts.vendor.vendor, delivering=facts.vectoring is not None)
    if why != Why.NOT_SHOWN:
        return why
    access = facts.access
    if access is not None and access.kind == "fetch":
        return Why.FETCH
    if access is not None and access.place is not None and access.place.ram is False:
        return Why.OPERAND
    if insn is not None and facts.mode is not None and facts.mode.name in {"real16", "vm86"}:
        return Why.REAL_MODE
    return Why.NOT_SHOWN


def _checked(failure: Failure, vendor: str | None, reset: ResetVerdict | None) -> Checked | None:
    """``None`` also for a confidential guest: KVM never hands out such registers, and so none are shown."""
    lone_dump = failure.kind == "other" and failure.control is not None  # nothing says that the entry failed
    if failure.kind != "entry-failure" and not lone_dump:
        return None
    if failure.cpu is None or vendor not in {"vmx", "svm"}:
        return None
    hidden = failure.control is None and not failure.cpu.registers.get("rflags", _RFLAGS_1) & _RFLAGS_1
    if hidden or (reset and reset.state in UNSEEN):
        return None
    from kvmwhy.arch.x86.vm_entry import check  # 110 rules, for refused entries alone

    return check(failure.cpu, failure.control, vendor="vmx" if vendor == "vmx" else "svm")


def _words(reading: Reading | None) -> ExitWords | None:
    if reading is None or reading.ambiguous or not reading.failure.has_exit:
        return None
    f = reading.failure
    return ExitWords(f.reason or 0, f.info1 or 0, f.info2 or 0, f.intr_info or 0, f.error_code or 0)


def _named_words(failure: Failure) -> ExitWords | None:
    """The words of an emulation's exit as a trace or a dump names them: the same that the record would have held."""
    exit_ = failure.exit
    unnamed = failure.kind == "internal-error" and failure.suberror is None and bool(failure.trace)
    if exit_ is None or exit_.info1 is None or not (failure.emulation or failure.suberror == 1 or unnamed):
        return None
    return ExitWords(exit_.reason, exit_.info1, exit_.info2 or 0, exit_.intr_info or 0, exit_.error_code or 0)


def _vectoring(failure: Failure, vendor: str | None, words: ExitWords | None) -> int | None:
    """The event that was being delivered: IDT-vectoring information, or EXITINTINFO (SDM 3C 25.9.3, APM 2 15.20)."""
    if failure.suberror == 3 and failure.data and vendor in {"vmx", None}:
        word = failure.data[0]
    elif words and vendor == "vmx" and not words.reason >> 31:
        word = words.info2
    elif words and vendor == "svm":
        word = words.intr_info
    else:
        return None
    return word if word >> 31 & 1 and word < 1 << 32 else None


def _explained(failure: Failure, vendor: str | None, words: ExitWords | None) -> Explained | None:
    if words is not None:
        return _explain(vendor, words)
    match failure.suberror:
        case 2 if failure.data:
            return explain_simultaneous(failure.data)
        case 3 if failure.data:
            return explain_delivery(vendor, failure.data)
        case 4 if failure.data:
            return explain_unexpected(vendor, failure.data)
    return None


def _mode_of(code: bytes, kernel: str | None) -> Mode:
    """Without registers: KVM failed on these bytes, so a mode in which it can do them is ruled out."""
    modes = (LONG64, PROT32, REAL16)
    fitting = [m for m in modes if verdict(code, mode=m, kernel=kernel).outcome != "handler"]
    if len(fitting) == 1:
        return fitting[0]._replace(certain=False, why="only in this mode would KVM fail on these bytes")
    return LONG64._replace(certain=False, why="the CPU's mode is not shown; 64-bit code is assumed")
