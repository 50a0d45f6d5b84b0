"""Every word of a failure as one sentence, under the right vendor: the entry for renderers.

A sentence starts with the vendor's own field name and the value in hex, so nothing is lost where
its meaning is not known. With no vendor, both readings stand beside each other.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.bitfields import hx
from kvmwhy.abi.x86 import pvm, svm, tdx, vmx
from kvmwhy.abi.x86.delivery_ev import ALL_ONES, delivery_layout
from kvmwhy.abi.x86.intr_info import HAS_ERROR_CODE, VALID, decode_event, describe_event
from kvmwhy.abi.x86.memory_access import ExitWords, WordAccess, access_of_delivery, access_of_exit
from kvmwhy.abi.x86.page_fault import describe_page_fault_error

__all__ = [
    "ExitWords",
    "Explained",
    "WordAccess",
    "access_of_delivery",
    "access_of_exit",
    "explain_delivery",
    "explain_exit",
    "explain_simultaneous",
    "explain_unexpected",
]


class Explained(Struct, frozen=True):
    """The exit's name, where it has one, and one sentence per word in order."""

    name: str | None
    sentences: tuple[str, ...]


def _say(field: str, value: int, meaning: str) -> str:
    return f"{field} {hx(value)}: {meaning}"


def _delivering(word: int, vendor: str | None) -> str:
    if not word & VALID:
        more = "" if not word else f" ({describe_event(word, vendor)})"
        return f"no event was being delivered{more}"
    return f"{describe_event(word, vendor)} was being delivered"


def _caused(word: int) -> str:
    if not word & VALID:
        return "the exit was not caused by an event" if not word else describe_event(word, "vmx")
    return f"{describe_event(word, 'vmx')} caused the exit"


def _event_error(event: int, code: int, vendor: str) -> str:
    """The error code that goes with an event word."""
    if not event & VALID or not event & HAS_ERROR_CODE:
        return "none" if not code else "there is no event it could belong to"
    if decode_event(event, vendor=vendor).mnemonic == "#PF":
        return describe_page_fault_error(code, nested=False)
    return "the error code of that event"


def _cpu(value: int) -> str:
    return _say("CPU", value, f"the last VM entry was on logical CPU {value} of the host")


def _extra(words: tuple[int, ...]) -> list[str]:
    return [_say("extra word", word, "its meaning is not known") for word in words]


# The five words of suberror 1 and of the kvm_exit tracepoint


def _exit_vmx(words: ExitWords) -> list[str]:
    reason, info1, info2, intr_info, error_code = words
    text = vmx.describe_reason(reason)
    if words.no_exit_yet:
        text = "all words are zero, so no VM exit had happened yet (reason 0 would name an event)"
    elif reason == vmx.ENTRY_FAILURE | vmx.INVALID_STATE:
        text = (
            "INVALID_STATE: the guest's state is not one the CPU can enter; in an emulation error KVM writes this "
            "itself, because it was emulating for that reason and tried no entry"
        )
    failed = bool(reason & vmx.ENTRY_FAILURE)
    meaning = (
        "none"
        if words.no_exit_yet
        else vmx.describe_qualification(reason & 0xFFFF, info1, failed_entry=failed, intr_info=intr_info)
    )
    return [
        _say("exit reason", reason, text),
        _say("exit qualification", info1, meaning),
        _say("IDT-vectoring information", info2, _delivering(info2, "vmx")),
        _say("VM-exit interruption information", intr_info, _caused(intr_info)),
        _say("interruption error code", error_code, _event_error(intr_info, error_code, "vmx")),
    ]


def _exit_tdx(words: ExitWords) -> list[str]:
    reason, info1, info2, intr_info, error_code = words
    if reason >> 32 or reason in (0xFFFFFFFF, vmx.UNDEFINED):
        meaning = "none" if not info1 else "nothing to read it by"
    else:
        meaning = vmx.describe_qualification(
            reason & 0xFFFF, info1, failed_entry=bool(reason & vmx.ENTRY_FAILURE), intr_info=intr_info
        )
    return [
        _say("exit reason", reason, tdx.describe_slot(reason)),
        _say("exit qualification", info1, meaning),
        _say("extended exit qualification", info2, "none" if not info2 else "details of the TDX module"),
        _say("VM-exit interruption information", intr_info, _caused(intr_info)),
        _say(
            "error code",
            error_code,
            "none (KVM reports none for TDX)" if not error_code else "not expected here",
        ),
    ]


def _exit_svm(words: ExitWords) -> list[str]:
    reason, info1, info2, intr_info, error_code = words
    text = svm.describe_code(reason)
    if words.no_exit_yet:
        text = f"all words are zero, so most likely no VM exit had happened yet (0 is also {svm.code_name(0)})"
    return [
        _say("exit code", reason, text),
        _say("EXITINFO1", info1, svm.describe_exitinfo1(reason, info1)),
        _say("EXITINFO2", info2, svm.describe_exitinfo2(reason, info2)),
        _say("EXITINTINFO", intr_info, _delivering(intr_info, "svm")),
        _say("EXITINTINFO error code", error_code, _event_error(intr_info, error_code, "svm")),
    ]


def _exit_pvm(words: ExitWords) -> list[str]:
    silent = "kvm_pvm's use of this word is not published"
    return [
        _say("exit reason", words.reason, pvm.describe_reason(words.reason)),
        *(
            _say(field, value, "none" if not value else silent)
            for field, value in zip(words._fields[1:], words[1:], strict=True)
        ),
    ]


def _both(intel: str, amd: str) -> str:
    """Two readings in one sentence, or one where they agree."""
    left, right = intel.split(": ", 1), amd.split(": ", 1)
    if left[1] == right[1]:
        return left[1]
    name_l, name_r = left[0].rsplit(" ", 1)[0], right[0].rsplit(" ", 1)[0]
    return f"on Intel, {name_l}: {left[1]}; on AMD, {name_r}: {right[1]}"


def _exit_unknown(words: ExitWords) -> list[str]:
    if words.no_exit_yet:
        first = "all words are zero: most likely no VM entry had happened yet"
        return [
            _say("reason", 0, first),
            *(_say(field, 0, "none") for field in words._fields[1:]),
        ]
    return [
        _say(field, value, _both(intel, amd))
        for field, value, intel, amd in zip(words._fields, words, _exit_vmx(words), _exit_svm(words), strict=True)
    ]


def _reason_name(vendor: str | None, reason: int) -> str | None:
    match vendor:
        case "vmx":
            return vmx.reason_name(reason)
        case "svm":
            return svm.code_name(reason)
        case "tdx":
            return tdx.slot_name(reason)
        case "pvm":
            return pvm.reason_name(reason)
        case _:
            return None


def explain_exit(vendor: str | None, words: ExitWords) -> Explained:
    """The five exit words of suberror 1. ``vendor`` vmx, svm, tdx, pvm, or ``None`` for not known."""
    name = None if words.no_exit_yet else _reason_name(vendor, words.reason)
    match vendor:
        case "vmx":
            sentences = _exit_vmx(words)
        case "svm":
            sentences = _exit_svm(words)
        case "tdx":
            sentences = _exit_tdx(words)
        case "pvm":
            sentences = _exit_pvm(words)
        case _:
            sentences = _exit_unknown(words)
    return Explained(name, tuple(sentences))


# Suberror 2


def explain_simultaneous(data: tuple[int, ...]) -> Explained:
    """The words of suberror 2: 2 (oldest), 3 (to 5.8) or 4 (since 5.9, M:1aa561b1a4c0)."""
    out: list[str] = []
    for index, word in enumerate(data[:4]):
        match index:
            case 0:
                out.append(_say("IDT-vectoring information", word, _delivering(word, "vmx")))
            case 1:
                out.append(_say("VM-exit interruption information", word, _caused(word)))
            case 2:
                out.append(_say("interruption error code", word, _event_error(data[1], word, "vmx")))
            case _:
                out.append(_cpu(word))
    return Explained(None, tuple(out + _extra(data[4:])))


# Suberror 3

_STALE = "before Linux 6.9 this word may be left over from an earlier EPT violation"


def _delivery_qualification(reason: int, q: int, fresh: bool) -> str:
    failed = bool(reason & vmx.ENTRY_FAILURE)
    # Reason 0 comes here by way of a #PF the emulator was to handle (6.14 on).
    meaning = vmx.describe_qualification(reason & 0xFFFF, q, failed_entry=failed, intr_info=VALID | 0x30E)
    if fresh or not q:
        return meaning
    as_ept = vmx.describe_qualification(vmx.EPT_VIOLATION, q, failed_entry=False)
    return f"{meaning}; {_STALE}, as which it reads: {as_ept}"


def _address(value: int, linear: bool) -> str:
    if value == ALL_ONES:
        return _say("guest physical address", value, "not known (all ones)")
    if linear:
        return _say("guest linear address", value, "accessed while the event was delivered (shadow paging)")
    return _say("guest physical address", value, "accessed while the event was delivered")


def _delivery_vmx(data: tuple[int, ...]) -> list[str]:
    parts = delivery_layout(data)
    reason = data[1] if len(data) > 1 else None
    out = [_say("IDT-vectoring information", data[0], _delivering(data[0], "vmx"))]
    if reason is not None:
        out.append(_say("exit reason", reason, vmx.describe_reason(reason)))
        if parts.qualification is not None:
            meaning = _delivery_qualification(reason, parts.qualification, parts.qualification_fresh)
            out.append(_say("exit qualification", parts.qualification, meaning))
    if parts.address is not None:
        out.append(_address(parts.address, linear=reason == vmx.EXCEPTION_NMI))
    if parts.cpu is not None:
        out.append(_cpu(parts.cpu))
    return out + _extra(parts.rest)


def _delivery_svm(data: tuple[int, ...]) -> list[str]:
    code = data[1] if len(data) > 1 else None
    first = "not readable without the exit code" if code is None else svm.describe_exitinfo2(code, data[0])
    out = [_say("EXITINFO2", data[0], first)]
    if code is not None:
        out.append(_say("exit code", code, svm.describe_code(code)))
        out += [_say("EXITINFO1", word, svm.describe_exitinfo1(code, word)) for word in data[2:3]]
    out += [_address(word, linear=code == svm.PF) for word in data[3:4]]
    out += [_cpu(word) for word in data[4:5]]
    return out + _extra(data[5:])


def _delivery_raw(vendor: str | None, data: tuple[int, ...]) -> list[str]:
    """No vendor, or one that is not known to raise suberror 3: names of the words, no meaning."""
    parts = delivery_layout(data)
    if vendor is None:
        first = f"on Intel, the event: {_delivering(data[0], 'vmx')}; on AMD, EXITINFO2"
    else:
        first = "the event or info2 word; not readable for this vendor"
    out = [_say("first word", data[0], first)]
    if len(data) > 1:
        reason = data[1]
        if vendor is None:
            text = f"on Intel, {vmx.describe_reason(reason)}; on AMD, {svm.describe_code(reason)}"
        else:
            text = tdx.describe_slot(reason) if vendor == "tdx" else pvm.describe_reason(reason)
        out.append(_say("exit reason", reason, text))
    if parts.qualification is not None:
        out.append(_say("info1", parts.qualification, "not readable without the vendor"))
    if parts.address is not None:
        out.append(_address(parts.address, linear=False))
    if parts.cpu is not None:
        out.append(_cpu(parts.cpu))
    return out + _extra(parts.rest)


def explain_delivery(vendor: str | None, data: tuple[int, ...]) -> Explained:
    """The words of suberror 3, in every version: 2, 3, 4 or 5 of them."""
    if not data:
        return Explained(None, ())
    match vendor:
        case "vmx":
            sentences = _delivery_vmx(data)
        case "svm":
            sentences = _delivery_svm(data)
        case _:
            sentences = _delivery_raw(vendor, data)
    return Explained(_reason_name(vendor, data[1]) if len(data) > 1 else None, tuple(sentences))


# Suberror 4


def explain_unexpected(vendor: str | None, data: tuple[int, ...]) -> Explained:
    """The words of suberror 4: the reason (5.4-5.8), and the CPU (since 5.9)."""
    if not data:
        return Explained(None, ())
    reason = data[0]
    match vendor:
        case "vmx":
            first = _say("exit reason", reason, vmx.describe_reason(reason))
        case "svm":
            first = _say("exit code", reason, svm.describe_code(reason))
        case "tdx":
            # Here KVM stores the whole status; below 2**32 it is success and an exit reason.
            first = _say("TDH.VP.ENTER status", reason, tdx.describe_status(reason))
        case "pvm":
            first = _say("exit reason", reason, pvm.describe_reason(reason))
        case _:
            meaning = f"on Intel, {vmx.describe_reason(reason)}; on AMD, {svm.describe_code(reason)}"
            first = _say("exit reason", reason, meaning)
    out = [first, *(_cpu(word) for word in data[1:2]), *_extra(data[2:])]
    return Explained(_reason_name(vendor, reason), tuple(out))
