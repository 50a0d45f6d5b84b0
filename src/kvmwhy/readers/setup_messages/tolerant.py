"""A refused set-up in words that no table has: a call to KVM, that it failed, and an errno spelled anyhow.

A line is one if it names the ioctl (``KVM_SET_SREGS``) or its object (``special registers``), says that it failed, and
is neither source code nor documentation nor a trace of calls that succeeded. A name alone says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final, NamedTuple

from kvmwhy.ingest.multi_search import Finder, finder
from kvmwhy.readers.errno_spelled import Spelled, find_errno
from kvmwhy.readers.setup_messages.calls import CALLS, IOCTL, Call
from kvmwhy.readers.setup_messages.line_keys import LINE_KEYS

# Literal texts, one of which every line has that this module reads.
_FAILED: Final = re.compile(
    r"\b(?:fail(?:ed|ure|s)?|error|errors|cannot|can't|can not|could not|couldn't|unable|not able|refused"
    r"|rejected|panick?ed|panic|fatal"
    r"|denied|invalid|missing|busy|unsupported|assert(?:ion)?|aborted|unwrap|Err)\b|失败|错误|エラー|失敗|실패|Fehler"
    r"|fehlgeschlagen|ошибка|erreur|échec",
    re.IGNORECASE,
)
# A call's failure as strerror's words behind a colon: perror("KVM_SET_SREGS").
_PERROR: Final = re.compile(r"[)'\"`]{0,2}(?:\s{0,2}ioctl)?\s{0,2}(?::|=|-+>?)\s{0,3}")
_CODE: Final = re.compile(
    r"^\s*(?:\+[ \t]|-(?:\t|[ ]{2})|//|/\*|\*[ /]|#\s?(?:define|include|ifdef|if)\b|@@ |case |if ?\("
    r"|else\b|return\b|fn |def |let |const |static |struct |pub |int )"
    r"|[;{]\s*(?:\\)?$|=>|->|&&|\|\||%[sdmlxuz](?![a-z])|%#?(?:l{0,2}|0?[0-9]{0,2})[xdu]\b|\\n\""
    r"|\bexpect\(|\bunwrap\(\)\s*[;,.]|\)\?;|\bstrerror\(|\berrp\b|\bperror\(|\berr\(|#\[error"
    r"|::\w+\([^)\n]{0,40}\);|\.to_string\(\)|^[ \t]{8,200}\"[^\"\n]{0,300}\",?\s*$"
)
_NO_DEVICE: Final = re.compile(
    r"(?:cannot|can't|could not|couldn't|unable to|failed to) (?:access|open|use|find|stat|read|write)"
    r"(?: the)?(?: device| file| kvm device)? ['\"`]?/dev/kvm\b",
    re.IGNORECASE,
)
# "KVM" as a word; "kvm:" in small letters is as often the name of QEMU's program.
_NAMED: Final = re.compile(
    r"(?<![\w./=-])(?:(?:KVM|Kvm)(?![\w./=-])|kvm (?:error|ioctl|backend|hypervisor|vm|vcpu|device)\b)"
)
_OTHER: Final = re.compile(
    r"KVM_RUN|KVM_EXIT|run failed|failed to run|VcpuRun|internal error|entry failed|unknown exit|exit reason|emulat"
    r"|\bguest\b|-(?:drive|device|netdev|blockdev|chardev)\b"
)
# A manager of VMs that tells what libvirt told it: "creating VM" is its own, and QEMU's message is the reason.
_TOLD: Final = re.compile(r"\bvirError\(|while connecting to monitor|cannot set up guest memory")
_PANIC: Final = re.compile(r"panicked at|called `(?:Result|Option)::|thread '")
_PROSE: Final = re.compile(
    r"\b(?:returns?|should|would|may|might|must|will|can be|is used|are used|e\.g\.|for example|fix(?:es"
    r"|ed|ing)?:?|handle|handled|handling|properly|patch(?:es)?|commit"
    r"|otherwise|see|documentation|doc|ensure|avoid|prevent|allow|support for|since|introduc\w{1,5}"
    r"|implement\w{0,4}|refactor\w{0,4}|add support|this ioctl|the ioctl is|whether|TODO|FIXME|in case"
    r"|in order|if the|if an?|when the)\b",
    re.IGNORECASE,
)
_STRACE: Final = re.compile(
    r"\bioctl\([0-9]{1,5}(?:<[^>\n]{0,120}>)?, (?P<call>KVM_[A-Z0-9_]{3,40})\b[^\n]{0,2000}?\)\s{1,40}= "
    r"-1 (?P<errno>E[A-Z0-9]{2,14})\b"
)
_ANY_STRACE: Final = re.compile(r"\bioctl\([0-9]{1,5}(?:<[^>\n]{0,120}>)?, (?:KVM_|0x)")
# Programs try these to see what the host has; that they fail is no failure.
_PROBES: Final = re.compile(
    r"KVM_(?:CHECK_EXTENSION|GET_|CREATE_DEVICE|MEMORY_ENCRYPT_OP|ENABLE_CAP|HAS_DEVICE|SET_DEVICE_ATTR"
    r"|X86_|ARM_PREFERRED|XEN_)"
)
_TRACE: Final = re.compile(r"\bkvm_[a-z_]{3,24}: |\bperf trace\b|sys_ioctl|\+0x[0-9a-f]+/0x")
_KVM: Final = re.compile(
    r"kvm|firecracker|cloud-hypervisor|crosvm|krun|hyperlight|\bvmm\b|hypervisor|microvm|qemu|vcpu|runsc"
    r"|gvisor|uhyve|solo5|dragonball|stratovirt",
    re.IGNORECASE,
)
_GET: Final = re.compile(r"\b[gG]et(?:ting)?(?![a-z])")
_CAUSE: Final = re.compile(
    r"^\s*(?:Caused by|[0-9]{1,2}: |caused by|\(?(?:os error|errno)|(?:source|cause|reason|error"
    r"|details?)\b)|^\s{2,}\S|^[>|]",
    re.IGNORECASE,
)
_NEAR: Final = 30  # characters between a verb and what it is about
_MOST_LINES: Final = 8
_LONGEST: Final = 8192


class Refusal(NamedTuple):
    """A line of a refused call."""

    at: int
    end: int
    call: str
    detail: str
    errno: str | None


def lines_of_interest(text: str) -> Iterator[tuple[int, int]]:
    """Where the lines are that hold an anchor."""
    data = text.encode("utf-8", "replace")
    narrow = len(data) == len(text)
    place, done, end = 0, 0, -1  # of characters, of bytes
    for _, at, _ in _search()(data.lower()):
        if at < end:
            continue
        start = data.rfind(b"\n", 0, at) + 1
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if narrow:
            yield start, end
            continue
        place += len(data[done:start].decode("utf-8", "replace"))
        size = len(data[start:end].decode("utf-8", "replace"))
        yield place, place + size
        place, done = place + size, end


@cache
def _search() -> Finder:
    return finder([key.encode() for key in LINE_KEYS])


def read_line(text: str, start: int, end: int) -> Refusal | None:
    """The refused call that the line ``text[start:end]`` names, if it is one."""
    if end - start > _LONGEST:
        end = start + _LONGEST
    if _ANY_STRACE.search(text, start, end):
        traced = _STRACE.search(text, start, end)
        if traced is None or _PROBES.match(traced["call"]):
            return None
        return Refusal(traced.start(), traced.end(), traced["call"], "strace", traced["errno"])
    line = text[start:end]
    if _TRACE.search(line):
        return None
    panic = _PANIC.search(line) is not None
    if not panic and _CODE.search(line):
        return None
    named = IOCTL.search(line)
    if named is not None:
        return _of_ioctl(text, start, end, named)
    if _TOLD.search(line):
        return None
    return _of_object(text, start, end, line, panic=panic)


def _of_ioctl(text: str, start: int, end: int, named: re.Match[str]) -> Refusal | None:
    line = text[start:end]
    name = f"KVM_{named['kvm'] or named['bare']}"
    errno = find_errno(text, start + named.end(), end) or find_errno(text, start, end)
    behind = _PERROR.match(text, start + named.end(), end)
    spelled_at_once = behind is not None and errno is not None and errno.start - behind.end() <= 24
    failed = _FAILED.search(line)
    if not spelled_at_once:
        if failed is None or _PROSE.search(line):
            return None
        if errno is None and not _says_failed(line, named):
            return None
    if name.startswith("KVM_REG_"):
        name = "KVM_GET_ONE_REG" if re.search(r"\bget", line) else "KVM_SET_ONE_REG"
    if name.startswith("KVM_CAP_"):
        return Refusal(
            start + named.start(), end, "KVM_CHECK_EXTENSION", "missing-capability", errno.name if errno else None
        )
    if name.startswith("KVM_GET_") and (errno is None or errno.name == "EIO"):
        return None  # every ioctl returns EIO once the VM is dead: that is what came before
    errno = errno or _errno_of_cause(text, end)
    return Refusal(start + named.start(), end, name, _detail(name), errno.name if errno else None)


def _says_failed(line: str, named: re.Match[str]) -> bool:
    """``KVM_SET_SREGS failed``, ``Fatal: KVM_CREATE_VM ioctl``, ``Unable to do KVM_CREATE_VCPU``."""
    before, behind = line[: named.start()], line[named.end() :]
    return bool(
        re.match(
            r"[)'\"`]{0,2}(?:\s{1,2}ioctl)?(?:\(\))?[:,]?\s{1,3}(?:has |was |is )?(?:failed|failure|error"
            r"|refused|not supported|unsupported)\b",
            behind,
            re.IGNORECASE,
        )
        or re.search(
            r"(?:^|\s)(?:fatal|error|cannot|can't|could not|couldn't|unable to|failed to|failed:|failed"
            r"|failure:?)[:]?\s{0,3}(?:\w{1,12}\s{1,2}){0,3}['\"`(]{0,2}(?:ioctl\(?\s?)?$",
            before,
            re.IGNORECASE,
        )
    )


def _of_object(text: str, start: int, end: int, line: str, *, panic: bool) -> Refusal | None:
    failed = _FAILED.search(line)
    errno = find_errno(text, start, end) or (_errno_of_cause(text, end) if failed else None)
    if errno is None:
        # "Error creating vCPU" alone is as often a heading, a test's name, a sentence.
        device = _NO_DEVICE.search(line)
        return (
            Refusal(start + device.start(), end, "open", "device", None) if device and not _PROSE.search(line) else None
        )
    named = _named(line)  # asked last: it takes longest
    if named is None:
        return _of_kvm(text, start, end, line)
    call, match, is_read = named
    errno = find_errno(text, start + match.end(), end) or errno
    if failed is None and not _glued(text, start + match.end(), errno):
        return None
    if _PROSE.search(line) and not panic:
        return None
    if not call.specific and not _KVM.search(text, max(0, start - 2000), min(len(text), end + 500)):
        return None
    name = call.name
    if name == "KVM_CREATE_VM" and errno.name in {"ENOENT", "EACCES", "EPERM", "ENODEV"}:
        name, detail = "open", "device"  # KVM_CREATE_VM returns none of them: it is /dev/kvm that could not be opened
    else:
        detail = call.detail
    if is_read:
        name = name.replace("KVM_SET_", "KVM_GET_")
    return Refusal(start + match.start(), end, name, detail, errno.name)


def _named(line: str) -> tuple[Call, re.Match[str], bool] | None:
    """The call that a line names, and whether its state is read there and not written."""
    written = _GET.sub(lambda match: match[0].replace("get", "set").replace("Get", "Set"), line)
    for call in CALLS:
        if match := call.pattern.search(line):
            return call, match, _GET.search(line, max(0, match.start() - _NEAR), match.end()) is not None
    if written != line:
        for call in CALLS:
            if match := call.pattern.search(written):
                return call, match, True
    return None


def _of_kvm(text: str, start: int, end: int, line: str) -> Refusal | None:
    """KVM by name, a failing verb, and an errno: which call it was is not said."""
    named = _NAMED.search(line)
    if named is None or _OTHER.search(line) or _FAILED.search(line) is None or _PROSE.search(line):
        return None
    errno = find_errno(text, start, end) or _errno_of_cause(text, end)
    if errno is None:
        return None
    return Refusal(start + named.start(), end, "KVM", "unnamed-call", errno.name)


def _glued(text: str, end: int, errno: Spelled) -> bool:
    """``VmFd(Error(16))``, ``create vcpu: invalid argument``: the errno stands right behind the call."""
    between = text[end : errno.start]
    return errno.start >= end and len(between) <= 40 and "\n" not in between and (between[:1] in "(:[{ " or not between)


def _errno_of_cause(text: str, end: int) -> Spelled | None:
    """An errno in the lines below that say the cause: anyhow's ``Caused by``, or an indented list."""
    at = end
    for _ in range(_MOST_LINES):
        begin = at + 1
        if begin >= len(text):
            return None
        at = text.find("\n", begin)
        at = len(text) if at < 0 else at
        line = text[begin:at]
        if not line.strip():
            continue
        if not _CAUSE.search(line):
            return None
        if errno := find_errno(text, begin, min(at, begin + _LONGEST)):
            return errno
    return None


_DETAILS: Final = {
    "KVM_CREATE_VM": "vm", "KVM_CREATE_VCPU": "vcpu", "KVM_SET_USER_MEMORY_REGION": "memory-region",
    "KVM_SET_USER_MEMORY_REGION2": "memory-region",
    "KVM_SET_SREGS": "special-registers", "KVM_SET_SREGS2": "special-registers", "KVM_SET_REGS": "general-registers",
    "KVM_SET_MSRS": "msr", "KVM_GET_MSRS": "msr",
    "KVM_SET_CPUID": "cpuid", "KVM_SET_CPUID2": "cpuid", "KVM_GET_SUPPORTED_CPUID": "cpuid",
    "KVM_SET_XSAVE": "xsave", "KVM_SET_XCRS": "xcrs", "KVM_SET_FPU": "fpu",
    "KVM_SET_LAPIC": "lapic", "KVM_SET_VCPU_EVENTS": "vcpu-events", "KVM_SET_MP_STATE": "mp-state",
    "KVM_SET_NESTED_STATE": "nested-state",
    "KVM_SET_DEBUGREGS": "debug-registers", "KVM_SET_TSC_KHZ": "tsc-frequency", "KVM_SET_TSS_ADDR": "tss-address",
    "KVM_SET_GSI_ROUTING": "irq-routing",
    "KVM_CREATE_IRQCHIP": "irqchip", "KVM_CREATE_PIT": "pit", "KVM_CREATE_PIT2": "pit", "KVM_CREATE_DEVICE": "vgic",
    "KVM_SET_DEVICE_ATTR": "device-attribute",
    "KVM_ARM_VCPU_INIT": "vcpu-init", "KVM_SET_ONE_REG": "one-register", "KVM_IRQFD": "irqfd",
    "KVM_IOEVENTFD": "ioeventfd", "KVM_ENABLE_CAP": "capability",
    "KVM_CREATE_GUEST_MEMFD": "guest-memfd", "KVM_SET_MEMORY_ATTRIBUTES": "memory-attributes",
    "KVM_CHECK_EXTENSION": "missing-capability",
}  # fmt: skip


def _detail(name: str) -> str:
    return _DETAILS.get(name, "ioctl")
