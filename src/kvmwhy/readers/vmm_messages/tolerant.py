"""Failed runs in the words of programs that the table does not list.

Most programs on KVM are small, and each has words of its own for the same few facts. What they have in common is read
here: the exit's name in some spelling or its number behind words such as "unhandled exit reason", a number that is
labelled as the hardware's reason or as the suberror, an errno behind the words for running a vCPU.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kvmwhy.readers.vmm_messages.exit_names import FAILURES, ORDINARY, number_of
from kvmwhy.readers.vmm_messages.message import debug_facts, errno_in
from kvmwhy.readers.vmm_messages.numbers import hardware_reason, integer
from kvmwhy.readers.vmm_messages.refusal import is_prose, without_expectations
from kvmwhy.readers.vmm_messages.templates import NUMBER
from kvmwhy.record import Kind

_BAD: Final = (
    r"[Uu]n(?:expected|handled|known|supported|implemented|recogni[sz]ed)|UNEXPECTED|UNHANDLED|UNKNOWN|[Ii]nvalid|[Ss]trange"
    r"|[Nn]ot (?:implemented|supported|handled)|[Ff]atal|FATAL|[Ff]ail(?:ed|ure)?|[Ee]rror|ERROR"
)
_IS_BAD: Final = re.compile(_BAD)
_IS_KVM: Final = re.compile(
    r"[Kk][Vv][Mm]|[Vv][Cc][Pp][Uu]|\b[Vv][Mm][Mm]?\b|\bVP\b|[Hh]ypervisor|[Vv]m ?[Ee]xit|[Hh]ardware|\bhw\b"
)
_NAME: Final = re.compile(
    r"\bKVM_EXIT_(?P<kernel>[A-Z0-9]{2,12}(?:_[A-Z0-9]{1,12}){0,3})(?![A-Z0-9_])"
    r"|\bKVM_(?P<suberror>INTERNAL_ERROR(?:_[A-Z_]{1,30})?)(?![A-Z0-9_])"
    r"|(?<![A-Za-z0-9_])(?P<camel>FailEntry|InternalError|MemoryFault|SystemEvent|TripleFault)(?![A-Za-z0-9_])"
    r"|(?<![A-Za-z0-9_])EXIT_?(?P<go>FAIL_?ENTRY|INTERNAL_?ERROR|SHUTDOWN|EXCEPTION|UNKNOWN)(?![A-Za-z0-9_])"
    r"|(?<![A-Za-z0-9_])(?P<bare>INTERNAL_ERROR|FAIL_ENTRY|internal_error|fail_entry|MEMORY_FAULT)(?![A-Za-z0-9_])"
)
# include/uapi/linux/kvm.h: the name says the number.
_SUBERROR_NAMES: Final = {
    "INTERNAL_ERROR_EMULATION": 1,
    "INTERNAL_ERROR_SIMUL_EX": 2,
    "INTERNAL_ERROR_DELIVERY_EV": 3,
    "INTERNAL_ERROR_UNEXPECTED_EXIT_REASON": 4,
}
# Phrases for the two failures, without the exit's name.
_ENTRY_WORDS: Final = re.compile(
    r"\b(?:hardware|hw)[ _]entry[ _]failure(?:[ _]reason)?|\bfail(?:ed|ure)?[ _-](?:vm[ -]?)?entry\b"
    r"|\b(?:vm[ -]?)?ent(?:ry|er) fail(?:ed|ure)|\bVM(?:ENTER|ENTRY) failed|\bhw run failure"
    r"|failed to enter (?:the )?(?:guest|virtuali[sz]ed|vm|vcpu)\b",
    re.IGNORECASE,
)
_INTERNAL_WORDS: Final = re.compile(
    r"\b(?:KVM|kvm|vCPU|VCPU|vcpu)\b[^\n]{0,30}?\b[Ii]nternal [Ee]rror\b|\b[Ii]nternal error\b(?=[^\n]{0,30}sub_?err)"
)
_SUBERROR: Final = re.compile(
    rf"\b(?:internal\.)?[Ss][Uu][Bb][ _-]?[Ee][Rr][Rr](?:[Oo][Rr])?(?: code)?[ =:(]{{0,4}}(?P<n>{NUMBER})"
)
_LABELLED: Final = re.compile(
    rf"(?P<label>[A-Za-z_. ]{{0,60}}?)[ =:(\[#]{{1,4}}(?P<n>{NUMBER}|[0-9a-f]{{8,16}}(?![0-9a-zA-Z_]))"
)
_EXCEPTION: Final = re.compile(
    rf"[^\n]{{0,20}}?(?:exception|vector|nr)?[ =:#(]{{1,3}}(?P<vector>[0-9]{{1,2}}|0x[0-9a-f]{{1,2}})(?![0-9a-zA-Z])"
    rf"(?:[, ]{{1,3}}err(?:or)?(?:[_ ]code)?[ =:]{{1,3}}(?P<code>{NUMBER}))?"
)
_CPU_LABEL: Final = re.compile(
    r"\b(?:v?cpu|CPU|vCPU|VCPU|ndata|port|rip|RIP|pc)(?: ?(?:number|id))?$|\bv?cpu_?id$|line$|\b(?:on|at)$"
)
_BARE_NUMBER: Final = re.compile(rf"[:=( ]{{1,3}}(?P<n>{NUMBER})")
_NDATA: Final = re.compile(rf"\bndata[ =:]{{1,3}}(?P<n>{NUMBER})")
_PHRASE: Final = (
    r"(?:[Kk][Vv][Mm] |[Vv][Cc][Pp][Uu] |[Cc][Pp][Uu] |[Vv][Mm] |[Gg]uest |hypervisor )?"
    r"(?:[Ee][Xx][Ii][Tt](?:[ _-]?(?:[Rr][Ee][Aa][Ss][Oo][Nn]|[Cc]ode|[Tt]ype|[Ee]vent))?|[Ee]xited with reason)"
)
_ON_RUN: Final = r" (?:on|from|during|in) (?:[Vv][Cc][Pp][Uu]|KVM)[ _.]?(?:run|RUN)"
_BY_NUMBER: Final = re.compile(
    rf"\b(?:{_BAD})\b[^\n]{{0,24}}?\b{_PHRASE}\b(?: of| was| is|:? reason|{_ON_RUN})?[ =:(#]{{1,4}}(?P<n>{NUMBER})"
    rf"|\b{_PHRASE}[ =:(#]{{1,4}}(?P<m>{NUMBER})[^\n]{{0,30}}?\b(?:{_BAD})\b"
)
_BY_NAME: Final = re.compile(
    rf"\b(?:{_BAD}|[Gg]ot)\b[^\n]{{0,24}}?\b{_PHRASE}\b"
    r"[ =:(#\"']{1,4}(?P<name>[A-Z][A-Za-z0-9_]{2,30}(?![A-Za-z0-9_]))"
    r"|\bKVM: [Ee]xit:? (?P<words>shutdown|internal[ _]error|fail[ _]entry|exception|unknown)(?![a-z])"
    r"|\bexit_reason[ =:]{1,3}(?:KVM_EXIT_)?(?P<upper>[A-Z][A-Z0-9_]{2,30}(?![A-Za-z0-9_]))"
)
_GOT_NAME: Final = re.compile(r"\b[Gg]ot:? (?:VcpuExit::|KVM_EXIT_)?(?P<name>[A-Z][A-Za-z0-9_]{2,30}(?![A-Za-z0-9_]))")
_GOT: Final = re.compile(
    r"\b[Gg]ot:? (?:exit_?reason ?[=:]? ?)?(?P<n>[0-9]{1,3}) \((?P<name>[A-Z][A-Z0-9_]{1,30})\)"
    rf"|\b[Gg]ot exit_reason (?P<m>{NUMBER})|\b[Gg]ot exit_reason {{2,90}}: (?P<o>[0-9]{{1,3}}) \("
)
# No word says that it is bad, but these exits are: "KVM exit reason: SHUTDOWN", "vcpu_run: exit_reason=9".
_PLAIN_NAME: Final = re.compile(
    r"\b(?:KVM|kvm|vcpu|vCPU|VCPU|VM|vm)[ _]exit(?:[ _]reason)?[ =:]{1,3}(?P<name>[A-Z][A-Za-z_]{4,30}(?![A-Za-z0-9_]))"
    r"|\bexit reason[ =:]{1,3}(?P<upper>[A-Z]{4,12}(?:_[A-Z]{4,10})?(?![A-Za-z0-9_]))"
)
_PLAIN_NUMBER: Final = re.compile(
    r"(?:kvm|KVM|[Vv][Cc][Pp][Uu])[^\n]{0,60}?\bexit_reason ?[=:] ?(?P<n>0x11|0x[89]|17|[89])(?![0-9a-zA-Z])"
)
# In a sentence: "exits at once with `run->exit_reason` set to `8`".
_SAID_NUMBER: Final = re.compile(
    r"\bexit_reason[`'\"]? (?:is |was )?(?:set to|equal to|of|is|was) [`'\"]?(?P<n>0x11|0x[89]|17|[89])(?![0-9a-zA-Z])"
)
_UNMISTAKABLE: Final = frozenset({8, 9, 17})
# Nothing but the number: the default case of many small programs.
_WHOLE: Final = re.compile(
    r"^(?:[\w.\[\]/-]{1,40}: ?|\[[\w/ -]{1,40}\]:? ?){0,2}"
    rf"(?:exit_reason|[Ee]xit [Rr]eason|[Uu]n(?:handled|known|expected) reason)(?: ?[=:] ?| )(?P<n>{NUMBER})[.,]?\s*$"
)
_MOST_EXITS: Final = 64  # higher numbers are hardware's exit reasons
_TRIPLE: Final = re.compile(r"\b[Tt]riple[ -]?[Ff]ault(?:ed)?\b|\bTRIPLE FAULT\b")
_TRIPLE_OF_KVM: Final = re.compile(r"[Vv][Cc][Pp][Uu]|KVM|\bkvm\b|\bVMM\b")
_MEMORY_FAULT: Final = re.compile(r"\bKVM memory fault\b")
_RUN: Final = re.compile(
    r"\bKVM_RUN\b|\bkvm_run\b(?!->|\.)|\b[Vv][Cc][Pp][Uu](?:[_ ]|\.|::)?[Rr]un\b"
    r"|\b[Rr]un(?:ning)?[_ ](?:the |a |of |KVM |kvm )?[Vv][Cc][Pp][Uu]"
    r"|\bVcpuRun\b|\bRunVcpu\b|\bV[Cc][Pp][Uu] error\b|\bvcpu hit\b|\bkvm run\b|\bstart virtual CPU\b|\bioctl ?\(RUN\)"
)
_WEAK_RUN: Final = re.compile(
    r"\b(?:[Ff]ailed to|[Cc]annot|[Cc]ould not|[Ee]rror) run(?:ning)? (?:the )?(?:VM|vm|guest)\b"
)
_ORDINARY_ERRNOS: Final = frozenset({"EINTR", "EAGAIN"})  # a signal, a vCPU that waits for its start
_IN: Final = re.compile(r"\b(?:in|from|on|during|at)(?: the)?:? \Z")  # "Bad address in KVM_RUN"
_SHORT: Final = 30
_WEAK_ERRNOS: Final = frozenset({"EFAULT", "ENOSYS", "EHWPOISON", "EIO"})
_OTHER_CALL: Final = re.compile(r"\bmmap\b|KVM_(?:GET|SET|CREATE|CHECK|ENABLE|CAP)_|\bseccomp\b")
# Spoken by others: QEMU (its own reader), the host's kernel, other hypervisors.
_OTHERS: Final = re.compile(
    r"entry failed, hardware|error\. ?Suberror|^\W{0,16}Suberror|internal error\.\s*$|KVM: unknown exit"
    r"|unknown exit, hardware|KVM: exception [0-9]{1,3} exit|kvm run failed|kvm_run: failed entry|unhandled vm exit"
    r"|kvm_run returned|extra data\[|\b(?:vmx|svm): (?:unexpected|unhandled)|\bkvm \[[0-9]{1,9}\]:"
    r"|\bkvm_(?:intel|amd):|VM-[Ee]xit|[Hh][Aa][Xx][Mm]?_|\(XEN\)|WHPX|\bHVF\b|hv_vcpu|VMRUN_"
)


def read_line(line: str) -> dict[str, Any] | None:
    """The facts of a line in any program's words, or ``None``."""
    if _OTHERS.search(line):
        return None
    text = without_expectations(line)
    return _by_name(text) or _by_words(text) or _by_number(line, text) or _by_errno(text)


def _by_name(text: str) -> dict[str, Any] | None:
    for match in _NAME.finditer(text):
        name = match["kernel"] or match["suberror"] or match["camel"] or match["go"] or match["bare"]
        reason = 17 if name.startswith("INTERNAL_ERROR") else number_of(name)
        if reason is None or is_prose(text, match.start(), match.end()):
            continue
        before = text[max(0, match.start() - 40) : match.start()]
        bad = bool(_IS_BAD.search(before))
        if match["camel"]:
            if not (bad or _IS_KVM.search(text)):
                continue
            facts = debug_facts(text[match.start() :])
            if facts is not None:
                return _with_numbers(facts, text, match.end())
        about = bad or _IS_KVM.search(text) or _SUBERROR.search(text) or text.startswith(": ", match.end())
        if match["bare"] and not about:
            continue
        if reason in FAILURES or bad:
            facts = _with_numbers({"exit_reason": reason}, text, match.end())
            if name in _SUBERROR_NAMES:
                facts.setdefault("suberror", _SUBERROR_NAMES[name])
            return facts
    return None


def _with_numbers(facts: dict[str, Any], text: str, after: int) -> dict[str, Any]:
    """The number that the exit carries: the first behind its name that is not labelled as a CPU's."""
    reason = facts["exit_reason"]
    if reason == 17:
        if "suberror" not in facts and (match := _SUBERROR.search(text) or _bare_number(text, after, reason)):
            facts["suberror"] = integer(match["n"])
        if match := _NDATA.search(text):
            facts["ndata"] = integer(match["n"])
        if facts.get("suberror", 0) >= 1 << 32:
            del facts["suberror"]
        return facts
    if reason == 9 and "hardware_error" not in facts and (number := _first_number(text, after, reason)) is not None:
        facts["hardware_error"] = number
    elif reason == 0 and (number := _first_number(text, after, reason)) is not None:
        facts["hardware_reason"] = number
    elif reason == 1 and (match := _EXCEPTION.match(text, after)):
        facts["exception"] = integer(match["vector"])
        if match["code"]:
            facts["exception_error_code"] = integer(match["code"])
    return facts


def _bare_number(text: str, after: int, reason: int) -> re.Match[str] | None:
    """The number right behind an exit's name, or behind the exit's own: ``KVM_EXIT_INTERNAL_ERROR (17): 3``."""
    match = _BARE_NUMBER.match(text, after)
    if match is None or integer(match["n"]) != reason:
        return match
    return _BARE_NUMBER.match(text, match.end() + text.startswith(")", match.end()))


def _first_number(text: str, after: int, reason: int) -> int | None:
    """The first number that is neither a CPU's nor the exit's own, as in ``KVM_EXIT_FAIL_ENTRY (9), reason 7``."""
    for match in _LABELLED.finditer(text, after, min(len(text), after + 160)):
        if _CPU_LABEL.search(match["label"].rstrip(" =:(")):
            continue
        if not match["label"] and match["n"] == str(reason) and match.start() == after:
            continue
        digits = match["n"]
        if not digits.lower().startswith("0x") and not digits.isdigit():
            return int(digits, 16)
        return hardware_reason(digits)
    return None


def _by_words(text: str) -> dict[str, Any] | None:
    if (match := _ENTRY_WORDS.search(text)) and _IS_KVM.search(text) and not is_prose(text, match.start(), match.end()):
        number = _first_number(text, match.end(), 9)
        if number is not None:
            return {"exit_reason": 9, "hardware_error": number}
    if match := _INTERNAL_WORDS.search(text):
        facts = _with_numbers({"exit_reason": 17}, text, match.end())
        if "suberror" in facts or re.fullmatch(r"[^\n]{0,24}", text[match.end() :].strip()):
            return None if is_prose(text, match.start(), match.end()) else facts
    if (match := _TRIPLE.search(text)) and _TRIPLE_OF_KVM.search(text):
        return None if is_prose(text, 0, match.end()) else {"exit_reason": 8}
    match = _MEMORY_FAULT.search(text)
    return {"exit_reason": 39} if match and _IS_BAD.search(text) else None


def _by_number(line: str, text: str) -> dict[str, Any] | None:
    for pattern in (_GOT, _BY_NUMBER, _WHOLE):
        match = pattern.search(text)
        if match:
            reason = integer(next(filter(None, map(match.groupdict().get, ("n", "m", "o")))))
            if reason >= _MOST_EXITS or (pattern is _WHOLE and reason in ORDINARY):
                return None
            return {"exit_reason": reason}
    for match in _BY_NAME.finditer(text):
        name = match["name"] or match["upper"] or match["words"]
        by_name = number_of(name)
        if not match["name"] and by_name is not None and by_name not in ORDINARY:
            return {"exit_reason": by_name}
        if match["name"] and (facts := debug_facts(text[match.start("name") :])) is not None:
            return _with_numbers(facts, text, match.end())
    if (match := _PLAIN_NUMBER.search(text)) is not None:
        return _with_numbers({"exit_reason": integer(match["n"])}, text, match.end())
    if (match := _SAID_NUMBER.search(text)) and not is_prose(text, match.start(), match.end()):
        return {"exit_reason": integer(match["n"])}
    if match := _PLAIN_NAME.search(text):
        plain = number_of(match["name"] or match["upper"])
        if plain in _UNMISTAKABLE and not is_prose(text, match.start(), match.end()):
            return _with_numbers({"exit_reason": plain}, text, match.end())
    if "VcpuExit::" in line and (match := _GOT_NAME.search(text)):
        return debug_facts(text[match.start("name") :])
    return None


def _by_errno(text: str) -> dict[str, Any] | None:
    for pattern in (_RUN, _WEAK_RUN):
        match = pattern.search(text)
        if not match or _OTHER_CALL.search(text, max(0, match.start() - 40), match.start()):
            continue
        errno = errno_in(text[match.end() :])
        if errno is None and _IN.search(text, max(0, match.start() - _SHORT), match.start()):
            errno = errno_in(text[max(0, match.start() - 4 * _SHORT) : match.start()])
        if errno and errno not in _ORDINARY_ERRNOS and (pattern is _RUN or errno in _WEAK_ERRNOS):
            return {"errno": errno}
    return None


_LEVEL: Final = re.compile(r"\b(?:ERROR|ERR|FATAL|CRITICAL|PANIC|panicked|panic:|fatal:|error:|Error:)")
_RUN_FAILED: Final = re.compile(
    r"\bKVM_RUN (?:ioctl )?failed\b|\bKVM_RUN error[.!]?\s*$"
    r"|\bVCPU error\b|\bv[Cc][Pp][Uu][ _]run failed\b|\bv[Cc][Pp][Uu] run error\b"
    r"|\b[Ff]ailed to run (?:the )?[Vv][Cc][Pp][Uu]\b|\bFailure during vcpu run\b"
)
_NAMES_A_FAILURE: Final = re.compile(
    r"\bKVM_EXIT_(?:FAIL_ENTRY|INTERNAL_ERROR|SHUTDOWN|MEMORY_FAULT|EXCEPTION|UNKNOWN)\b"
    r"|\b(?:FailEntry|InternalError)\b(?=[^\n]{0,80}[Vv]cpu)"
)


def failed_somehow(line: str) -> Kind | None:
    """What an error line is about whose facts no pattern finds: KVM_RUN's failure, or an exit in an unknown form."""
    if _OTHERS.search(line):
        return None
    text = without_expectations(line)
    match = _RUN_FAILED.search(text)
    if match and not _OTHER_CALL.search(text) and not is_prose(text, match.start(), match.end()):
        return "run-error"
    match = _NAMES_A_FAILURE.search(text) if _LEVEL.search(line) else None
    return "unread" if match and not is_prose(text, match.start(), match.end()) else None
