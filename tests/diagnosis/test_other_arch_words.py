"""The state of a vCPU that is not x86's, and its numbers, in words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.record import Arch, Code, Cpu, Exit, Failure, Host, HostEvent
from kvmwhy.render.describe.other_arch import exit_words, hardware_reason, instruction, state


@pytest.mark.parametrize(
    ("arch", "registers", "words"),
    [
        (
            "arm64",
            {"pc": 0x40205AFC, "pstate": 0x600003C5},
            "PC 0x40205afc; EL1h, all interrupts masked (PSTATE 0x600003c5)",
        ),
        ("arm64", {"pc": 0x8000, "psr": 0x1D3}, "AArch32 Supervisor, A32, SError, IRQ, FIQ masked (PSR 0x1d3)"),
        ("s390x", {"psw_mask": 0x180000000, "psw_addr": 0x7FD00600}, "nothing ran yet"),
        ("ppc64", {"nip": 0x100, "msr": 0x1000} | {f"r{n}": 0 for n in range(32)}, "the reset vector: nothing ran yet"),
        ("ppc64", {"nip": 0x100, "r5": 1}, "NIP 0x100"),
        ("riscv64", {"pc": 0x80000018, "stval": 0xD000000}, "PC 0x80000018; STVAL 0xd000000"),
        ("s390x", {"psw_mask": 0x2000180000000, "psw_addr": 0xFFF}, "interruptions off; 64-bit addressing"),
        ("s390x", {"psw_mask": 0x2000180000000, "psw_addr": 0x1FD2}, "64-bit addressing"),
        ("loongarch", {"pc": 0x1C000000, "badv": 8, "estat": 0xD0000}, "instruction does not exist (ESTAT 0xd0000)"),
        ("mips", {"pc": 0x80001000, "cp0_cause": 0x28}, "reserved instruction (Cause 0x28)"),
    ],
)
def test_where_the_vcpu_was(arch: Arch, registers: dict[str, int], words: str) -> None:
    """The program counter by the architecture's own name, and what is known of such a state."""
    assert (state(Failure(kind="other", arch=arch, cpu=Cpu(registers=registers))) or "").endswith(words)


def test_x86_is_not_meant() -> None:
    """x86's state has its own words."""
    assert state(Failure(kind="other", arch="x86", cpu=Cpu(registers={"rip": 1}))) is None
    assert exit_words(Failure(kind="other", arch="x86", exit=Exit(reason=48, isa="vmx"))) is None


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ((1 << 64) - 22, "-22 (-EINVAL)"),
        ((1 << 64) - 55, "-55 (H_P2)"),
        (0xE40, "hypervisor emulation assist interrupt"),
    ],
)
def test_powers_numbers(number: int, words: str) -> None:
    """arch/powerpc/kvm: a trap, or an error of the call to the hypervisor below."""
    assert hardware_reason(Failure(kind="unknown-exit", arch="ppc64", hardware_reason=number)) == words


def test_the_exit_of_a_riscv_guest() -> None:
    """SCAUSE and the guest's physical address."""
    left = Exit(reason=23, info1=0xF000000, info2=0xF000000)
    assert exit_words(Failure(kind="run-error", arch="riscv64", exit=left)) == (
        "store guest-page fault, guest address 0xf000000"
    )


@pytest.mark.parametrize(
    ("arch", "number", "fields", "words"),
    [
        (
            "s390x",
            13,
            {"icptcode": 0x1C},
            "wait state (0x1c), the guest went into a disabled wait: it gave up by itself",
        ),
        ("ppc64", 19, {"nr": 0xE0}, "the guest's H_CEDE, for the VMM to answer"),
        ("arm64", 28, {"esr_iss": 0, "fault_ipa": 0xD000000}, "physical address 0xd000000 without a valid syndrome"),
    ],
)
def test_an_exit_with_its_fields(arch: Arch, number: int, fields: dict[str, int], words: str) -> None:
    """kvm_run's union, where no syndrome of the hardware was shown."""
    assert words in (exit_words(Failure(kind="other", arch=arch, exit_reason=number, exit_fields=fields)) or "")


@pytest.mark.parametrize(
    ("arch", "code", "text"),
    [
        ("arm64", "e0031faa", "mov x0, xzr    [e0 03 1f aa]"),
        ("riscv64", "73005010", "wfi    [73 00 50 10]"),
        ("arm64", "e003", None),
    ],
)
def test_the_instruction_of_a_dump(arch: Arch, code: str, text: str | None) -> None:
    """By capstone, where it is installed."""
    pytest.importorskip("capstone")
    window = Code(tuple(bytes.fromhex(code)), 0)
    found = instruction(Failure(kind="other", arch=arch, code=window))
    assert found is None if text is None else (found or "").startswith(text)


def test_a32_code_is_not_read_as_a64s() -> None:
    """The decoder is the 64-bit one."""
    window = Code(tuple(bytes.fromhex("e0031faa")), 0)
    assert instruction(Failure(kind="other", arch="arm64", code=window, cpu=Cpu(registers={"psr": 0x1D3}))) is None


# arch/powerpc/kvm/book3s_pr.c, arch/loongarch/kvm/exit.c: the words with the fields' values put in
EVENTS = [
    (b"Couldn't emulate instruction 0x00000000 (op 0 xop 0)\n", "ppc64", "instruction 0x00000000"),
    (b"kvm: Read not supported Inst=0x28800000 @9000000000001000 BadVaddr:0x1fe00000\n", "loongarch", "0x28800000"),
    (b"kvm: Load not yet supported (inst=0x00000000)\n", "mips", "instruction 0x00000000 (nop)"),
]


@pytest.mark.parametrize(("line", "arch", "words"), EVENTS, ids=[arch for _, arch, _ in EVENTS])
def test_an_instruction_that_the_kernel_names(line: bytes, arch: Arch, words: str) -> None:
    """In the encoding of the line's own architecture; a word of zeros is one, too."""
    (failure,) = read(b"[   10.1] " + line).failures
    mechanism = diagnose(replace(failure, arch=arch)).mechanism
    assert mechanism is not None
    assert words in mechanism.text


def test_a_detail_is_told_of_the_event_that_it_is_of() -> None:
    """Of two panics at EL2 the one whose syndrome is known is named, whatever stands between them."""
    torn = HostEvent(kind="hyp-panic")
    whole = HostEvent(kind="hyp-panic", fields={"esr": 0x86000004, "far": 0x8, "pc": 0x8})
    events = (torn, HostEvent(kind="warning", fields={"path": "mm/slub.c", "line": 5}), whole)
    failure = Failure(kind="host-trouble", arch="arm64", host=Host(events=events))
    mechanism = diagnose(failure).mechanism
    assert mechanism is not None
    assert "KVM panicked at EL2 (ESR 0x86000004" in mechanism.text
