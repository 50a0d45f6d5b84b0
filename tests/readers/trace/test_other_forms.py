"""Traces without columns, folded, of other tools and of other architectures; and those in which nothing fails."""

from __future__ import annotations

import pytest

from kvmwhy.readers import read
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.lines import parse
from kvmwhy.record import Failure

COLUMNS = "       CPU 0/KVM-9    [000] d..1.  100.00000{}: {}"
EXIT = (
    "kvm_exit: vcpu 0 reason {} rip 0x1000 info1 0x0000000000000181 info2 0x0000000000000000"
    " intr_info 0x00000000 error_code 0x00000000"
)


def traced(*events: str) -> str:
    return "".join(COLUMNS.format(n, event) + "\n" for n, event in enumerate(events))


def told(text: str) -> tuple[Failure, ...]:
    return read(text.encode()).failures


def one(text: str) -> Failure:
    (failure,) = told(text)
    return failure


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("TRIPLE_FAULT", "shutdown"),
        ("shutdown", "shutdown"),
        ("INVALID_STATE FAILED_VMENTRY", "entry-failure"),
    ],
)
def test_an_exit_that_nothing_can_follow(reason: str, kind: str) -> None:
    """KVM leaves for userspace after it, shown or not (vmx.c: handle_triple_fault, svm.c: shutdown_interception)."""
    failure = one(traced("kvm_entry: vcpu 0, rip 0x1000", EXIT.format(reason)))
    assert failure.kind == kind
    assert failure.exit_reason is None
    assert failure.cpu is not None
    assert failure.cpu.registers == {"rip": 0x1000}
    assert "ends before" in failure.damage[0]
    returned = "kvm_userspace_exit: reason KVM_EXIT_SHUTDOWN (8)"
    shown = one(traced("kvm_entry: vcpu 0, rip 0x1000", EXIT.format(reason), returned))
    assert (shown.kind, shown.exit_reason, shown.damage) == ("shutdown", 8, ())


def test_a_nested_guests_triple_fault_is_its_own_hypervisors() -> None:
    """kvm_nested_vmexit says that the exit was the inner guest's."""
    nested = EXIT.format("TRIPLE_FAULT").replace("kvm_exit", "kvm_nested_vmexit")
    (failure,) = told(traced("kvm_entry: vcpu 0, rip 0x1000", EXIT.format("TRIPLE_FAULT"), nested, "kvm_entry: vcpu 0"))
    assert failure.kind == "healthy"


def test_a_torn_return_is_unknown() -> None:
    """It does not say that KVM went on."""
    events = ("kvm_userspace_exit: reason KVM_EXIT_MMIO (6)", "kvm_emulate_insn: 0:1000:d9 03 (prot64) failed")
    (failure,) = told(traced(*events, "kvm_userspace_exit: reas"))
    assert (failure.kind, failure.suberror, failure.exit_reason) == ("internal-error", 1, None)
    assert not any("did not stop" in remark for remark in failure.damage)


def test_bytes_that_kvm_never_fetched_are_not_shown() -> None:
    """libtraceevent prints what an older event left; the walk to the instruction had failed (bit 4: fetch)."""
    failure = one(
        traced(
            "kvm_exit:             reason EPT_MISCONFIG rip 0x133025 info 0 0",
            "kvm_mmu_pagetable_walk: addr 133025 pferr 10 F",
            "kvm_mmu_paging_element: pte a3 level 3",
            "kvm_mmu_walker_error: pferr 9 P|RSVD",
            "kvm_emulate_insn:     0:133025: ec FAIL",
            "kvm_userspace_exit:   reason KVM_EXIT_INTERNAL_ERROR (17)",
        )
    )
    assert failure.emulation is not None
    assert failure.emulation.insn == b""
    assert not any("insn" in event.fields for event in failure.trace)
    errors = [event for event in failure.trace if event.name == "kvm_mmu_walker_error"]
    assert [event.fields["pferr"] for event in errors] == [9]


def test_the_end_of_something_is_the_same_failure_again() -> None:
    """A trace that begins with a return, and shows the whole of the next one, tells of one failure seen twice."""
    back = "kvm_userspace_exit: reason error (14)"
    failure = one(traced(back, "kvm_entry: vcpu 0, rip 0x1000", EXIT.format("EPT_VIOLATION"), back))
    assert (failure.errno, failure.source.count) == ("EFAULT", 2)
    assert failure.exit is not None


def folded(line: str, width: int) -> str:
    """A mailer's fold at the last blank before ``width``."""
    out = []
    while len(line) > width:
        at = line.rfind(" ", 1, width)
        if at < 60:  # within the columns nothing is joined here
            break
        out.append(line[:at])
        line = line[at + 1 :]
    return "\n".join([*out, line])


@pytest.mark.parametrize("width", [76, 80, 100, 130])
@pytest.mark.parametrize("quote", ["", "> "])
def test_folded_lines(width: int, quote: str) -> None:
    """An event takes the line behind it if it can read more with it."""
    text = traced(
        "kvm_entry: vcpu 0, rip 0x1000",
        EXIT.format("EPT_VIOLATION"),
        "kvm_page_fault: vcpu 0 rip 0x1000 address 0x00000000d0000000 error_code 0x181",
        "kvm_emulate_insn: 0:1000:d9 03 (prot64) failed",
        "kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)",
    )
    wrapped = "\n".join(folded(line, width) for line in text.splitlines())
    if quote:
        wrapped = "\n".join(quote + line for line in wrapped.splitlines())
    failure, plain = one(wrapped + "\n"), one(text)
    assert failure.exit == plain.exit
    assert failure.trace == plain.trace
    assert (failure.kind, failure.emulation) == (plain.kind, plain.emulation)


def test_events_without_columns() -> None:
    """Reports strip task, CPU and time."""
    text = traced(
        "kvm_entry: vcpu 0, rip 0x1000", EXIT.format("EPT_VIOLATION"), "kvm_userspace_exit: reason error (14)"
    )
    bare = "".join(f"  {line.partition(': ')[2]}\n" for line in text.splitlines())
    failure = one(bare)
    assert (failure.errno, failure.arch) == ("EFAULT", "x86")
    assert failure.exit == one(text).exit


PERF_SCRIPT = (
    "[001]   770.850177:   kvm:kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x1000 info1 0x181 info2 0x0 intr_info 0x0"
    " error_code 0x0"
)
PERF_TRACE = (
    "     0.121 ( 0.002 ms): CPU 0/KVM/2844 kvm:kvm_exit(exit_reason: 48, guest_rip: 4096, isa: 1, info1: 385,"
    " info2: 0, intr_info: 0, error_code: 0, vcpu_id: 0)"
)


@pytest.mark.parametrize("line", [PERF_SCRIPT, PERF_TRACE])
def test_lines_of_perf(line: str) -> None:
    """``perf script`` without the task, and ``perf trace``, which prints the fields in decimal."""
    (event,) = parse([line], 1)
    assert isinstance(event, TraceEvent)
    wanted = {"exit_reason": 48, "guest_rip": 0x1000, "isa": 1, "info1": 0x181, "info2": 0}
    assert {name: event.fields[name] for name in wanted} == wanted
    assert event.vcpu == 0


def test_qemus_own_trace() -> None:
    """accel/kvm/trace-events: kvm_run_exit; 2 is an ordinary exit, 8 a shutdown."""
    line = "15268@1647341556.924605:kvm_run_exit cpu_index 3, reason {}\n"
    failure = one(line.format(2) + line.format(8))
    assert (failure.kind, failure.exit_reason, failure.source.vcpu) == ("shutdown", 8, 3)


# arch/arm64/kvm/trace_arm.h, trace_handle_exit.h; arch/riscv/kvm/trace.h: as 7.3 prints them.
ARM64 = traced(
    "kvm_entry: PC: 0x0000000040001000",
    "kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0x0000000040001000",
    "kvm_guest_fault: ipa 0xd000000, hsr 0x92000045, hxfar 0xd000000, pc 0x00000040001000",
    "kvm_mmio_nisv: ipa 0x0000000d000000, esr 0x00000092000045, far 0x0000000d000000, pc 0x00000040001000",
    "kvm_userspace_exit: reason error (38)",
)
RISCV = traced(
    "kvm_entry: PC: 0x01680001000",
    "kvm_exit: SEPC:0x80001000, SCAUSE:0x15, STVAL:0xd000001, HTVAL:0x3400000, HTINST:0x0",
    "kvm_userspace_exit: reason error (95)",
)


def test_arm64() -> None:
    """The event has all that a diagnosis needs: PC, ESR, FAR and the guest's physical address."""
    failure = one(ARM64)
    assert (failure.kind, failure.errno, failure.arch) == ("run-error", "ENOSYS", "arm64")
    assert failure.cpu is not None
    assert failure.cpu.registers == {"pc": 0x40001000, "esr_el2": 0x92000045, "far_el2": 0xD000000}
    assert failure.exit is not None
    assert (failure.exit.reason, failure.exit.info1, failure.exit.info2) == (0x24, 0x92000045, 0xD000000)
    assert failure.exit.isa is None


def test_riscv64() -> None:
    """HTVAL has the address without two bits; kvm_entry's 016 is no part of PC."""
    failure = one(RISCV)
    assert (failure.errno, failure.arch) == ("EOPNOTSUPP", "riscv64")
    assert failure.exit is not None
    assert (failure.exit.reason, failure.exit.info2) == (0x15, 0xD000001)
    assert failure.trace[0].fields == {"vcpu_pc": 0x80001000}
    assert failure.cpu is not None
    assert failure.cpu.registers["pc"] == 0x80001000


def test_s390x_and_ppc64_events_are_read() -> None:
    """arch/s390/kvm/trace-s390.h and arch/powerpc/kvm/trace_hv.h."""
    s390x = traced(
        "kvm_s390_sie_enter: 00[0000000180000000-0000000000000208]: entering sie flags 0",
        "kvm_s390_sie_exit: 00[0000000180000000-0000000000000208]: exit sie icptcode 32 (Validity)",
        "kvm_userspace_exit: reason error (22)",
    )
    failure = one(s390x)
    assert (failure.errno, failure.arch) == ("EINVAL", "s390x")
    assert failure.exit is not None
    assert failure.exit.reason == 0x20
    assert failure.cpu is not None
    assert failure.cpu.registers["psw_addr"] == 0x208
    ppc64 = traced(
        "kvm_guest_enter: VCPU 0: pc=0x100 pexcp=0x0 ceded=0",
        "kvm_guest_exit: VCPU 0: trap=H_DATA_STORAGE pc=0x100 msr=0x8000000000001000, ceded=0",
        "kvm_userspace_exit: reason error (14)",
    )
    failure = one(ppc64)
    assert (failure.errno, failure.arch, failure.source.vcpu) == ("EFAULT", "ppc64", 0)
    assert failure.cpu is not None
    assert failure.cpu.registers["nip"] == 0x100


def test_a_trace_in_which_nothing_fails() -> None:
    """How many events, from when to when, and how it ends."""
    text = traced("kvm_entry: vcpu 0, rip 0x1000", EXIT.format("HLT"), "kvm_userspace_exit: reason KVM_EXIT_IO (2)")
    failure = one(text)
    assert (failure.kind, failure.arch) == ("healthy", "x86")
    assert failure.symptom is not None
    assert failure.symptom.fields == {
        "events": 3, "first_ns": 100_000_000_000, "last_ns": 100_000_002_000, "ends_in": "kvm_userspace_exit"
    }  # fmt: skip


def test_an_exit_that_comes_back_for_ever() -> None:
    """The same fault at the same place, and no return to userspace: the guest makes no progress."""
    again = ("kvm_entry: vcpu 0, rip 0x1000", EXIT.format("EPT_VIOLATION"))
    text = "".join(f"  CPU 0/KVM-9    [000] d..1.  100.{n:06}: {again[n % 2]}\n" for n in range(40))
    failure = one(text)
    assert failure.kind == "symptom"
    assert failure.symptom is not None
    assert (failure.symptom.kind, failure.symptom.fields["repeats"]) == ("exit-repeats", 20)
    polled = text.replace("EPT_VIOLATION", "IO_INSTRUCTION")
    assert one(polled).kind == "healthy"


def test_a_failure_is_told_and_not_the_health_around_it() -> None:
    """Nothing is said of a trace's health if something in it fails."""
    assert one(traced("kvm_entry: vcpu 0, rip 0x1000") + ARM64).kind == "run-error"


def test_an_event_folded_behind_its_columns() -> None:
    """Task, CPU and time on one line, the event on the next one, and its last words on a third."""
    text = traced(
        "kvm_entry: vcpu 0, rip 0x1000", EXIT.format("EPT_VIOLATION"), "kvm_emulate_insn: 0:1000:f4 (prot32) failed"
    )
    broken = (
        text.replace(": kvm_exit:", ":\nkvm_exit:")
        .replace(" failed", "\nfailed")
        .replace(" reason EPT", "\nreason\nEPT")
    )
    failure, plain = one(broken), one(text)
    assert failure.trace == plain.trace
    assert (failure.kind, failure.exit) == (plain.kind, plain.exit)
