"""Triple faults: from QEMU's debug log and from traces to the first exception, and to what was missing.

`fixtures/qemu-debug` was logged by QEMU 7.2 with `-d int,cpu_reset`, of the guest long64-triple-fault: ud2 with an IDT
whose limit is 0. Traces are made from the kernel's format strings (arch/x86/kvm/trace.h).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.diagnosis.triple_fault import chain_of, sentences
from kvmwhy.readers import kvmwhy_json, read
from kvmwhy.record import Cpu, Failure, Fault, Segment
from kvmwhy.render.json import to_json

FIXTURES = Path(__file__).parents[1] / "fixtures" / "qemu-debug"
EXIT = "kvm_exit: vcpu 0 reason {} rip 0x{:x} info1 0x{:016x} info2 0x{:016x} intr_info 0x{:08x} error_code 0x{:08x}"
SHUTDOWN = "kvm_userspace_exit: reason KVM_EXIT_SHUTDOWN (8)"
PF, DF = 0x80000B0E, 0x80000B08  # valid, an exception with an error code


def answered(text: str | bytes) -> Diagnosis:
    (failure,) = read(text.encode() if isinstance(text, str) else text).failures
    return diagnose(failure)


def traced(*events: str) -> str:
    lines = [f"             vmm-4242    [000] d....   100.{n:06d}: {event}" for n, event in enumerate(events)]
    return "\n".join(["# tracer: nop", *lines, ""])


def test_the_log_of_qemus_own_emulator() -> None:
    """The exceptions in their order, at their RIP; the IDT is what was missing, and the guest's own code did it."""
    diagnosis = answered((FIXTURES / "tcg-int.log").read_bytes())
    faults = diagnosis.failure.faults
    assert [(f.vector, f.error_code, f.rip) for f in faults] == [(6, 0, 0x8072), (13, 0x62, 0x8072), (8, 0, 0x8072)]
    assert diagnosis.mechanism is not None
    assert diagnosis.mechanism.id == "triple-fault"
    assert diagnosis.origins[0].id == "guest-code"
    assert "#UD" in diagnosis.answer
    assert "the IDT at 0x8a00 ends before its gate: its limit is 0x0" in " ".join(sentences(diagnosis.failure))
    assert any("IDT" in advice.text for advice in diagnosis.advice)


def test_the_log_of_resets_under_kvm() -> None:
    """QEMU does not say why it reset the CPU, and that is said; an IDT without any gate makes it likely."""
    (failure,) = read((FIXTURES / "kvm-cpu-reset.log").read_bytes()).failures
    assert failure.cpu is not None
    assert (failure.kind, failure.cpu.get("rip"), failure.source.count) == ("shutdown", 0x8072, 3)
    mechanism = diagnose(failure).mechanism
    assert mechanism is not None
    assert (mechanism.id, mechanism.certainty) == ("triple-fault", "likely")


def test_a_boot_is_no_triple_fault() -> None:
    """What QEMU logs at power-on: registers of zero, then those of a reset."""
    text = (FIXTURES / "kvm-cpu-reset.log").read_text()
    boot = "CPU Reset (CPU 0)\n".join(text.split("CPU Reset (CPU 0)\n")[:3])
    assert read(boot.encode()).failures == ()


def test_exceptions_that_leave_a_vmx_guest() -> None:
    """Where KVM intercepts page faults: the first one with its address, error code and RIP in words."""
    diagnosis = answered(
        traced(
            EXIT.format("CPUID", 0x1000, 0, 0, 0, 0),
            "kvm_entry: vcpu 0, rip 0x1002",
            EXIT.format("EXCEPTION_NMI", 0x1234, 0xDEAD0000, 0, PF, 2),
            "kvm_inj_exception: #PF (0x2)",
            "kvm_entry: vcpu 0, rip 0x1234",
            EXIT.format("EXCEPTION_NMI", 0x1234, 0xFFFFF000, 0, PF, 0),
            "kvm_inj_exception: #DF (0x0)",
            "kvm_entry: vcpu 0, rip 0x1234",
            EXIT.format("TRIPLE_FAULT", 0x1234, 0, 0, 0, 0),
            SHUTDOWN,
        )
    )
    told = sentences(diagnosis.failure)
    assert "First #PF (page fault) at RIP 0x1234: a write by the kernel of 0xdead0000, which is not mapped" in told[0]
    assert "0xfffff000" in told[1]
    assert told[2].startswith("Then #DF")
    assert "#PF" in diagnosis.answer


def test_exceptions_that_leave_an_svm_guest() -> None:
    """SVM has an exit code for each exception: EXITINFO1 is its error code, EXITINFO2 the address of a page fault."""
    diagnosis = answered(
        traced(
            EXIT.format("EXCP06", 0x7C00, 0, 0, 0, 0),
            "kvm_inj_exception: #UD",
            "kvm_entry: vcpu 0, rip 0x7c00",
            EXIT.format("shutdown", 0x7C00, 0, 0, 0, 0),
            SHUTDOWN,
        )
    )
    assert [fault.vector for fault in chain_of(diagnosis.failure).faults] == [6]


def test_what_the_guest_survived_is_not_the_first() -> None:
    """An exception that the guest took well is none of the chain."""
    diagnosis = answered(
        traced(
            EXIT.format("EXCEPTION_NMI", 0x1234, 0x5000, 0, PF, 4),
            "kvm_inj_exception: #PF (0x4)",
            "kvm_entry: vcpu 0, rip 0x1234",
            EXIT.format("HLT", 0x2000, 0, 0, 0, 0),
            "kvm_entry: vcpu 0, rip 0x2001",
            EXIT.format("EXCEPTION_NMI", 0x3000, 0x9000, 0, PF, 2),
            "kvm_inj_exception: #PF (0x2)",
            "kvm_entry: vcpu 0, rip 0x3000",
            EXIT.format("TRIPLE_FAULT", 0x3000, 0, 0, 0, 0),
            SHUTDOWN,
        )
    )
    assert [fault.cr2 for fault in chain_of(diagnosis.failure).faults] == [0x9000]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "a read or fetch by the kernel of 0x1000, which is not mapped"),
        (7, "a write by user code of 0x1000, which its page's rights forbid"),
        (0x15, "an instruction fetch by user code of 0x1000, which its page's rights forbid"),
        (9, "whose page-table entry has a reserved bit set"),
        (0x21, "which a protection key forbids"),
    ],
)
def test_error_codes_of_page_faults(code: int, words: str) -> None:
    """SDM vol. 3A, figure 4-12."""
    failure = Failure(kind="shutdown", arch="x86", faults=(Fault(vector=14, error_code=code, cr2=0x1000),))
    assert words in sentences(failure)[0]


def test_the_structure_that_an_address_is_in() -> None:
    """A page fault during a delivery is named by what the CPU was reading, or pushing onto."""
    tables = {"idt": Segment(0, 0x5000, 0xFFF, 0), "gdt": Segment(0, 0x8000, 0x3F, 0)}
    cpu = Cpu(registers={"rsp": 0x4010, "cr0": 0x80000001, "rip": 0x10}, segments=tables)

    def second(address: int) -> str:
        faults = (Fault(vector=14, error_code=2, cr2=0x9999), Fault(vector=14, error_code=0, cr2=address))
        return sentences(Failure(kind="shutdown", arch="x86", cpu=cpu, faults=faults))[1]

    assert "in the IDT" in second(0x50E0)
    assert "in the GDT" in second(0x8008)
    assert "the stack" in second(0x3FF8)


def test_a_record_keeps_it() -> None:
    """JSON and back: the same exceptions, the same answer."""
    diagnosis = answered((FIXTURES / "tcg-int.log").read_bytes())
    (again,) = read(to_json(diagnosis) + b"\n").failures
    assert again.faults == diagnosis.failure.faults
    assert diagnose(again).answer == diagnosis.answer


def test_a_damaged_record_of_it() -> None:
    """A vector that is none, or a number that is no text: the object is left out and named."""
    for broken in (b'"vector": 999', b'"vector": "6"', b'"vector": 6, "cr2": 5'):
        line = b'{"schema": 2, "kind": "shutdown", "faults": [{' + broken + b"}]}\n"
        evidence = kvmwhy_json.take(line)[0]
        assert (evidence.failures, len(evidence.damage)) == ((), 1)
