"""Facts before rules: what follows from one failure alone, worked out once.

Nothing here is an opinion. A fact that cannot be had is ``None``; a rule that needs it stays silent.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from kvmwhy.abi.internal_error import Reading, decode_emulation
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
from kvmwhy.abi.x86.vendor_guess import (
    VendorGuess,
    vendor_of_delivery,
    vendor_of_entry_failure,
    vendor_of_reason,
    vendor_of_simultaneous,
    vendor_of_unexpected,
)
from kvmwhy.arch.x86.instruction import Instruction, Syntax, decode_first
from kvmwhy.arch.x86.mode import LONG64, PROT16, PROT32, REAL16, VM86, Mode, cpu_cpl, cpu_mode, linear_rip
from kvmwhy.arch.x86.operand import Operand, operand_address
from kvmwhy.arch.x86.physical_map import Place, what_lives_at
from kvmwhy.arch.x86.reset_state import ResetVerdict, is_reset_state
from kvmwhy.diagnosis.delivery import Delivery, delivery_of
from kvmwhy.emulator.verdict import Verdict, verdict
from kvmwhy.record import Cpu, Failure

if TYPE_CHECKING:
    from kvmwhy.arch.x86.vm_entry import Checked

# Pure, and asked the same again and again: a host's failures share a few instructions and exits.
_decode = lru_cache(maxsize=4096)(decode_first)
_verdict = lru_cache(maxsize=4096)(verdict)
_explain = lru_cache(maxsize=4096)(explain_exit)

AccessKind = Literal["fetch", "read", "write", "event-delivery", "page-walk"]

# Exits whose producer reports no bytes although nothing was wrong with the fetch: VMX instructions
# and INVPCID with their operand on MMIO (kvm_handle_memory_failure), ENCLS, invalid guest state.
_NO_FETCH_VMX = frozenset({19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 58, 60, 33})
_NO_FETCH_SVM = frozenset({0x80, 0x82, 0x83})
_CR0_PG = 1 << 31
_RFLAGS_1 = 1 << 1  # always set
_MODES = {"real16": REAL16, "vm86": VM86, "prot16": PROT16, "prot32": PROT32, "long64": LONG64}


class Access(NamedTuple):
    """The memory access that KVM could not carry out. ``what`` says what lives there."""

    kind: AccessKind
    gva: int | None
    gpa: int | None
    place: Place | None
    what: str | None
    why: str
    assumed: bool = False  # place and what hold if the linear address is mapped one to one


class Facts(NamedTuple):
    """What one failure tells. Words that mean one thing: see docs/architecture.md."""

    failure: Failure
    reading: Reading | None  # suberror 1
    vendor: VendorGuess
    words: ExitWords | None
    explained: Explained | None
    entry: EntryFailure | None
    said: WordAccess | None  # what the words say about the access
    vectoring: int | None  # the event-information word of an event being delivered, if there was one
    delivery: Delivery | None  # of that event, or of suberror 3
    mode: Mode | None
    code_mode: Mode | None  # the mode, or the only one in which KVM would have failed on these bytes
    cpl: int | None
    rip: int | None
    linear_rip: int | None
    paging: bool | None
    reset: ResetVerdict | None
    instruction: Instruction | None
    instruction_source: Literal["report", "code"] | None
    operands: tuple[Operand, ...]
    verdict: Verdict | None
    fetch_failed: bool | None  # KVM could not read one byte at RIP
    checked: Checked | None  # the manual's rules held against a refused entry, where there is a state to hold them to
    access: Access | None

    @property
    def emulated(self) -> bool:
        """KVM was asked to carry out an instruction, and could not: reported, or only traced."""
        return self.failure.suberror == 1 or self.failure.emulation is not None

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


def gather(failure: Failure, *, syntax: Syntax = "intel") -> Facts:
    """Work out every fact of this failure. Pure; never raises on any record."""
    reading = None
    if failure.suberror == 1:
        reading = decode_emulation(failure.data, failure.ndata, cut=failure.ndata is None)
    words = _words(reading) or _named_words(failure)
    cpu = failure.cpu
    emulation = failure.emulation
    vendor = _vendor(failure, words)
    reset = is_reset_state(cpu) if cpu and cpu.registers else None
    # All zeros is what a VMM prints of a protected guest: no real CPU was in that mode.
    mode = cpu_mode(cpu) if cpu and not (reset and reset.state == "zero") else None
    if mode is None and emulation and emulation.mode:
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
    fetch_failed = not emulation.insn if emulation else _fetch_failed(reading, words, vendor.vendor)
    code, source = _bytes(failure, reading)
    asked = failure.suberror == 1 or emulation is not None
    code_mode = mode or (_mode_of(code, failure.host.kernel) if asked and code else None)
    instruction = None
    if code and code_mode:
        instruction = _decode(code[:15], bitness=code_mode.bitness, address=rip or 0, syntax=syntax)
    operands: tuple[Operand, ...] = ()
    judged = None
    if instruction and mode and cpu and cpu.registers:
        operands = tuple(operand_address(m, instruction, cpu, mode) for m in instruction.memory if m.access != "none")
    if instruction and code_mode and asked:
        judged = _verdict(code, mode=code_mode, kernel=failure.host.kernel)
    vectoring = _vectoring(failure, vendor.vendor, words)
    said = None
    if failure.suberror == 3:
        said = access_of_delivery(vendor.vendor, failure.data)
    elif words:
        said = access_of_exit(vendor.vendor, words)
    delivery = None
    if vectoring is not None or failure.suberror == 3:
        delivery = delivery_of(failure, vectoring, said.gpa if said else None, mode)
    facts = Facts(
        failure=failure,
        reading=reading,
        vendor=vendor,
        words=words,
        explained=_explained(failure, vendor.vendor, words),
        entry=None if failure.hardware_error is None else describe_entry_failure(failure.hardware_error),
        said=said,
        vectoring=vectoring,
        delivery=delivery,
        mode=mode,
        code_mode=code_mode,
        cpl=cpu_cpl(cpu) if cpu else None,
        rip=rip,
        linear_rip=linear,
        paging=paging,
        reset=reset,
        instruction=instruction,
        instruction_source=source,
        operands=operands,
        verdict=judged,
        fetch_failed=fetch_failed,
        checked=_checked(failure, vendor.vendor, reset),
        access=None,
    )
    return facts._replace(access=_access(facts))


def _checked(failure: Failure, vendor: str | None, reset: ResetVerdict | None) -> Checked | None:
    """``None`` also for a confidential guest: KVM never hands out such registers, and so none are shown."""
    if failure.kind != "entry-failure" or failure.cpu is None or vendor not in {"vmx", "svm"}:
        return None
    hidden = failure.control is None and not failure.cpu.registers.get("rflags", _RFLAGS_1) & _RFLAGS_1
    if hidden or (reset and reset.state == "zero"):
        return None
    from kvmwhy.arch.x86.vm_entry import check  # 110 rules, for refused entries alone

    return check(failure.cpu, failure.control, vendor="vmx" if vendor == "vmx" else "svm")


def _words(reading: Reading | None) -> ExitWords | None:
    if reading is None or reading.ambiguous or not reading.failure.has_exit:
        return None
    f = reading.failure
    return ExitWords(f.reason or 0, f.info1 or 0, f.info2 or 0, f.intr_info or 0, f.error_code or 0)


def _named_words(failure: Failure) -> ExitWords | None:
    """The words of an emulation's exit as a trace names them: the same that the record would have held."""
    exit_ = failure.exit
    if exit_ is None or not failure.emulation or exit_.info1 is None:
        return None
    return ExitWords(exit_.reason, exit_.info1, exit_.info2 or 0, exit_.intr_info or 0, exit_.error_code or 0)


def _vendor(failure: Failure, words: ExitWords | None) -> VendorGuess:
    """The numbers first, since they are this failure's own; then what the text around it says."""
    if failure.exit and failure.exit.isa:
        return VendorGuess(failure.exit.isa, "the kernel's own text around these words is of that vendor")
    if failure.control:
        return VendorGuess("vmx" if failure.control.kind == "vmcs" else "svm", f"a {failure.control.kind.upper()} dump")
    guess = VendorGuess(None, "nothing in this evidence shows whether the host has VMX or SVM")
    if words is not None:
        guess = vendor_of_reason(words.reason, info1=words.info1, info2=words.info2, intr_info=words.intr_info)
    elif failure.hardware_error is not None:
        guess = vendor_of_entry_failure(failure.hardware_error)
    elif failure.suberror == 2:
        guess = vendor_of_simultaneous(failure.data)
    elif failure.suberror == 3:
        guess = vendor_of_delivery(failure.data)
    elif failure.suberror == 4:
        guess = vendor_of_unexpected(failure.data)
    host = failure.host
    if guess.vendor is None and host.vendor:
        return VendorGuess(host.vendor, host.vendor_from or "the text around the failure says so")
    if guess.vendor is None and failure.cpu and (model := _cpu_model(failure.cpu)):
        return model
    return guess


def _cpu_model(cpu: Cpu) -> VendorGuess | None:
    """EDX holds the CPU's signature after a reset (SDM vol. 3A, 11.1.1.3): family, model, stepping.

    VMs are mostly given their host's vendor's model; Penryn and older ones are not counted, since
    people offer those to guests on AMD, too.
    """
    signature = cpu.get("rdx")
    if signature is None or signature >> 28 or cpu.get("rip") not in {None, 0xFFF0, 0xE05B}:
        return None
    family, model = signature >> 8 & 0xF, signature >> 12 & 0xF0 | signature >> 4 & 0xF
    if family == 6 and model >= 0x1A and not cpu.get("rax"):
        return VendorGuess("vmx", f"EDX after reset, {signature:#x}, is the signature of an Intel CPU")
    extended = signature >> 20 & 0xFF
    if family == 0xF and 6 <= extended <= 0x0B and not cpu.get("rax"):
        return VendorGuess("svm", f"EDX after reset, {signature:#x}, is the signature of an AMD CPU")
    return None


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


def _fetch_failed(reading: Reading | None, words: ExitWords | None, vendor: str | None) -> bool | None:
    """Whether the very first code fetch failed: nothing was read, so nothing could be emulated.

    The final form without bytes says so, unless another producer than the emulator wrote it.
    """
    if reading is None:
        return None
    if reading.failure.insn:
        return False
    if words is None or reading.failure.layout != "final-no-bytes":
        return None
    basic = words.reason & 0xFFFF
    if not any(words):
        return None  # no VM entry has happened yet
    if vendor in {"vmx", None} and (basic in _NO_FETCH_VMX or basic == 0xDEAD):
        return None
    if vendor == "svm" and words.reason in _NO_FETCH_SVM:
        return None
    return not reading.failure.debug


def _bytes(failure: Failure, reading: Reading | None) -> tuple[bytes, Literal["report", "code"] | None]:
    """The report's own bytes if it has any: the VMM's window was read later, and may differ."""
    if reading and reading.failure.insn:
        return reading.failure.insn, "report"
    if failure.emulation and failure.emulation.insn:
        return failure.emulation.insn, "report"
    if failure.code and (code := failure.code.at_rip()):
        return code, "code"
    return b"", None


def _mode_of(code: bytes, kernel: str | None) -> Mode:
    """Without registers: KVM failed on these bytes, so a mode in which it can do them is ruled out."""
    modes = (LONG64, PROT32, REAL16)
    fitting = [m for m in modes if verdict(code, mode=m, kernel=kernel).outcome != "handler"]
    if len(fitting) == 1:
        return fitting[0]._replace(certain=False, why="only in this mode would KVM fail on these bytes")
    return LONG64._replace(certain=False, why="the CPU's mode is not shown; 64-bit code is assumed")


# -- the access ------------------------------------------------------------------------------------


def _access(facts: Facts) -> Access | None:
    match facts.failure.suberror:
        case 1 if facts.vectoring:
            return _vectored_access(facts)
        case 1:
            return _emulation_access(facts)
        case 3:
            return _delivery_access(facts)
        case None if facts.failure.emulation:
            return _emulation_access(facts)
    return None


def _vectored_access(facts: Facts) -> Access | None:
    """Suberror 1 while an event was being delivered: the words are about the delivery's access."""
    said = facts.said
    gpa = said.gpa if said else None
    place = facts.place_of(gpa)
    delivery = facts.delivery
    what = "; ".join(t for t in (delivery.what if delivery else None, place.text if place else None) if t) or None
    return Access(
        "event-delivery", delivery.gva if delivery else None, gpa, place, what, "an event was being delivered"
    )


def _emulation_access(facts: Facts) -> Access | None:
    said = facts.said
    straddles = _straddles(facts)
    if straddles is None and (facts.fetch_failed or (said and said.kind == "fetch")):
        return _fetch(facts, said.gpa if said else None, said.why if said and said.kind == "fetch" else None)
    if straddles is not None:
        return _placed(
            facts,
            "fetch",
            straddles,
            None,
            "the instruction goes on in the next page, and its bytes end here",
        )
    operand = _memory_operand(facts)
    gpa = said.gpa if said else None
    kind = said.kind if said else None
    if operand is None and kind is None:
        # Old kernels said nothing: the VMM's own view of the code must do.
        unreadable = facts.failure.code is not None and facts.failure.code.unreadable_at_rip
        if unreadable or _rip_outside_ram(facts):
            return _fetch(facts, None, None)
        return None
    why = said.why if said and said.kind else "the instruction's own operand"
    if kind is None and operand is not None:
        saves = (facts.instruction.mnemonic or "").startswith(("xsave", "fxsave")) if facts.instruction else False
        kind = "write" if saves or operand.access in {"write", "cond-write"} else "read"
        if facts.words is None:
            if _rip_outside_ram(facts):
                return _fetch(facts, None, None)
            if facts.verdict and facts.verdict.outcome == "handler":
                return None  # KVM can do this one: whatever failed, it was not this operand
    return _placed(facts, kind or "read", operand.linear if operand else None, gpa, why)


def _fetch(facts: Facts, gpa: int | None, why: str | None) -> Access:
    why = why or ("KVM could read no byte there" if facts.fetch_failed else "RIP points there")
    return _placed(facts, "fetch", facts.linear_rip, gpa, why)


def _rip_outside_ram(facts: Facts) -> bool:
    """What lives at RIP is no RAM: surely without paging, most likely if CR0 is not shown."""
    if facts.paging:
        return False
    place = facts.place_of(facts.linear_rip)
    return place is not None and place.ram is False and place.name not in {"flash", "reset-vector"}


def _straddles(facts: Facts) -> int | None:
    """The address at which an instruction was cut off by the end of its page, if it was."""
    insn = facts.reading.failure.insn if facts.reading else None
    if not insn or facts.linear_rip is None or facts.instruction is None or facts.instruction.complete:
        return None
    end = facts.linear_rip + len(insn)
    return end if end & 0xFFF == 0 else None


def _memory_operand(facts: Facts) -> Operand | None:
    """The operand that was accessed: the one at the reported GPA, else the one spelt out."""
    candidates = [o for o in facts.operands if o.linear is not None]
    gpa = facts.said.gpa if facts.said else None
    if gpa is not None:
        near = [o for o in candidates if o.linear is not None and (gpa - o.linear) & 0xFFF < max(o.size, 1)]
        if near:
            return near[0]
    if len(candidates) > 1 and facts.paging is False:
        outside = [o for o in candidates if (p := facts.place_of(o.linear)) and p.ram is False]
        candidates = outside or candidates
    return candidates[0] if candidates else None


def _delivery_access(facts: Facts) -> Access | None:
    delivery, said = facts.delivery, facts.said
    if delivery is None or said is None:
        return None
    kind: AccessKind = (
        "page-walk" if said.kind == "page-walk" or delivery.structure == "page tables" else "event-delivery"
    )
    place = facts.place_of(delivery.gpa)
    what = "; ".join(text for text in (delivery.what, place.text if place else None) if text) or None
    return Access(kind, delivery.gva, delivery.gpa, place, what, delivery.why)


def _placed(facts: Facts, kind: AccessKind, gva: int | None, gpa: int | None, why: str) -> Access:
    if gpa is None and facts.paging is False:
        gpa = gva
    if gpa is None and gva is not None and gva < 1 << 32:
        # Firmware and boot code map low memory one to one. Whoever uses this says that it is assumed.
        place = facts.place_of(gva)
        if place and place.ram is False:
            return Access(kind, gva, None, place, f"{place.text}, if mapped one to one", why, assumed=True)
    place = facts.place_of(gpa)
    return Access(kind, gva, gpa, place, place.text if place else None, why)
