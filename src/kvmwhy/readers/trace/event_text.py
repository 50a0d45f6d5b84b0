"""What an event printed behind its name: back to the fields of its tracepoint.

Four dialects: the kernel's own ``print fmt`` of each release, libtraceevent's KVM plugin (``trace-cmd report``), its
``-R``, and what it prints where it cannot read the kernel's format (``[FAILED TO PARSE] exception=6 …``). A field that
was not printed is absent; nothing is filled in but ``isa``, which the spelling of the reason tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kvmwhy.readers.trace import symbols
from kvmwhy.readers.trace.events import Fields

_X: Final = r"(?:0x)?([0-9a-f]{1,16})"
_PAIR: Final = re.compile(r"(\w{1,40})=(?:ARRAY\[([0-9a-f, ]{0,400})\]|(-?\w{1,20}))")
_HEX_PAIRS: Final = {"rip", "csbase"}  # of kvm_emulate_insn: its format has %x and %llx

_ENTRY: Final = re.compile(
    rf"vcpu (\d{{1,10}})(?:,? rip {_X})?(?: intr_info {_X})?(?: error_code {_X})?( ?\[immediate exit\])?"
)
_EXIT: Final = re.compile(
    rf"(?:vcpu (\d{{1,10}}) )?reason (.{{1,80}}?) rip {_X}"
    rf"(?: info {_X} {_X}| info1 {_X} info2 {_X})?"
    rf"(?: intr_info {_X})?(?: error_code {_X})?(?: requests {_X})?"
)
_NESTED_EXIT: Final = re.compile(  # kvm_nested_vmexit up to 5.9, and kvm_nested_vmexit_inject
    rf"(?:rip:? {_X} )?reason:? (.{{1,80}}?) (?:ext_inf1|info1):? {_X} (?:ext_inf2|info2):? {_X}"
    rf" (?:ext_int|int_info):? {_X} (?:ext_int_err|int_info_err):? {_X}"
)
_INSN: Final = re.compile(r"([0-9a-f]{1,16}):([0-9a-f]{1,16}): ?((?:[0-9a-f]{2}(?: |$)){0,15})(?: ?\((\w+)\))?")
_USERSPACE: Final = re.compile(r"reason (\w{1,40}) \((\d{1,10})\)")
_EXCEPTION: Final = re.compile(rf"(#?\w{{1,10}})(?: \({_X}?\))?( \[reinjected\])?")
_MMIO: Final = re.compile(rf"mmio (unsatisfied-read|read|write) len (\d{{1,10}}) gpa {_X} val {_X}")
_FAULT: Final = re.compile(rf"(?:vcpu (\d{{1,10}}) )?(?:rip {_X} )?address {_X} error_code {_X}")
_PIO: Final = re.compile(rf"pio_(read|write) at {_X} size (\d{{1,10}}) count (\d{{1,10}})(?: val {_X})?")
_VIRQ: Final = re.compile(r"(irq|IRQ|Soft/INTn) (?:(\d{1,10})$|(0x[0-9a-f]{1,8}))( \[reinjected\])?")
_TSC: Final = re.compile(r"vcpu_id (\d{1,10})")
_MATCH: Final = re.compile(rf"gva {_X} gpa {_X} (Read|Write) (GPA|GVA)")
_MSR: Final = re.compile(rf"msr_(read|write) {_X} = {_X}( \(#GP\))?")
_CR: Final = re.compile(rf"cr_(read|write) {_X} = {_X}")
_ONE: Final = {
    "kvm_fast_mmio": ("gpa", re.compile(rf"fast mmio at gpa {_X}")),
    "kvm_nested_intr_vmexit": ("rip", re.compile(rf"rip: {_X}")),
}
_WALK: Final = re.compile(rf"(?:addr {_X} )?pferr {_X}")
_ENTRY_PC: Final = re.compile(r"PC: 0x([0-9a-f]{1,20})")
_ARM_EXIT: Final = re.compile(rf"(?:(\w{{1,20}}): )?[HE]SR_EC: {_X}(?: \((\w{{1,40}})\))?, PC: {_X}")
_RISCV_EXIT: Final = re.compile(rf"SEPC: ?{_X}, SCAUSE: ?{_X}, STVAL: ?{_X}(?:, HTVAL: ?{_X})?(?:, HTINST: ?{_X})?")
_ARM_FAULT: Final = re.compile(rf"ipa {_X}, [he]sr {_X}, (?:hx)?far {_X}, pc {_X}")
_S390: Final = re.compile(r"(\d{2,5})\[([0-9a-f]{16})-([0-9a-f]{16})\]: ([^\n]{0,200})")
_ICPT: Final = re.compile(r"exit sie icptcode (\d{1,3})")
_VALIDITY: Final = re.compile(r"got validity intercept ([0-9a-f]{4})")
_VMENTER_ERRORS: Final = {  # arch/x86/include/uapi/asm/vmx.h and trace.h: VMX_VMENTER_INSTRUCTION_ERRORS
    "VMLAUNCH_NONCLEAR_VMCS": 4, "VMRESUME_NONLAUNCHED_VMCS": 5, "VMRESUME_AFTER_VMXOFF": 6,
    "VMENTRY_INVALID_CONTROL_FIELD": 7, "VMENTRY_INVALID_HOST_STATE_FIELD": 8, "VMENTRY_EVENTS_BLOCKED_BY_MOV_SS": 26,
}  # fmt: skip
_MMIO_TYPES: Final = {"unsatisfied-read": 0, "read": 1, "write": 2}


def fields(name: str, phrase: str) -> Fields:
    """The fields of one event; what has no pattern here, or does not fit it, is kept as ``text``."""
    parse = _PARSERS.get(name)
    found = parse(phrase) if parse else None
    if found is None and "=" in phrase:
        found = _pairs(name, phrase)
    if found is None and name in _ONE:
        key, pattern = _ONE[name]
        found = {key: int(match[1], 16)} if (match := pattern.match(phrase)) else None
    return found or {"text": phrase[:200]}


def vcpu_of(phrase: str) -> int | None:
    """The vCPU that the event names itself: asked of every event, so without a pattern where that goes."""
    if phrase.startswith(("vcpu ", "VCPU ")):
        number = phrase[5:16].partition(" ")[0].rstrip(",:")
    elif "vcpu_id=" in phrase:
        number = phrase.partition("vcpu_id=")[2][:11].partition(" ")[0]
    else:
        return None
    return int(number) if number.isascii() and number.isdigit() else None


def _hexes(names: str, groups: tuple[str | None, ...]) -> Fields:
    return {name: int(text, 16) for name, text in zip(names.split(), groups, strict=True) if text}


def _pairs(name: str, phrase: str) -> Fields | None:
    out: Fields = {}
    for key, array, value in _PAIR.findall(phrase):
        if array:
            out[key] = array.replace(",", "")
            continue
        try:
            plain = name == "kvm_emulate_insn" and key in _HEX_PAIRS
            out[key] = int(value, 16 if plain or value.startswith("0x") else 10)
        except ValueError:
            out[key] = value
    size = out.get("len")
    if isinstance(size, int) and isinstance(insn := out.get("insn"), str):
        out["insn"] = " ".join(insn.split()[: max(0, size)])
    return out or None


def _entry(phrase: str) -> Fields | None:
    if not (m := _ENTRY.match(phrase)):
        return _entry_pc(phrase)
    out: Fields = {"vcpu_id": int(m[1]), **_hexes("rip intr_info error_code", m.groups()[1:4])}
    return {**out, "immediate_exit": 1} if m[5] else out


def _entry_pc(phrase: str) -> Fields | None:
    """arm64's and riscv's; riscv's kernel (trace.h: kvm_entry) prints 016 before the digits instead of padding them."""
    if not (m := _ENTRY_PC.match(phrase)):
        return None
    digits = m[1]
    if digits.startswith("016") and len(digits) != 16:
        digits = digits[3:] or "0"
    return {"vcpu_pc": int(digits, 16)}


def _exit(phrase: str) -> Fields | None:
    if not (m := _EXIT.match(phrase)):
        return _nested_exit(phrase) or _other_exit(phrase)
    vcpu, reason, rip, old1, old2, info1, info2, *rest = m.groups()
    out: Fields = {} if vcpu is None else {"vcpu_id": int(vcpu)}
    out |= _reason("exit_reason", reason)
    out |= _hexes("guest_rip info1 info2", (rip, info1 or old1, info2 or old2))
    return out | _hexes("intr_info error_code requests", tuple(rest))


def _other_exit(phrase: str) -> Fields | None:
    if m := _RISCV_EXIT.match(phrase):
        return _hexes("sepc scause stval htval htinst", m.groups())
    if m := _ARM_EXIT.match(phrase):
        out: Fields = {"esr_ec": int(m[2], 16), "vcpu_pc": int(m[4], 16)}
        return out | {key: name for key, name in (("ret", m[1]), ("class", m[3])) if name}
    return None


def _nested_exit(phrase: str) -> Fields | None:
    if not (m := _NESTED_EXIT.match(phrase)):
        return None
    names = "exit_info1 exit_info2 exit_int_info exit_int_info_err"
    return _hexes("rip", (m[1],)) | _reason("exit_code", m[2]) | _hexes(names, m.groups()[2:])


def _reason(name: str, text: str) -> Fields:
    known = symbols.exit_reason(text)
    if known is None:
        return {name: text}
    number, isa = known
    return {name: number, "isa": isa} if isa else {name: number}


def _insn(phrase: str) -> Fields | None:
    if not (m := _INSN.match(phrase)):
        return None
    insn = m[3].strip()
    out: Fields = {"rip": int(m[2], 16), "csbase": int(m[1], 16), "len": (len(insn) + 1) // 3, "insn": insn}
    if m[4]:
        flags = symbols.MODE_FLAGS.get(m[4])
        out["flags"] = 2 if m[4] == "0x2" else m[4] if flags is None else flags
    out["failed"] = int(phrase.endswith((" failed", " FAIL")))
    return out


def _userspace(phrase: str) -> Fields | None:
    if not (m := _USERSPACE.match(phrase)):
        return None
    number = int(m[2])
    if m[1] in {"restart", "error"}:
        return {"errno": -number}
    return {"reason": number, "errno": 0}


def _exception(phrase: str) -> Fields | None:
    if not (m := _EXCEPTION.match(phrase)) or (vector := symbols.EXCEPTIONS.get(m[1])) is None:
        return None
    out: Fields = {"exception": vector, "has_error": int(m[2] is not None)}
    if m[2]:
        out["error_code"] = int(m[2], 16)
    return {**out, "reinjected": int(m[3] is not None)}


def _mmio(phrase: str) -> Fields | None:
    if not (m := _MMIO.match(phrase)):
        return None
    return {"type": _MMIO_TYPES[m[1]], "len": int(m[2]), "gpa": int(m[3], 16), "val": int(m[4], 16)}


def _fault(phrase: str) -> Fields | None:
    if not (m := _FAULT.match(phrase)):
        return None
    out: Fields = {"vcpu_id": int(m[1])} if m[1] else {}
    return out | _hexes("guest_rip fault_address error_code", m.groups()[1:])


def _arm_fault(phrase: str) -> Fields | None:
    return _hexes("ipa esr far vcpu_pc", m.groups()) if (m := _ARM_FAULT.match(phrase)) else None


def _walk(phrase: str) -> Fields | None:
    return _hexes("addr pferr", m.groups()) if (m := _WALK.match(phrase)) else None


def _s390(phrase: str) -> Fields | None:
    if not (m := _S390.match(phrase)):
        return None
    out: Fields = {"id": int(m[1]), "pswmask": int(m[2], 16), "pswaddr": int(m[3], 16), "text": m[4]}
    if code := _ICPT.match(m[4]):
        out["icptcode"] = int(code[1])
    elif code := _VALIDITY.match(m[4]):
        out["viwhy"] = int(code[1], 16)
    return out


def _vmenter_failed(phrase: str) -> Fields | None:
    """The check that failed, as C, or a message with the VM-instruction error behind it."""
    for name, number in _VMENTER_ERRORS.items():
        if phrase.endswith(name):
            return {"msg": phrase[: -len(name)], "err": number}
    return {"msg": phrase[:200], "err": 0}


def _pio(phrase: str) -> Fields | None:
    if not (m := _PIO.match(phrase)):
        return None
    out: Fields = {"rw": int(m[1] == "write"), "port": int(m[2], 16), "size": int(m[3]), "count": int(m[4])}
    return out | _hexes("val", (m[5],))


def _virq(phrase: str) -> Fields | None:
    if not (m := _VIRQ.match(phrase)):
        return None
    vector = int(m[2]) if m[2] else int(m[3], 16)
    if m[1] == "irq":  # 5.10 and older have no more than this
        return {"irq": vector}
    return {"vector": vector, "soft": int(m[1] != "IRQ"), "reinjected": int(m[4] is not None)}


def _tsc(phrase: str) -> Fields | None:
    return {"vcpu_id": int(m[1])} if (m := _TSC.match(phrase)) else None


def _match(phrase: str) -> Fields | None:
    if not (m := _MATCH.match(phrase)):
        return None
    return _hexes("gva gpa", (m[1], m[2])) | {"write": int(m[3] == "Write"), "gpa_match": int(m[4] == "GPA")}


def _msr(phrase: str) -> Fields | None:
    if not (m := _MSR.match(phrase)):
        return None
    out: Fields = {"write": int(m[1] == "write")}
    return out | _hexes("ecx data", (m[2], m[3])) | {"exception": int(m[4] is not None)}


def _cr(phrase: str) -> Fields | None:
    if not (m := _CR.match(phrase)):
        return None
    out: Fields = {"rw": int(m[1] == "write")}
    return out | _hexes("cr val", (m[2], m[3]))


_PARSERS: Final[dict[str, Callable[[str], Fields | None]]] = {
    "kvm_cr": _cr,
    "kvm_emulate_insn": _insn,
    "kvm_entry": _entry,
    "kvm_exit": _exit,
    "kvm_guest_fault": _arm_fault,
    "kvm_inj_exception": _exception,
    "kvm_inj_virq": _virq,
    "kvm_mmio": _mmio,
    "kvm_mmio_nisv": _arm_fault,
    "kvm_mmu_pagetable_walk": _walk,
    "kvm_mmu_walker_error": _walk,
    "kvm_msr": _msr,
    "kvm_nested_vmenter_failed": _vmenter_failed,
    "kvm_nested_vmexit": _exit,
    "kvm_nested_vmexit_inject": _nested_exit,
    "kvm_page_fault": _fault,
    "kvm_pio": _pio,
    "kvm_s390_intercept_instruction": _s390,
    "kvm_s390_intercept_prog": _s390,
    "kvm_s390_intercept_validity": _s390,
    "kvm_s390_sie_enter": _s390,
    "kvm_s390_sie_exit": _s390,
    "kvm_track_tsc": _tsc,
    "kvm_userspace_exit": _userspace,
    "vcpu_match_mmio": _match,
}
