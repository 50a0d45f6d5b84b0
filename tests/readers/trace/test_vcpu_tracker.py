"""Whose event it is, and how a failed emulation ended."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers.trace import ftrace
from kvmwhy.readers.trace.vcpu_tracker import EVENTS
from kvmwhy.record import Failure
from readers.trace.samples import told


def line(pid: int, time: float, event: str) -> str:
    return f"       CPU 0/KVM-{pid}    [000] d..1.  {time:.6f}: {event}\n"


class Tape:
    """Lines of several threads, a microsecond apart."""

    def __init__(self) -> None:
        self.text = ""
        self.time = 100.0

    def add(self, pid: int, *events: str) -> Tape:
        for event in events:
            self.time += 1e-6
            self.text += line(pid, self.time, event)
        return self

    def failures(self) -> list[Failure]:
        return told(self.text)


def entry(vcpu: int = 0, rest: str = "") -> str:
    return f"kvm_entry: vcpu {vcpu}, rip 0x1000{rest}"


def exit_(vcpu: int = 0, gpa: int = 0xD0000000) -> str:
    return (
        f"kvm_exit: vcpu {vcpu} reason EPT_VIOLATION rip 0x1000 info1 0x181 info2 {gpa:#x} intr_info 0x0 error_code 0x0"
    )


BEGUN = "kvm_emulate_insn: 0:1000:d9 03 (prot64)"
FAILED = f"{BEGUN} failed"
UD = "kvm_inj_exception: #UD"
TOLD = "kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)"
MMIO_EXIT = "kvm_userspace_exit: reason KVM_EXIT_MMIO (6)"
INTERRUPTED = "kvm_userspace_exit: reason restart (4)"


def test_told() -> None:
    """The exit, the emulation and userspace's word."""
    (failure,) = Tape().add(9, entry(), exit_(), BEGUN, FAILED, TOLD).failures()
    assert (failure.kind, failure.suberror, failure.exit_reason, failure.silent) == ("internal-error", 1, 17, False)
    assert failure.exit
    assert (failure.exit.reason, failure.exit.info1, failure.exit.info2, failure.exit.isa) == (
        48,
        0x181,
        0xD0000000,
        "vmx",
    )
    assert failure.emulation
    assert (failure.emulation.insn.hex(), failure.emulation.mode) == ("d903", "long64")
    assert failure.damage == ()


@pytest.mark.parametrize(
    "ending",
    [
        [UD, entry()],
        [UD, "kvm_inj_exception: #UD [reinjected]", entry()],
        [entry(rest=" intr_info 0x80000306 error_code 0x00000000")],  # kvm_inj_exception was not traced
        [INTERRUPTED, UD, entry()],  # a signal first: what was queued is injected on the way back
        ["kvm_userspace_exit: reason KVM_EXIT_INTR (10)", UD, entry()],
        [UD],  # the trace ends
        [UD, exit_()],  # kvm_entry was not traced
        [UD, "kvm_userspace_exit: reason KVM_EXIT_HLT (5)"],
    ],
)
def test_silent(ending: list[str]) -> None:
    """The guest got #UD, and no VMM was told."""
    (failure,) = Tape().add(9, entry(), exit_(), BEGUN, FAILED, *ending).failures()
    assert (failure.kind, failure.suberror, failure.silent) == ("other", None, True)
    assert failure.damage == ()
    assert failure.trace[0].name == "kvm_entry"


def test_told_and_then_ud() -> None:
    """At CPL 0 the #UD stays queued: a VMM that goes on has it delivered. That is no second failure."""
    (failure,) = Tape().add(9, entry(), exit_(), BEGUN, FAILED, TOLD, UD, entry(), exit_()).failures()
    assert failure.kind == "internal-error"
    assert not failure.silent


def test_a_reinjected_ud_is_an_older_one() -> None:
    """The guest was being given #UD when the emulation failed: that one is put back, none is new."""
    reinjected = "kvm_inj_exception: #UD [reinjected]"
    (failure,) = Tape().add(9, MMIO_EXIT, entry(), exit_(), FAILED, reinjected, entry()).failures()
    assert not failure.silent


def test_gp_instead() -> None:
    """An instruction tried for VMware's backdoor: the guest's own #GP is given back."""
    (failure,) = Tape().add(9, MMIO_EXIT, entry(), exit_(), FAILED, "kvm_inj_exception: #GP (0x0)", entry()).failures()
    assert (failure.kind, failure.silent, failure.suberror) == ("other", False, None)
    assert "#GP" in failure.damage[0]


def test_a_trace_without_userspace_exits_does_not_tell() -> None:
    """Only kvm_emulate_insn was traced: a failure, but who heard of it is not known, and is said."""
    (first, last) = Tape().add(9, BEGUN, FAILED, BEGUN, FAILED).failures()
    for failure in (first, last):
        assert (failure.kind, failure.suberror, failure.exit_reason) == ("internal-error", 1, None)
        assert "does not show whether" in failure.damage[0]


def test_kvm_went_on_and_the_trace_does_not_say_how() -> None:
    """Returns to userspace are traced, and there was none."""
    (failure,) = Tape().add(9, MMIO_EXIT, entry(), exit_(), FAILED, entry()).failures()
    assert (failure.kind, failure.suberror, failure.silent) == ("other", None, False)
    assert "did not stop" in failure.damage[0]


@pytest.mark.parametrize(
    ("words", "kind", "reason", "errno"),
    [
        ("reason KVM_EXIT_INTERNAL_ERROR (17)", "internal-error", 17, None),
        ("reason KVM_EXIT_FAIL_ENTRY (9)", "entry-failure", 9, None),
        ("reason KVM_EXIT_SHUTDOWN (8)", "shutdown", 8, None),
        ("reason KVM_EXIT_UNKNOWN (0)", "unknown-exit", 0, None),
        ("reason KVM_EXIT_EXCEPTION (1)", "exception-exit", 1, None),
        ("reason error (14)", "run-error", None, "EFAULT"),
        ("reason error (5)", "run-error", None, "EIO"),
    ],
)
def test_other_returns_that_are_failures(words: str, kind: str, reason: int | None, errno: str | None) -> None:
    """Without a failed emulation, the return itself is what is known."""
    (failure,) = Tape().add(9, entry(), exit_(), f"kvm_userspace_exit: {words}").failures()
    assert (failure.kind, failure.exit_reason, failure.errno) == (kind, reason, errno)
    assert failure.suberror is None
    assert failure.emulation is None
    assert failure.exit
    assert failure.exit.reason == 48
    assert failure.hardware_reason == (48 if kind == "unknown-exit" else None)


@pytest.mark.parametrize(
    "words", ["KVM_EXIT_MMIO (6)", "KVM_EXIT_IO (2)", "KVM_EXIT_HLT (5)", "restart (4)", "error (11)"]
)
def test_returns_in_the_course_of_things(words: str) -> None:
    """Device accesses, signals, a vCPU that waits for its start."""
    assert Tape().add(9, entry(), exit_(), f"kvm_userspace_exit: reason {words}").failures() == []


def test_a_refused_entry_has_the_hardwares_word_on_vmx() -> None:
    """VMX: KVM hands the exit reason over, whole."""
    refused = (
        "kvm_exit: vcpu 0 reason INVALID_STATE FAILED_VMENTRY rip 0x0 info1 0x0 info2 0x0 intr_info 0x0 error_code 0x0"
    )
    (failure,) = Tape().add(9, entry(), refused, "kvm_userspace_exit: reason KVM_EXIT_FAIL_ENTRY (9)").failures()
    assert failure.hardware_error == 0x80000021


def test_reason_0_of_a_tool_is_no_failure() -> None:
    """perf and trace-cmd print the reason even of an ioctl that failed; the kernel prints the errno then."""
    words = "kvm_userspace_exit: reason KVM_EXIT_UNKNOWN (0)"
    assert len(Tape().add(9, exit_(), words).failures()) == 1
    assert told(Tape().add(9, exit_(), words).text.replace(": kvm_userspace", ":     kvm:kvm_userspace")) == []


def test_one_thread_per_vcpu_interleaved() -> None:
    """Two vCPUs fail in turn: each has its own exit, and its own events alone."""
    tape = Tape().add(9, entry(0), exit_(0, 0xA000)).add(10, entry(1), exit_(1, 0xB000))
    tape.add(9, BEGUN).add(10, BEGUN, FAILED).add(9, FAILED).add(10, UD).add(9, TOLD).add(10, entry(1))
    first, second = tape.failures()
    assert (first.source.vcpu, first.silent, first.exit and first.exit.info2) == (0, False, 0xA000)
    assert (second.source.vcpu, second.silent, second.exit and second.exit.info2) == (1, True, 0xB000)
    assert (len(first.trace), len(second.trace)) == (5, 6)


def test_the_same_vcpu_number_in_two_vms() -> None:
    """vCPU 0 of one VM is not vCPU 0 of another."""
    tape = Tape().add(9, entry(0), exit_(0, 0xA000)).add(10, entry(0), exit_(0, 0xB000)).add(9, FAILED, TOLD)
    (failure,) = tape.failures()
    assert failure.exit
    assert failure.exit.info2 == 0xA000
    assert len(failure.trace) == 4


def test_one_thread_with_two_vcpus() -> None:
    """After a return to userspace the thread may enter with another vCPU: an exit of the first is not the second's."""
    tape = Tape().add(9, entry(0), exit_(0, 0xA000), MMIO_EXIT, entry(1), exit_(1, 0xB000), MMIO_EXIT)
    tape.add(9, "kvm_mmio: mmio read len 4 gpa 0x1 val 0x0", FAILED, TOLD)
    (failure,) = tape.failures()
    assert failure.source.vcpu is None  # 0 or 1: the trace does not say
    assert failure.exit is None
    assert [event.name for event in failure.trace] == ["kvm_mmio", "kvm_emulate_insn", "kvm_userspace_exit"]


def test_one_thread_with_one_vcpu_across_userspace() -> None:
    """A device's answer is completed and the emulation goes on: the exit is still the one before."""
    tape = Tape().add(9, entry(0), exit_(0, 0xA000), BEGUN, "kvm_mmio: mmio unsatisfied-read len 16 gpa 0xa000 val 0x0")
    tape.add(9, MMIO_EXIT, MMIO_EXIT, "kvm_mmio: mmio read len 16 gpa 0xa008 val 0x0", FAILED, TOLD)
    (failure,) = tape.failures()
    assert failure.source.vcpu == 0
    assert failure.exit
    assert failure.exit.info2 == 0xA000
    assert len(failure.trace) == 9


def test_a_new_vcpu_in_the_same_thread_starts_afresh() -> None:
    """A VMM that makes one VM after another: kvm_track_tsc is the birth of a vCPU."""
    born = "kvm_track_tsc: vcpu_id 0 masterclock 0 offsetmatched 0 nr_online 1 hostclock tsc"
    tape = Tape().add(9, entry(0), exit_(0), "kvm_userspace_exit: reason KVM_EXIT_HLT (5)", born, FAILED, TOLD)
    (failure,) = tape.failures()
    assert failure.exit is None
    assert [event.name for event in failure.trace] == ["kvm_emulate_insn", "kvm_userspace_exit"]


def test_no_open_failure_is_dropped() -> None:
    """Of a thread that has two vCPUs, and is interrupted before anything says which of them it was."""
    tape = Tape().add(9, entry(0), exit_(0), MMIO_EXIT, entry(1), exit_(1), MMIO_EXIT, FAILED, INTERRUPTED, entry(0))
    (failure,) = tape.failures()
    assert failure.source.vcpu is None
    assert "does not show whether" in failure.damage[0]


def test_what_was_open_at_a_gap_stays_open() -> None:
    """Userspace may have been told in what was lost: that the guest is entered afterwards proves nothing."""
    text = Tape().add(9, MMIO_EXIT, entry(0), exit_(0, 0xA000), FAILED).text + "CPU:0 [LOST 3 EVENTS]\n"
    text += line(9, 200.0, entry(0))
    (failure,) = ftrace.read(Text(text)).failures
    assert failure.exit
    assert failure.exit.info2 == 0xA000
    assert "does not show whether" in failure.damage[0]


def test_history_is_bounded() -> None:
    """The last sixteen."""
    (failure,) = Tape().add(9, *[entry(), exit_()] * 40, BEGUN, FAILED, TOLD).failures()
    assert len(failure.trace) == EVENTS
    assert failure.trace[-1].name == "kvm_userspace_exit"


def test_repeated_failures_are_one_with_a_count() -> None:
    """A VMM that goes on repeats a failure for as long as it is left alone."""
    tape = Tape()
    for _ in range(50):
        tape.add(9, entry(), exit_(), BEGUN, FAILED, TOLD)
    (failure,) = ftrace.read(Text(tape.text)).failures
    assert failure.source.count == 50
    assert (failure.source.line, failure.source.last_line) == (4, 249)
    assert failure.source.time != failure.source.last_time


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_any_interleaving_keeps_the_vcpus_apart(turns: list[int]) -> None:
    """Five vCPUs, each with its own addresses: whoever's turn it is does its next step."""
    at = [0] * 5
    tape = Tape()
    for vcpu in turns:
        failed = f"kvm_emulate_insn: 0:{vcpu:x}:d9 03 (prot64) failed"
        steps = (entry(vcpu), exit_(vcpu, 0xA000 + vcpu), BEGUN, failed, TOLD)
        tape.add(20 + vcpu, steps[at[vcpu] % len(steps)])
        at[vcpu] += 1
    failures = tape.failures()
    assert sum(failure.exit_reason == 17 for failure in failures) == sum(count // 5 for count in at)
    for failure in failures:
        number = failure.source.vcpu
        assert number is not None
        assert failure.emulation
        assert failure.emulation.rip == number
        assert failure.exit
        assert failure.exit.info2 == 0xA000 + number
        assert {event.fields.get("vcpu_id", number) for event in failure.trace} == {number}
