"""Every result that probes of real KVM on arm64, riscv64 and ppc64 printed is explained from its line alone.

What is right is written here by the kernel's source: arch/arm64/kvm (mmio.c: io_mem_abort; inject_fault.c; arm.c:
kvm_vcpu_first_run_init), arch/riscv/kvm (vcpu_insn.c, vcpu_exit.c, vcpu_sbi.c), arch/powerpc/kvm (powerpc.c,
book3s_hv.c).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.pipeline import records

SAMPLES = Path(os.environ.get("KVMWHY_SAMPLES", Path(__file__).parents[3] / "shared" / "samples"))
FILES = [
    ("arm64", "arm64-probes-6.1.0-57-cloud-arm64.txt"),
    ("arm64", "arm64-probes-7.3.4+deb13-cloud-arm64.txt"),
    ("arm64", "arm64-scen-6.1.0-57-cloud-arm64.txt"),
    ("arm64", "arm64-scen-7.3.4+deb13-cloud-arm64.txt"),
    ("riscv64", "riscv64-probes-6.12.117+deb13-riscv64.txt"),
    ("riscv64", "riscv64-probes-7.2.13+deb14-riscv64.txt"),
    ("ppc64", "ppc64-probes-7.2.13+deb14-powerpc64le.txt"),
]
NOTHING_FAILED = ("not-shown", "Nothing fail")
BY_ERRNO = {
    1: ("run-errno", "EPERM.*KVM_ARM_VCPU_FINALIZE"),
    4: ("guest-loops|not-shown", "a signal ended KVM_RUN|until a signal ends KVM_RUN"),
    5: ("run-errno", "EIO.*multiple of the access"),
    8: ("run-errno", "ENOEXEC.*KVM_ARM_VCPU_INIT"),
    14: ("run-errno", "EFAULT.*memory"),
    22: ("run-errno", "EINVAL"),
    38: ("emulation-no-handler", "no valid syndrome"),
    95: ("emulation-no-handler|fetch-not-ram", "no handler|cannot emulate a fetch"),
}
# ESR_EL1 of what the guest met, by Arm's manual: the class, and of an abort the fault.
BY_ESR = {
    0x96000010: ("undef-injected", "data abort: synchronous external abort, read"),
    0x86000010: ("undef-injected", "instruction abort: synchronous external abort"),
    0x9600000D: ("not-shown", "permission fault, level 1, read"),
    0x3A000000: ("not-shown", "illegal execution state"),
    0xBF000000: ("undef-injected", "SError"),
    0x56000000: ("not-shown", "SVC"),
    0xF2000001: ("not-shown", "BRK: 0x1"),
}
REGISTERS = {"d538f003": "S3_0_C15_C0_0", "d53b9c03": "PMCR_EL0", "d518f203": "S3_0_C15_C2_0"}
# Of riscv64, what a guest's kernel may not do: KVM gives it an illegal instruction (vcpu_insn.c).
REFUSED = re.compile(r"csr|[ms]ret|hfence|hlv|cbo")
BY_VECTOR = {
    0x300: ("undef-injected", "data storage"),
    0x700: ("undef-injected", "program interrupt"),
    0xC00: ("not-shown", "system call"),
}
MESSAGES = (
    (r"no valid syndrome info", "emulation-no-handler", "syndrome"),
    (r"VCPU exit error -95", "run-errno", "KVM_RUN"),
    (r"VCPU exit error -5\b", "run-errno", "KVM_RUN"),
    (r"VCPU exit error -14", "run-errno", "KVM_RUN"),
    (r"SCAUSE=0x14", "fetch-not-ram", "fetched"),
    (r"SCAUSE=0x15", "run-errno", "load guest-page fault at guest physical address"),
    (r"SCAUSE=0x17", "run-errno", "store guest-page fault at guest physical address"),
    (r"Failed to find VMA", "run-errno", "EFAULT"),
    (r"Memory failure: ", "host-trouble", "memory"),
)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value, 16 if value.startswith("0x") else 10)


def _expected(line: dict[str, Any]) -> tuple[str, str] | None:
    """The mechanisms that are right, and words that must be there; ``None``: the line tells of no result."""
    events = line.get("events")
    event = events[0] if events else line
    if "nisv_esr_iss" in event:
        word = "write" if _number(event["nisv_esr_iss"]) & 1 << 6 else "read"
        return (
            "emulation-no-handler",
            f"0x{_number(event['fault_ipa']):x} without a valid syndrome: {word}, translation",
        )
    if "guest_exception" in event or "ESR_EL1" in event.get("what", ""):
        number = _number(event.get("guest_exception", event.get("words", ["0", "0"])[1])) & 0xFFFFFFFF
        if number == 0x2000000:
            name = REGISTERS.get(line["insn"])
            return ("undef-injected", name) if name else ("not-shown", "undefined instruction")
        return BY_ESR[number]
    if "guest_trap_scause" in event:
        if event["guest_trap_scause"] == 2:
            refused = REFUSED.match(line["text"]) or line["text"] == "csrrs-seed-read"
            return ("undef-injected", "illegal-instruction") if refused else ("not-shown", "illegal instruction")
        return {1: ("undef-injected", "access fault"), 3: ("not-shown", "breakpoint")}[event["guest_trap_scause"]]
    if "guest_vector" in event:
        if line["text"] == "trap":
            return "not-shown", "trap instruction"
        return BY_VECTOR[_number(event["guest_vector"])]
    return _of_call(event)


def _of_call(event: dict[str, Any]) -> tuple[str, str] | None:
    for name, call in (("vcpu_init", "VCPU_INIT"), ("create_vm", "CREATE_VM"), ("second_init", "VCPU_INIT")):
        if f"{name}_errno" in event:
            return "setup-refused", call
    if "set_reg" in event:
        return "setup-refused", f"ONE_REG of PSTATE to {event['value']} was refused with EINVAL"
    if "memslot" in event.get("scenario", "") and "exit_reason" not in event:
        return "setup-refused", "MEMORY_REGION"
    if event.get("signal"):
        return "host-trouble", "SIGBUS"
    if "run_before_papr" in event:
        return "run-errno", "EINVAL"
    if event.get("errno") and ("exit_reason" in event or "before_init" in event):
        return BY_ERRNO[event["errno"]]
    if "mmio" in event:
        what = "write" if event["write"] else "read"
        return "not-shown", f"{what} of {event['len']} bytes at guest physical address {event['mmio']}"
    if event.get("done"):
        return NOTHING_FAILED
    return _of_exit(event)


def _of_exit(event: dict[str, Any]) -> tuple[str, str] | None:
    match event.get("exit_reason"):
        case 6:
            return "not-shown", f"(?:read|write) of . bytes at guest physical address 0x{_number(event['words'][0]):x}"
        case 19:
            return "not-shown", "PAPR_HCALL"
        case 24:
            return "not-shown", {1: "switched off", 2: "reset"}[_number(event["words"][0]) & 0xFFFFFFFF]
        case 35:
            return "not-shown", "SBI call 0x9000000 .a vendor's extension."
    return None


# For each line of our own: the architecture, the mechanisms that are right, and words that must be there.
OWN = Path(__file__).parents[1] / "fixtures" / "run-results" / "results.jsonl"
OF_OWN = [
    ("arm64", "emulation-no-handler", "0xa000000.*read"),  # ESR_EL2.ISS: ISV 0, WnR 0, translation fault, level 2
    ("arm64", "emulation-no-handler", "0xa000010.*write"),  # WnR 1
    ("arm64", "run-errno", "ENOEXEC.*KVM_ARM_VCPU_INIT"),
    ("arm64", "emulation-no-handler", "no valid syndrome"),
    (None, "run-errno", "EFAULT.*memory"),
    (None, "host-trouble", "SIGBUS"),
    ("arm64", "undef-injected", "S3_0_C15_C1_2"),
    ("arm64", "undef-injected", "synchronous external abort, read"),
    ("arm64", "not-shown", "read of 4 bytes at guest physical address 0xa000004"),
    ("arm64", "setup-refused", "VCPU_INIT"),
    ("arm64", "setup-refused", "PSTATE to 0x3d was refused with EINVAL"),
    (None, "not-shown", "switched off"),
    (None, "guest-loops|not-shown", "a signal ended KVM_RUN"),
    ("riscv64", "undef-injected", "illegal-instruction"),
    ("riscv64", "undef-injected", "access fault"),
    ("riscv64", "emulation-no-handler|fetch-not-ram", "no handler|cannot emulate"),
    ("riscv64", "not-shown", "SBI call 0x9000001"),
    ("ppc64", "undef-injected", "data storage"),
    ("ppc64", "not-shown", "system call"),
    ("ppc64", "run-errno", "EINVAL"),
    ("ppc64", "not-shown", "PAPR_HCALL"),
]


@pytest.mark.parametrize(
    ("line", "expected"), list(zip(OWN.read_text(encoding="utf-8").splitlines(), OF_OWN, strict=True))
)
def test_each_form_of_a_result(line: str, expected: tuple[str | None, str, str]) -> None:
    """One line of each documented form, explained alone."""
    arch, mechanism, words = expected
    (record,) = records([line.encode()])
    answer = diagnose(record.failure).mechanism
    assert answer is not None
    assert record.failure.arch == arch if arch else record.failure.arch != "x86"
    assert re.fullmatch(mechanism, answer.id)
    assert re.search(words, answer.text, re.DOTALL)


@pytest.mark.parametrize(
    "line",
    ['{"api":12,"cap_nisv":1,"cap_sve":1}', '{"target":5}', '{"insn":"d503201f","text":"nop","events":[]}', '{"errno'],
)
def test_a_line_that_tells_of_no_call_is_none(line: str) -> None:
    """What a probe says of itself, and a torn line."""
    assert not [record.failure for record in records([line.encode()])]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples beside the checkout: KVMWHY_SAMPLES names where they are")
@pytest.mark.parametrize(("arch", "name"), FILES, ids=[name for _, name in FILES])
def test_every_result_line(arch: str, name: str) -> None:
    """Each line alone: not taken for x86, the right mechanism, and its exit, errno or syndrome in words."""
    wrong, told = [], 0
    for line in dict.fromkeys((SAMPLES / name).read_text(errors="replace").splitlines()):
        message = next((words for words in MESSAGES if re.search(words[0], line)), None)
        expected = (message[1], message[2]) if message else None
        at = line.find('{"')
        if not message and at >= 0:
            expected = _expected(json.loads(line[at:]))
        if expected is None:
            continue
        told += 1
        found = [record.failure for record in records([line.encode()])]
        answers = [diagnose(failure) for failure in found]
        right = (
            len(found) == 1
            and found[0].arch in {arch, None}
            and answers[0].mechanism is not None
            and re.fullmatch(expected[0], answers[0].mechanism.id)
            and re.search(expected[1], answers[0].mechanism.text, re.DOTALL)
        )
        if not right:
            shown = [(f.arch, a.mechanism and a.mechanism[:3]) for f, a in zip(found, answers, strict=True)]
            wrong.append((line[:160], expected, shown))
    assert told > 30
    assert not wrong, "\n".join(map(str, wrong[:20])) + f"\n{len(wrong)} of {told}"
