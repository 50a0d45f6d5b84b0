"""What a program wrote as JSON of its calls of KVM_RUN, one object a line.

    {"errno": 38, "exit_reason": 0, "pc": "0x40001000", "pstate": "0x3c5"}
    {"exit_reason": 24, "words": ["0x100000001", "0"], "pc": "0x80001000"}     words: of kvm_run's union, 64 bits each
    {"insn": "a9401003", "text": "ldp x3,x4,[x0]", "events": [{"nisv_esr_iss": "0x5", "fault_ipa": "0xd000000"}]}

The forms are those of the probes that measure KVM on arm64, riscv64 and ppc64: ``mmio`` and ``done`` (nothing failed),
``guest_exception`` (ESR_EL1), ``guest_trap_scause``, ``guest_vector`` (what the guest met instead), and set-up calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from kvmwhy.abi import exit_words, kvm_run, one_reg
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.arch_clues import arch_of_errno
from kvmwhy.readers.errno_spelled import NAMES
from kvmwhy.readers.run_page import failure_of
from kvmwhy.record import Arch, Code, Cpu, Failure, Kind, Setup, Source

_OBJECT: Final = re.compile(r"\{\s{0,4}\"")
_LONGEST: Final = 16 << 10  # characters of a line
_MOST: Final = 100_000
_EINTR: Final = 4
# Keys that only who calls KVM_RUN writes: of a probe, and of a vCPU. An errno or a signal alone is any program's.
_OF_A_PROBE: Final = frozenset({"insn", "scenario"})
_OF_A_VCPU: Final = frozenset({"pc", "words"})
_UNKNOWN: Final[dict[str, Any]] = {
    "suberror": None, "ndata": None, "data": (), "hardware_error": None, "hardware_reason": None, "emulation": None,
}  # fmt: skip
# Keys that stand for an errno of one call, and which.
_SETUP: Final = {
    "vcpu_init_errno": "KVM_ARM_VCPU_INIT", "second_init_errno": "KVM_ARM_VCPU_INIT",
    "create_vm_errno": "KVM_CREATE_VM",
}  # fmt: skip
# What a test is called may be all that names the call.
_NAMED_CALLS: Final = (("memslot", "KVM_SET_USER_MEMORY_REGION"), ("vcpu-init", "KVM_ARM_VCPU_INIT"))
_ARCH_OF_KEY: Final[dict[str, tuple[Arch, str]]] = {
    "nisv_esr_iss": ("arm64", "the fields of KVM_EXIT_ARM_NISV"),
    "esr_iss": ("arm64", "the fields of KVM_EXIT_ARM_NISV"),
    "guest_exception": ("arm64", "ESR_EL1"), "pstate": ("arm64", "PSTATE"),
    "vcpu_init_errno": ("arm64", "KVM_ARM_VCPU_INIT"), "second_init_errno": ("arm64", "KVM_ARM_VCPU_INIT"),
    "guest_trap_scause": ("riscv64", "SCAUSE"), "guest_vector": ("ppc64", "SRR0 and SRR1"),
    "run_before_papr": ("ppc64", "KVM_CAP_PPC_PAPR"), "icptcode": ("s390x", "icptcode"),
}  # fmt: skip
_ARCH_OF_TEXT: Final[tuple[tuple[re.Pattern[str], Arch], ...]] = (
    (re.compile(r"\[(?:[xw]\d{1,2}|sp)\b|\b[xw]\d{1,2},|\b(?:hvc|smc|svc|eret|brk|hlt|udf|br [xw])\b"), "arm64"),
    (re.compile(r"\((?:a|s|t)\d{1,2}\)|\b(?:wfi|jr a\d|csr\w{1,3}|ecall|ebreak|[sm]ret|fence)\b"), "riscv64"),
    (re.compile(r"\b\d{1,2},-?\d{1,6}\(\d{1,2}\)|^\w{2,8}\.? \d{1,2},\d{1,4}(?:,\d{1,2}){0,3}$"), "ppc64"),
)
_A64_SYSTEM: Final = "d5"  # the top byte of WFI, MSR, MRS, DC, IC, AT
# What a test program asks for, and a guest that switches itself off.
_NO_FAILURE: Final = kvm_run.ROUTINE | kvm_run.ROUTINE_OF_ONE_ARCH | {kvm_run.EXIT_SYSTEM_EVENT}
_IPA: Final = re.compile(r"\bipa\b")
_ESR_IN_DATA: Final = "ESR_EL1"


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One failure for each result; what says nothing of KVM_RUN is none."""
    failures: list[Failure] = []
    for number, line in enumerate(text.text.split("\n"), first_line):
        if '"' in line and len(line) <= _LONGEST and (start := _OBJECT.search(line)) is not None:
            source = Source(path=path, line=number)
            failures += [msgspec.structs.replace(failure, source=source) for failure in _results(line[start.start() :])]
        if len(failures) >= _MOST:
            break
    return Evidence(tuple(failures), format="results of KVM_RUN" if failures else None)


def _results(line: str) -> Iterator[Failure]:
    try:
        fields = msgspec.json.decode(line.rstrip(" \t\r,").encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    events = fields.get("events")
    if isinstance(events, list) and "insn" in fields:
        mappings = [event for event in events if isinstance(event, dict)]
        telling = [event for event in mappings if not {"mmio", "done"} & event.keys()] or mappings[:1]
        for event in telling[:1]:
            yield from _result(event, fields)
        return
    yield from _result(fields, fields)


def _result(event: Mapping[str, Any], around: Mapping[str, Any]) -> Iterator[Failure]:
    """What one event tells; ``around`` has the instruction, or the test's name."""
    failure = _read_event(event, around)
    if failure is None:
        return
    arch, why = _arch(event, around, failure)
    code = _code(around, arch)
    yield msgspec.structs.replace(failure, arch=arch, arch_from=why, code=code)


def _read_event(event: Mapping[str, Any], around: Mapping[str, Any]) -> Failure | None:
    errno, reason = _int(event.get("errno")), _int(event.get("exit_reason"))
    if (setup := _setup(event, around, errno, reason)) is not None:
        return setup
    if "before_init" in event and errno:
        return Failure(kind="run-error", errno=_name(errno))
    if (refused := _int(event.get("run_before_papr"))) is not None:
        return Failure(kind="run-error", errno=_name(refused), exit_reason=reason)
    registers = _registers(event)
    cpu = Cpu(registers=registers) if registers else None
    if {"guest_exception", "guest_trap_scause", "guest_vector"} & event.keys():
        return Failure(kind="other", cpu=cpu) if registers else None
    if (signal := _int(event.get("signal"))) is not None:
        code = _int(event.get("si_code"))
        fields = {"signal": signal} | ({} if code is None else {"si_code": code})
        return Failure(kind="other", exit_fields=fields) if _OF_A_PROBE & around.keys() else None
    if errno:
        if not (_OF_A_PROBE & around.keys() or _OF_A_VCPU & event.keys()):
            return None  # some program's call of its own
        kind: Kind = "run-error" if errno != _EINTR else "healthy"
        return Failure(kind=kind, errno=_name(errno), exit_reason=reason, cpu=cpu)
    if "mmio" in event or "done" in event:
        return _mmio(event)
    iss = _int(event.get("nisv_esr_iss", event.get("esr_iss")))
    if iss is not None:
        payload = {"esr_iss": iss}
        if (ipa := _int(event.get("fault_ipa"))) is not None:
            payload["fault_ipa"] = ipa
        return Failure(
            kind="other", exit_reason=kvm_run.EXIT_ARM_NISV if reason is None else reason, exit_fields=payload, cpu=cpu
        )
    if reason is not None and ("words" in event or "errno" in event):
        return _exit(reason, event, cpu)
    return None


def _exit(reason: int, event: Mapping[str, Any], cpu: Cpu | None) -> Failure | None:
    """By the words of kvm_run's union, as the kernel laid them out."""
    words = event.get("words")
    numbers = [_int(word) for word in words[: kvm_run.UNION_SIZE // 8]] if isinstance(words, list) else []
    failure = _as_far_as_shown(
        failure_of(_page(reason, numbers, b"\0"), None), failure_of(_page(reason, numbers, b"\xff"), None)
    )
    if cpu is not None and _ESR_IN_DATA in str(event.get("what")) and len(numbers) > 1 and numbers[1] is not None:
        return Failure(kind="other", cpu=Cpu(registers={**cpu.registers, "esr_el1": numbers[1]}))
    kind = failure.kind
    if kind == "other" and failure.exit_reason in _NO_FAILURE:
        kind = "healthy"
    return msgspec.structs.replace(failure, kind=kind, cpu=cpu or failure.cpu)


def _page(reason: int, words: list[int | None], absent: bytes) -> bytes:
    """A kvm_run page with these words in its union, and ``absent`` for what is not shown."""
    page = bytearray(kvm_run.RUN_SIZE)
    page[8:12] = (reason & 0xFFFFFFFF).to_bytes(4, "little")
    union = b"".join(absent * 8 if word is None else (word & (1 << 64) - 1).to_bytes(8, "little") for word in words)
    page[kvm_run.UNION : kvm_run.UNION + kvm_run.UNION_SIZE] = union.ljust(kvm_run.UNION_SIZE, absent)
    return bytes(page)


def _as_far_as_shown(zeros: Failure, ones: Failure) -> Failure:
    """What both say, which were read of the same words, with zeros and with ones for those that are not shown."""
    unknown = {name: default for name, default in _UNKNOWN.items() if getattr(zeros, name) != getattr(ones, name)}
    fields = {name: value for name, value in zeros.exit_fields.items() if ones.exit_fields.get(name) == value}
    return msgspec.structs.replace(zeros, exit_fields=fields, **unknown)


def _mmio(event: Mapping[str, Any]) -> Failure:
    fields = {"phys_addr": event.get("mmio"), "len": event.get("len"), "is_write": event.get("write")}
    numbers = {name: number for name, value in fields.items() if (number := _int(value)) is not None}
    if "phys_addr" not in numbers:
        return Failure(kind="healthy")
    return Failure(kind="healthy", exit_reason=6, exit_fields=numbers)


def _setup(
    event: Mapping[str, Any], around: Mapping[str, Any], errno: int | None, reason: int | None
) -> Failure | None:
    """A call other than KVM_RUN that was refused."""
    for key, call in _SETUP.items():
        if refused := _int(event.get(key)):
            return Failure(kind="setup-refused", errno=_name(refused), setup=Setup(call=call))
    if not errno or reason is not None:
        return None
    if (number := _int(event.get("set_reg"))) is not None:
        fields: dict[str, int | str] = {"one_reg": number}
        if (value := _int(event.get("value"))) is not None:
            fields["value"] = value
        setup = Setup(call="KVM_SET_ONE_REG", register=one_reg.register_of(number), fields=fields)
        return Failure(kind="setup-refused", errno=_name(errno), setup=setup)
    name = str(around.get("scenario", ""))
    for word, call in _NAMED_CALLS:
        if word in name:
            return Failure(kind="setup-refused", errno=_name(errno), setup=Setup(call=call))
    return None


def _registers(event: Mapping[str, Any]) -> dict[str, int]:
    wanted = {
        "pc": "pc", "pstate": "pstate", "guest_exception": "esr_el1", "guest_trap_scause": "vscause",
        "guest_vector": "vector", "srr0": "srr0", "srr1": "srr1",
    }  # fmt: skip
    registers = {}
    for key, name in wanted.items():
        number = _int(event.get(key))
        if number is not None and number < 1 << 64 and not (key in {"pc", "pstate"} and number == (1 << 64) - 1):
            registers[name] = number
    return registers


def _arch(event: Mapping[str, Any], around: Mapping[str, Any], failure: Failure) -> tuple[Arch | None, str | None]:
    """By the names of the fields, the errno, the exit, the register, or the assembly text."""
    for key, (arch, what) in _ARCH_OF_KEY.items():
        if key in event:
            return arch, what
    if (number := _int(event.get("set_reg"))) is not None and (by_register := one_reg.arch_of(number)) is not None:
        return by_register, "the register's id"
    if failure.kind == "run-error" and "errno" in event and (by_errno := arch_of_errno(failure.errno))[0] is not None:
        return by_errno
    if failure.exit_reason is not None and (by_exit := exit_words.owner(failure.exit_reason)) is not None:
        return by_exit, f"{kvm_run.exit_name(failure.exit_reason)} is of this architecture only"
    text = around.get("text")
    if str(around.get("insn")).startswith(_A64_SYSTEM):
        return "arm64", "the instruction's word"
    if isinstance(text, str) and "insn" in around:
        for pattern, by_text in _ARCH_OF_TEXT:
            if pattern.search(text[:100]):
                return by_text, "the instruction's text"
    if _IPA.search(str(around.get("scenario", "")).replace("-", " ")):
        return "arm64", "the word IPA"
    return None, None


def _code(around: Mapping[str, Any], arch: Arch | None) -> Code | None:
    """The instruction, in the order in which it lies in memory."""
    word = around.get("insn")
    if not isinstance(word, str) or arch is None or not re.fullmatch(r"[0-9a-f]{4}|[0-9a-f]{8}", word):
        return None
    return Code(tuple(bytes.fromhex(word)[::-1]), 0)


def _name(errno: int) -> str:
    return NAMES.get(errno, str(errno))


def _int(value: Any) -> int | None:
    """A number as JSON has it, or as text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,19}", value):
        return int(value, 16 if value.startswith("0x") else 10)
    return None
