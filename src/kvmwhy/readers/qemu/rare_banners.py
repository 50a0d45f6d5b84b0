"""Announcements that few logs hold: those of kvm-userspace and qemu-kvm of 2007 to 2012, and of other architectures.

Formats: kvm-userspace libkvm.c and qemu-kvm.c (kvm_run, handle_unhandled, handle_failed_vmentry); QEMU's
target/{arm,riscv,s390x,mips}/kvm*.c (kvm_arch_handle_exit, kvm_arm_handle_dabt_nisv, handle_intercept).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from kvmwhy.abi import kvm_run
from kvmwhy.readers.qemu.banner import Banner, errno_of
from kvmwhy.record import Arch, Cpu, Symptom

GUEST_CRASHED: Final = "guest-crashed"
_KINDS: Final = {0: "unknown-exit", 1: "exception-exit", 8: "shutdown", 9: "entry-failure", 17: "internal-error"}
_MOST_EXIT_NUMBERS: Final = 64  # KVM_EXIT_*: higher numbers are the hardware's
_SIEIC: Final = 13  # KVM_EXIT_S390_SIEIC
_RISCV_SBI, _RISCV_CSR = 35, 36  # KVM_EXIT_RISCV_*
_LOW_BITS: Final = "this VMM printed only the low 16 bits of the reason"

Fields = dict[str, Any]


def _unhandled(message: re.Match[str]) -> Fields:
    """KVM_EXIT_UNKNOWN prints the vCPU, or, in 2007, two spaces; any other exit is printed by its own number."""
    spaces, prefix, digits, vcpu = message.groups()
    number = int(digits, 10 if digits.isdecimal() and not prefix else 16)
    if number >> 31 & 1:  # until 2.6.29 a failed entry was an unknown exit, too
        return {"kind": "entry-failure", "hardware_error": number, "exit_reason": 9, "vcpu": vcpu}
    if vcpu or len(spaces) > 1 or number > _MOST_EXIT_NUMBERS:
        return {"kind": "unknown-exit", "hardware_reason": number, "exit_reason": 0, "vcpu": vcpu}
    return _exit(number)


def _exit(number: int) -> Fields:
    return {"kind": _KINDS.get(number, "other"), "exit_reason": number}


def _failed_entry(message: re.Match[str]) -> Fields:
    return {"kind": "entry-failure", "hardware_error": int(message[1]), "exit_reason": 9, "damage": _LOW_BITS}


def _exception(message: re.Match[str]) -> Fields:
    return {
        "kind": "exception-exit",
        "exception": int(message[1]),
        "exception_error_code": int(message[2], 16),
        "exit_reason": 1,
    }


def _run(message: re.Match[str]) -> Fields | None:
    known = errno_of(" ".join(message[1].split()))
    return {"kind": "run-error", "errno": known[0]} if known else None


def _entry_error(message: re.Match[str]) -> Fields:
    return {"kind": "entry-failure", "hardware_error": int(message[1], 16), "exit_reason": 9}


def _crash(message: re.Match[str]) -> Fields:
    """s390x: the guest stopped for good (target/s390x/kvm: unmanageable_intercept, handle_intercept)."""
    groups = message.groupdict()
    return {
        "kind": "symptom",
        "symptom": Symptom(kind=GUEST_CRASHED, fields={"reason": groups["reason"]}),
        "vcpu": groups["core"],
        "cpu": Cpu(registers={"psw_mask": int(groups["mask"], 16), "psw_addr": int(groups["addr"], 16)}),
    }


def _crash_event(message: re.Match[str]) -> Fields | None:
    """QMP's GUEST_PANICKED has the same in decimal, in any order."""
    values = dict(_MEMBER.findall(message[0]))
    words = values.get("psw-mask", ""), values.get("psw-addr", "")
    if values.get("type") != "s390" or "reason" not in values or not all(word.isdecimal() for word in words):
        return None
    mask, addr = (int(word) & (1 << 64) - 1 for word in words)
    return {
        "kind": "symptom",
        "symptom": Symptom(kind=GUEST_CRASHED, fields={"reason": values["reason"]}),
        "vcpu": core if (core := values.get("core", "")).isdecimal() else None,
        "cpu": Cpu(registers={"psw_mask": mask, "psw_addr": addr}),
    }


def _numbered(message: re.Match[str]) -> Fields:
    return _exit(int(message[1]))


def _intercept(_: re.Match[str]) -> Fields:
    return _exit(_SIEIC)


def _nisv(_: re.Match[str]) -> Fields:
    return _exit(kvm_run.EXIT_ARM_NISV)


def _sbi(message: re.Match[str]) -> Fields:
    return {**_exit(_RISCV_SBI), "exit_fields": {"extension_id": int(message[1])}}


def _csr(message: re.Match[str]) -> Fields:
    return {**_exit(_RISCV_CSR), "exit_fields": {"csr_num": int(message[1])}}


def _unmanageable(message: re.Match[str]) -> Fields:
    """QEMU 2.1 to 2.11: what is a reason of the guest's crash from then on."""
    return {
        "kind": "symptom",
        "symptom": Symptom(kind=GUEST_CRASHED, fields={"reason": _LOOPS[message["what"].split()[0]]}),
        "vcpu": message["core"],
        "cpu": Cpu(registers={"psw_mask": int(message["mask"], 16), "psw_addr": int(message["addr"], 16)}),
    }


_LOOPS: Final = {"program": "pgmint-loop", "external": "extint-loop", "operation": "opint-loop"}
_MEMBER: Final = re.compile(r'"(type|core|psw-mask|psw-addr|reason)":\s{0,4}"?([\w-]{1,24})"?')


class _Form(NamedTuple):
    anchor: str
    pattern: re.Pattern[str]
    fields: Callable[[re.Match[str]], Fields | None]
    arch: Arch | None = None


_FORMS: Final = (
    _Form(
        "unhandled vm exit",
        re.compile(r"\bunhandled vm exit:(\s{1,4})(0x)?([0-9a-f]{1,16})\b(?:\s+vcpu_id\s+([0-9]{1,5})\b)?"),
        _unhandled,
    ),
    _Form("kvm_run: failed", re.compile(r"\bkvm_run:\s+failed\s+entry,\s+reason\s+([0-9]{1,5})\b"), _failed_entry),
    _Form(
        "exception ",
        # A line of its own, and its register dump below it: other programs have exceptions, too.
        re.compile(
            r"^[ \t>]{0,16}exception\s([0-9]{1,2})\s\(([0-9a-f]{1,8})\)(?=\s{1,40}(?:rax|[RE]AX)[ =])", re.MULTILINE
        ),
        _exception,
        "x86",
    ),
    _Form("kvm_run: ", re.compile(r"\bkvm_run:\s+(?!failed)([^\n]{2,80})"), _run),
    _Form(
        "vm entry failed with error", re.compile(r"\bkvm:\s+vm\s+entry\s+failed\s+with\s+error\s+0x([0-9a-f]{1,16})\b"),
        _entry_error, "x86",
    ),
    _Form("un-handled exit reason", re.compile(r"\bun-handled exit reason ([0-9]{1,3})\b"), _numbered),
    _Form("Unknown KVM exit: ", re.compile(r"\bUnknown KVM exit: ([0-9]{1,3})\b"), _numbered, "s390x"),
    _Form(
        "kvm_arch_handle_exit: unknown", re.compile(r"\bkvm_arch_handle_exit: unknown exit reason ([0-9]{1,3})\b"),
        _numbered, "mips",
    ),
    _Form("Unknown intercept code", re.compile(r"\bUnknown intercept code: ([0-9]{1,3})\b"), _intercept, "s390x"),
    _Form(
        "panic s390: ",  # libvirt's domain log
        re.compile(
            r"panic s390: core='(?P<core>[0-9]{1,5})' psw-mask='0x(?P<mask>[0-9a-f]{1,16})'"
            r" psw-addr='0x(?P<addr>[0-9a-f]{1,16})' reason='(?P<reason>[\w-]{1,24})'"
        ),
        _crash,
        "s390x",
    ),
    _Form(
        "Guest crashed on cpu",
        re.compile(
            r"Guest crashed on cpu (?P<core>[0-9]{1,5}): (?P<reason>[\w-]{1,24})\s{1,40}"
            r"PSW: 0x(?P<mask>[0-9a-f]{16}) 0x(?P<addr>[0-9a-f]{16})"
        ),
        _crash,
        "s390x",
    ),
    _Form("GUEST_PANICKED", re.compile(r'"GUEST_PANICKED"[^\n]{0,400}'), _crash_event, "s390x"),
    _Form("KVM unimplemented icpt", re.compile(r"\bKVM unimplemented icpt (SOFT|IO)\b"), _intercept, "s390x"),
    _Form(
        "Data abort exception triggered",
        re.compile(r"\bData abort exception triggered by guest memory access at physical address: 0x[0-9a-f]{1,16}\b"),
        _nisv, "arm64",
    ),
    _Form("Data abort exception with no", re.compile(r"\bData abort exception with no valid ISS\b"), _nisv, "arm64"),
    _Form(
        " SBI ",
        re.compile(
            r"\b(?:un-handled SBI EXIT, specific reasons is|Unhandled SBI exit with extension-id) ([0-9]{1,10})\b"
        ),
        _sbi, "riscv64",
    ),
    _Form("un-handled CSR EXIT", re.compile(r"\bun-handled CSR EXIT for CSR ([0-9]{1,5})\b"), _csr, "riscv64"),
    _Form(
        "Unmanageable ",
        re.compile(
            r"\bUnmanageable (?P<what>program interrupt|external interrupt|operation exception loop)! "
            r"CPU(?P<core>[0-9]{1,5}) new PSW: 0x(?P<mask>[0-9a-f]{16}):(?P<addr>[0-9a-f]{16})\b"
        ),
        _unmanageable, "s390x",
    ),
)  # fmt: skip


def find_rare_banners(text: str) -> Iterator[Banner]:
    """Every such announcement; not in order."""
    for form in _FORMS:
        if form.anchor not in text:
            continue
        for message in form.pattern.finditer(text):
            fields = form.fields(message)
            if fields is None:
                continue
            kind, damage, vcpu = fields.pop("kind"), fields.pop("damage", None), fields.pop("vcpu", None)
            banner = Banner(message.start(), kind, **fields)
            banner.arch = form.arch
            banner.vcpu = int(vcpu) if vcpu else None
            banner.damage += [damage] if damage else []
            yield banner
