"""VMMs' own lines about a failed run: what each row of the table prints is read, and what only looks like it is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.abi.kvm_run import EXITS
from kvmwhy.diagnosis import diagnose
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import read, vmm_messages
from kvmwhy.readers.anchors.vmm_messages import ANCHORS
from kvmwhy.readers.errno_spelled import _WORDS as WORDS
from kvmwhy.readers.errno_spelled import NAMES
from kvmwhy.readers.vmm_messages.forms import FORMS, Form
from kvmwhy.readers.vmm_messages.templates import EXAMPLE
from kvmwhy.record import Failure
from kvmwhy.render.json import to_json
from kvmwhy.render.page import to_plain
from kvmwhy.render.text import explanation
from kvmwhy.vmms import VMMS

KINDS = {0: "unknown-exit", 1: "exception-exit", 8: "shutdown", 9: "entry-failure", 17: "internal-error"}
# The first line of two, where a row is the second.
HEADS = {
    "KVM exit code: {second}": 'Error: KVM exit reason: 0 ("KVM_EXIT_UNKNOWN")\n',
    "InternalError": "thread '<unnamed>' (22523) panicked at src/linux/x86_64/kvm_cpu.rs:624:7:\n",
}


def one(text: str) -> Failure:
    (failure,) = read(f"booting\n{text}\nbye\n".encode()).failures
    return failure


def shown_by(form: Form) -> dict[str, Any]:
    """What the example of a form shows: the values that were put into the format string."""
    names = {name for name in EXAMPLE if f"{{{name}}}" in form.form or f"{{{name}:" in form.form}
    facts: dict[str, Any] = {
        name: EXAMPLE[name] for name in names & {"suberror", "hardware_error", "hardware_reason", "ndata"}
    }
    if "exception" in names:
        facts |= {"exception": EXAMPLE["exception"], "exception_error_code": EXAMPLE["error_code"]}
    reason = form.exit_reason
    if "reason" in names:
        reason = EXAMPLE["reason"]
    if "{debug}" in form.form:
        reason = 17
    if "{exit}" in form.form:
        reason = 8
    if "second" in names:
        reason, facts = 0, {"hardware_reason": EXAMPLE["second"]}
    if "{instruction}" in form.form:
        facts["suberror"] = 1
    if "word" in names and form.exit_reason == 17:
        facts |= {"suberror": 1, "ndata": 3}  # the low and the high half of the example
    if "{errno}" in form.form or "number" in names:
        facts["errno"] = "EFAULT"
    elif form.errno:
        facts["errno"] = form.errno
    return facts | {"exit_reason": reason}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.vmm}-{form.form}")
def test_every_row_of_the_table_is_read_from_its_format_string(form: Form) -> None:
    """The line that the format string prints gives each fact that was put into it, and the VMM's name."""
    failure = one(HEADS.get(form.form, "") + form.example)
    expected = shown_by(form)
    assert {name: getattr(failure, name) for name in expected} == expected
    reason = expected["exit_reason"]
    assert failure.kind == ("run-error" if "errno" in expected else KINDS.get(reason, "other"))
    if form.vmm:
        assert failure.source.vmm == form.vmm
    if "{vcpu" in form.form:
        assert failure.source.vcpu == EXAMPLE["vcpu"]
    assert failure.source.vcpu != EXAMPLE["host_cpu"], "fail_entry.cpu is the host's"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.vmm}-{form.form}")
def test_every_row_holds_an_anchor_and_names_its_source(form: Form) -> None:
    """A search that knows only the anchors finds every line of the table; each row says where it is printed."""
    assert any(anchor in form.example for anchor in ANCHORS)
    assert form.source
    assert form.vmm is None or form.vmm in VMMS


LINES: list[tuple[str | None, str, dict[str, Any]]] = [
    # The same facts in other words, as VMMs' logs and small programs have them.
    ("crosvm", "[ERROR:src/linux/vcpu.rs:99] vcpu hw run failure: 0x7", {"hardware_error": 7}),
    ("crosvm", "[x] vcpu hit unknown error: Memory page has hardware error (os error 133)", {"errno": "EHWPOISON"}),
    (
        "crosvm",
        "thread 'crosvm_vcpu2' panicked at hypervisor/src/kvm/mod.rs:1000:18:\nunknown kvm exit reason: 39",
        {"exit_reason": 39, "vcpu": 2},
    ),
    (
        "cloud-hypervisor",
        "cloud-hypervisor: 217.1ms: <vcpu0> ERROR:vmm/src/cpu.rs:1069 -- VCPU generated error: VcpuRun(Failed to run vcpu: Unexpected exit reason on vcpu run: FailEntry(7, 2)\nCaused by:\n    Unexpected exit reason on vcpu run: FailEntry(7, 2))",  # noqa: E501
        {"hardware_error": 7, "vcpu": 0},
    ),
    (
        "cloud-hypervisor",
        "cloud-hypervisor:    31.1s: <vcpu3> ERROR:vmm/src/cpu.rs:1487 -- VCPU generated error: VcpuRun(Failed to run vcpu\n\nCaused by:\n    VCPU error Error(14))",  # noqa: E501
        {"errno": "EFAULT", "vcpu": 3},
    ),
    (
        "cloud-hypervisor",
        "<vcpu1> ERROR:vmm/src/cpu.rs:979 -- VCPU generated error: VcpuRun(Failed to run vcpu: VCPU error",
        {"kind": "run-error", "errno": None, "vcpu": 1},
    ),
    (
        "firecracker",
        "[id:fc_vcpu 0:ERROR:src/vmm/src/arch/x86_64/vcpu.rs:782] Unexpected exit reason on vcpu run: Unsupported(39)",
        {"exit_reason": 39, "kind": "other"},
    ),
    (
        "firecracker",
        "[anonymous-instance:fc_vcpu 0] Received KVM_EXIT_FAIL_ENTRY signal: 7 on cpu 3",
        {"hardware_error": 7, "vcpu": 0},
    ),
    (
        "firecracker",
        "[anonymous-instance:fc_vcpu 1:ERROR:src/x.rs:1] Failure during vcpu run: Resource busy (os error 16)",
        {"errno": "EBUSY"},
    ),
    (
        "uhyve",
        "thread '<unnamed>' panicked at src/linux/x86_64/kvm_cpu.rs:601:25:\nnot implemented: FailEntry(0, 2)",
        {"hardware_error": 0},
    ),
    ("uhyve", "proxy: 0:KVM: entry failure: hw_entry_failure_reason=0x80000021", {"hardware_error": 0x80000021}),
    ("hyperlight", 'Error: Error("Unexpected VM Exit \\"Unexpected KVM Exit Shutdown\\"")', {"exit_reason": 8}),
    (
        "kvm selftests",
        "==== Test Assertion Failure ====\n  x86_64/state_test.c:157: run->exit_reason == KVM_EXIT_IO\n  Unexpected exit reason: 8 (SHUTDOWN),",  # noqa: E501
        {"exit_reason": 8},
    ),
    (
        "kvm selftests",
        "==== Test Assertion Failure ====\n  Wanted KVM exit reason: 17 (INTERNAL_ERROR), got: 6 (MMIO)",
        {"exit_reason": 6, "kind": "other"},
    ),
    (None, "0x0100: KVM_EXIT_INTERNAL_ERROR: suberror = 0x1 -- Illegal instruction", {"suberror": 1, "rip": 0x100}),
    (None, "[KVM_INTERNAL_ERROR_DELIVERY_EV]", {"suberror": 3}),
    (
        None,
        "[kvmkvm/exit]: KVM_EXIT_FAIL_ENTRY (hardware_entry_failure_reason = 80000021)",
        {"hardware_error": 0x80000021},
    ),
    (None, "KVM_EXIT_FAIL_ENTRY (reason=0x80000021, cpu=3) mode=Long", {"hardware_error": 0x80000021, "vcpu": None}),
    (None, "KVM_EXIT_FAIL_ENTRY: cpu=3 reason=7", {"hardware_error": 7}),
    (None, "[NVMM FATAL] VCPU 2: KVM_EXIT_INTERNAL_ERROR (suberror: 0x3). Halting VM.", {"suberror": 3, "vcpu": 2}),
    (
        None,
        "vCPU 0: KVM_EXIT_FAIL_ENTRY, hardware entry failure reason 0x80000021 on host CPU 3",
        {"hardware_error": 0x80000021, "vcpu": 0},
    ),
    (None, "VMENTER failed, hw reason 0x80000021 (invalid guest state?)", {"hardware_error": 0x80000021}),
    (None, "vcpu 1 failed entry, hardware reason 0x7", {"hardware_error": 7, "vcpu": 1}),
    (None, "KVM internal error, suberror 1", {"suberror": 1}),
    (None, "INTERNAL_ERROR: 2", {"suberror": 2}),
    (None, "KVM internal error on vCPU 1", {"exit_reason": 17, "suberror": None, "vcpu": 1}),
    (None, "Unhandled vcpu exit: FailEntry(\n    2147483681,\n    3,\n)", {"hardware_error": 0x80000021, "vcpu": None}),
    (None, "VMM: unhandled exit reason (0x18)", {"exit_reason": 24}),
    (None, "vCPU 0 unhandled KVM exit reason: 8. Terminating.", {"exit_reason": 8}),
    (None, "vCPU 0: unhandled exit_reason=37 (NOTIFY)", {"exit_reason": 37}),
    (None, "Got exit_reason 8, expected KVM_EXIT_HLT (5)", {"exit_reason": 8}),
    (None, "expected VcpuExit::Hlt, got Shutdown", {"exit_reason": 8}),
    (None, "panic: Got unexpected KVM_EXIT_SHUTDOWN", {"exit_reason": 8}),
    (None, "qemu-kvm: unexpected KVM_EXIT_HLT at rip=0x7f0000001000", {"exit_reason": 5, "kind": "other"}),
    (None, "guest triple-faulted (KVM_EXIT_SHUTDOWN) at 0x1000", {"exit_reason": 8}),
    (None, "VCPU 3: guest triple fault", {"exit_reason": 8, "vcpu": 3}),
    (None, "Unexpected system event: SystemEvent(3, [0])", {"exit_reason": 24}),
    (None, "error: exit_reason=SHUTDOWN", {"exit_reason": 8}),
    (None, "Unhandled exit: MemoryFault { flags: 8, gpa: 4096, size: 4096 } on vcpu 0", {"exit_reason": 39}),
    (None, "ioctl(KVM_RUN): Bad address", {"errno": "EFAULT"}),
    (None, "panic: KVM_RUN: bad address", {"errno": "EFAULT"}),
    (None, "KVM_RUN failed: Mauvaise adresse", {"errno": "EFAULT"}),
    (None, "KVM_RUN: 错误的地址", {"errno": "EFAULT"}),
    (None, "run vcpu failed: Bad address (os error 14)", {"errno": "EFAULT"}),
    (None, "vcpu_run failed: ret=-14", {"errno": "EFAULT"}),
    (None, "KVM_RUN returned -22", {"errno": "EINVAL"}),
    (None, "vcpu run failed: errno=38", {"errno": "ENOSYS"}),
    (None, "Failed to execute KVM_RUN: Error(14)", {"errno": "EFAULT"}),
    (None, "Failed to run VM: errno 14", {"errno": "EFAULT"}),
    (None, "ERROR running VCPU No: 14 Msg: Bad address", {"errno": "EFAULT"}),
    (None, "KVM_RUN failed with EFAULT at gpa 0x1000", {"errno": "EFAULT"}),
    (
        None,
        "[vcpu 3] exit_reason: KVM_EXIT_FAIL_ENTRY (9), hardware_entry_failure_reason: 0x80000021",
        {"hardware_error": 0x80000021},
    ),
    (None, "KVM_EXIT_EXCEPTION: exception=13 error_code=0x0", {"exception": 13, "exception_error_code": 0}),
    (None, "KVM_EXIT_UNKNOWN -> 00000031", {"hardware_reason": 0x31}),
    (None, "vmm: vcpu_run: exit_reason=9 hw_reason=0x80000021", {"hardware_error": 0x80000021}),
    (None, "[KVM] Internal Error! Suberror: 0x1", {"suberror": 1}),
    (None, "KVM exit reason: SHUTDOWN", {"exit_reason": 8}),
    (None, "KVM: exit shutdown", {"exit_reason": 8}),
    (None, "Unexpected exit on vcpu run: 17", {"exit_reason": 17}),
    (None, "KVM_RUN failed", {"kind": "run-error", "errno": None}),
    ("libkrun", "libkrun: Cannot run the VCPUs: Bad address (os error 14)", {"kind": "run-error", "errno": "EFAULT"}),
    (None, "vmm: error running vCPU 2: Bad address (os error 14)", {"kind": "run-error", "errno": "EFAULT"}),
]


@pytest.mark.parametrize(("vmm", "line", "fields"), LINES)
def test_a_neighbour_of_the_table_is_read(vmm: str | None, line: str, fields: dict[str, Any]) -> None:
    """Other versions, languages, casings and bindings say the same facts; one failure, with what the line has."""
    failure = one(line)
    got = {name: getattr(failure, name, None) for name in fields}
    if "vcpu" in fields:
        got["vcpu"] = failure.source.vcpu
    if "rip" in fields:
        assert failure.cpu
        got["rip"] = failure.cpu.registers["rip"]
    assert got == fields
    if vmm:
        assert failure.source.vmm == vmm


@pytest.mark.parametrize(
    "line",
    [
        # source code, patches, documentation
        "If you see `run->exit_reason` set to `8`, then the guest has shut down",
        "When the guest hits a triple fault `KVM_RUN` returns KVM_EXIT_SHUTDOWN",
        "The default case of `switch (run->exit_reason)` handles `KVM_EXIT_FAIL_ENTRY`",
        "+	case KVM_EXIT_INTERNAL_ERROR:",
        '		printf("KVM_EXIT_INTERNAL_ERROR: suberror = 0x%x", x);',
        '            errx(1, "KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason = 0x%llx",',
        "#define KVM_EXIT_INTERNAL_ERROR   17",
        "VcpuExit::InternalError => {",
        'r => error!("Unexpected exit reason on vcpu run: {:?}", r),',
        'return fmt.Errorf("KVM_EXIT_INTERNAL_ERROR, suberror %d", sub)',
        "  run->exit_reason == KVM_EXIT_SHUTDOWN",
        "KVM exits to userspace with KVM_EXIT_INTERNAL_ERROR",
        "KVM_EXIT_FAIL_ENTRY is returned when the CPU refuses the state",
        "If the guest hits a triple fault, KVM returns KVM_EXIT_SHUTDOWN to userspace",
        "**KVM_EXIT_INTERNAL_ERROR (17)**: KVM encountered an internal error.",
        "rename VcpuExit::FailEntry in crosvm",
        # strace, tracepoints, statistics
        "ioctl(12, KVM_RUN, 0) = -1 EFAULT (Bad address)",
        "[pid  4242] ioctl(12, KVM_RUN, 0) = -1 EFAULT (Bad address)",
        "qemu-4242 [001] 1.0: kvm_userspace_exit: reason KVM_EXIT_SHUTDOWN (8)",
        # exits that every guest has
        "KVM_EXIT_HLT",
        "Received KVM_EXIT_HLT signal",
        "kvm_run_exit cpu_index 0, reason 2",
        "kvm: exit_reason = 0x5",
        "kvm.EXITFAILENTRY,",
        '    {KVM_EXIT_SHUTDOWN, "SHUTDOWN"},',
        "VcpuExit::FailEntry(hardware_entry_failure_reason, cpu)",
        "If exit_reason is KVM_EXIT_FAIL_ENTRY, the vcpu could not be run due",
        "their traditional behaviour) will cause KVM_RUN to return with -EINTR.",
        "Received KVM_SYSTEM_EVENT: type: 2, event: [0]",
        # other calls, other programs
        "mmap kvm_run failed: Cannot allocate memory",
        "KVM_SET_REGS: Bad address",
        "Failed to run VM: No such file or directory",
        "an internal error occurred",
        "libvirt: internal error: process exited while connecting to monitor",
        "vhost-user: SystemExit: 0",
        "FATAL: Unhandled VM-Exit, reason 2",
        "haxm_error: hax_vcpu_run: unhandled exit reason 33",
        "container exited with exit code: 137",
        "systemd: unexpected exit reason unknown",
        "cache: entry failed with error 7",
        "error: Unhandled exception in thread: RuntimeError",
        "kvm [1234]: vcpu0, guest rIP: 0x1 vmx: unexpected exit reason 0x33",
    ],
)
def test_what_is_no_message_gives_no_failure(line: str) -> None:
    """Code, prose, strace, ordinary exits, other calls and other hypervisors: nothing of KVM_RUN failed there."""
    assert vmm_messages.read(Text(f"hello\n{line}\nbye\n")).failures == ()


@pytest.mark.parametrize("number", sorted(EXITS))
def test_every_exit_is_known_by_number_and_by_each_spelling(number: int) -> None:
    """KVM_EXIT_X, its CamelCase of kvm-ioctls, and Unsupported(N) are one exit."""
    name = EXITS[number].name
    camel = "".join(part.capitalize() for part in name.split("_"))
    for line in (
        f"vcpu 0: unhandled KVM exit reason: {number}",
        f"Unexpected exit reason on vcpu run: {camel}",
        f"Unexpected exit reason on vcpu run: Unsupported({number})",
        f"unexpected KVM_EXIT_{name}",
    ):
        assert one(line).exit_reason == number, line


@pytest.mark.parametrize("errno", sorted(WORDS))
def test_strerror_in_every_language(errno: str) -> None:
    """The C library's words in its translations, musl's, Go's in lower case, the number and the name are one errno."""
    number = next(n for n, name in NAMES.items() if name == errno)
    spelled = (f"os error {number}", errno) if number == 1 else (f"os error {number}", f"errno = {number}", errno)
    for words in (*WORDS[errno], WORDS[errno][0].capitalize(), *spelled):
        failures = read(f"ioctl(KVM_RUN) failed: {words}\n".encode()).failures
        if errno in {"EINTR", "EAGAIN"}:  # a signal came, or the vCPU waits for its start: no failure
            assert [f.errno for f in failures] in ([], [None])
        else:
            assert [f.errno for f in failures] == [errno], words


def test_a_cut_number_is_no_number() -> None:
    """A line that ends inside of Rust's brackets shows the exit, not what it carried."""
    failure = one("[ERROR krun] Unexpected exit reason on vcpu run: FailEntry(2147")
    assert (failure.kind, failure.hardware_error) == ("entry-failure", None)


def test_a_line_that_repeats_itself_is_counted_each_time() -> None:
    """crosvm runs on a vCPU that KVM gave up on; gVisor too: three lines are three failures."""
    crosvm = "".join(f"[2026-01-02T03:04:0{n}Z WARN  crosvm] unexpected vcpu exit: InternalError\n" for n in range(3))
    gvisor = "unexpected internal_error exit:  0000000300000001\n" * 3
    for text in (crosvm, gvisor):
        assert sum(f.source.count for f in read(text.encode()).failures) == 3


def test_one_failure_in_several_lines_is_one() -> None:
    """Firecracker says it thrice; km says it before and behind its registers."""
    text = (
        "[a:fc_vcpu 0:ERROR:src/vmm/src/vstate/vcpu.rs:469] Received KVM_EXIT_FAIL_ENTRY signal: 7 on cpu 3\n"
        "[a:fc_vcpu 0:ERROR:src/vmm/src/vstate/vcpu.rs:300] Received error signaling kvm exit: FailEntry(7, 3)\n"
    )
    (failure,) = read(text.encode()).failures
    assert (failure.hardware_error, failure.source.line, failure.source.vcpu) == (7, 1, 0)


def test_two_vcpus_are_two_failures() -> None:
    """Equal numbers on two vCPUs are not one failure said twice."""
    text = "".join(
        f"[a:fc_vcpu {n}:ERROR:src/vmm/src/vstate/vcpu.rs:4] Received KVM_EXIT_FAIL_ENTRY signal: 7 on cpu 3\n"
        for n in range(2)
    )
    assert [f.source.vcpu for f in read(text.encode()).failures] == [0, 1]


def test_kvmtool_names_the_entry_failure_in_its_second_line() -> None:
    """builtin-run.c prints union.hw as "exit code"; fail_entry.hardware_entry_failure_reason lies at its place."""
    failure = one('  Error: KVM exit reason: 9 ("KVM_EXIT_FAIL_ENTRY")\n  Fatal: KVM exit code: 2147483681')
    assert (failure.kind, failure.hardware_error, failure.source.vmm) == ("entry-failure", 0x80000021, "kvmtool")


@pytest.mark.parametrize(("length", "reason"), [(0x8, 8), (0xE, 17), (0xC, 9)])
def test_gvisor_of_2018_throws_a_word_of_known_length(length: int, reason: int) -> None:
    """bluepill_unsafe.go threw "shutdown", "internal error" or "entry failed"; Go's trace has only the length."""
    text = (
        f"runtime.throw(0xb2537f, {length:#x})\n\tGOROOT/src/runtime/panic.go:610 +0x13 fp=0xc4 sp=0xc4 pc=0x42\n"
        "gvisor.googlesource.com/gvisor/pkg/sentry/platform/kvm.bluepillHandler(0xc4204cdac0)\n"
    )
    assert one(text).exit_reason == reason


def test_kvm_unit_tests_speak_from_inside() -> None:
    """lib/x86/desc.c: an exception that the test did not expect; RIP, vector and registers are the guest's."""
    failure = one(
        "Unhandled exception 6 #UD at ip 0000000000401387\n"
        "error_code=0000      rflags=00010046      cs=00000008\n"
        "rax=0000000000000000 rcx=00000000000000c2 rdx=00000000ffffffff rbx=00000000009509f4\n"
        "rbp=0000000000513730 rsi=0000000000000020 rdi=0000000000000034\n"
        "cr0=0000000080010011 cr2=0000000000000000 cr3=0000000001007000 cr4=0000000000000020"
    )
    assert (failure.kind, failure.exception, failure.source.vmm) == ("undef-injected", 6, "kvm-unit-tests")
    assert failure.cpu
    assert (failure.cpu.registers["rip"], failure.cpu.registers["rcx"]) == (0x401387, 0xC2)


def test_what_is_recognised_but_not_understood_is_said() -> None:
    """An error line that names the exit in an unknown form is a record of its own kind, not silence."""
    failure = one("2026-01-02T03:04:05 ERROR myvmm: giving up: FailEntry?! vcpu 3")
    assert failure.kind in {"unread", "entry-failure"}
    assert failure.hardware_error is None


TOKENS = st.sampled_from(
    [
        *ANCHORS,
        "\n",
        " ",
        ": ",
        "(",
        ")",
        "{ ",
        "}",
        "0x80000021",
        "7",
        "-14",
        "unexpected ",
        "got ",
        "rax: ",
        "rip: 0x1 ",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TOKENS | st.text(max_size=6), max_size=60))
def test_no_text_makes_the_reader_raise(parts: list[str]) -> None:
    """Pieces of messages in any order are read or not, and never raise."""
    for failure in read("".join(parts).encode("utf-8", "replace")).failures:
        assert failure.suberror is None or failure.suberror < 1 << 32


DELIVERY = (0x80000B0E, 0x31, 0xD81, 0x390074AC0)


@pytest.mark.parametrize(
    "text",
    [
        "[vmm] KVM_EXIT_INTERNAL_ERROR suberror:3 ndata:4 data[0]:80000b0e data[1]:31 data[2]:d81 data[3]:390074ac0",
        "KVM internal error (suberror 3)\ndata[0] = 0x80000b0e\ndata[1] = 0x31\ndata[2] = 0xd81\ndata[3] = 390074ac0",
        "unexpected exit: KVM_EXIT_INTERNAL_ERROR {Suberror:3 Ndata:4 Data:[2147486478 49 3457 15301298880 0 0]}",
        "KVM_EXIT_INTERNAL_ERROR (17): 3\ndata[0]: 0x80000b0e\ndata[1]: 0x31\ndata[2]: 0xd81\ndata[3]: 0x390074ac0",
        "unexpected exit InternalError { suberror: 3, ndata: 4, data: [2147486478, 49, 3457, 15301298880, 0] }",
    ],
    ids=["one line", "words below", "Go", "exit's own number", "Rust"],
)
def test_the_words_that_a_program_prints_are_its_own(text: str) -> None:
    """Most VMMs throw them away; a program of one's own may not."""
    (failure,) = read(f"{text}\n".encode()).failures
    assert (failure.kind, failure.suberror, failure.ndata, failure.data) == ("internal-error", 3, 4, DELIVERY)


def test_words_of_qemu_behind_another_programs_line_are_not_its_own() -> None:
    """Each failure has its own words."""
    (other, failure) = read(
        b"uhyve: unexpected exit InternalError { suberror: 1 }\n\n\n\n\n\n\n\n\n"
        b"KVM internal error. Suberror: 3\nextra data[0]: 0x0000000080000b0e\nextra data[1]: 0x0000000000000031\n"
    ).failures
    assert (failure.suberror, failure.data) == (1, ())
    assert (other.suberror, other.data) == (3, (0x80000B0E, 0x31))


def test_the_exits_own_number_is_no_suberror() -> None:
    """``KVM_EXIT_INTERNAL_ERROR (17)``."""
    (failure,) = read(b"Exit reason: KVM_EXIT_INTERNAL_ERROR (17)\n").failures
    assert (failure.exit_reason, failure.suberror) == (17, None)


@pytest.mark.parametrize(
    "text",
    ["2024/01/01 12:00:00 vcpu.Run: bad address", 'Error: Os { code: 14, message: "Bad address" } in KVM_RUN'],
)
def test_the_errno_stands_on_either_side(text: str) -> None:
    (failure,) = read(f"{text}\n".encode()).failures
    assert failure.errno == "EFAULT"


def test_what_a_memory_fault_carries_is_kept_and_said() -> None:
    """kvm-ioctls' Debug of VcpuExit::MemoryFault; bit 3 of the flags is KVM_MEMORY_EXIT_FLAG_PRIVATE (linux/kvm.h)."""
    (failure,) = read(b"unexpected exit: MemoryFault { flags: 8, gpa: 4276092928, size: 4096 }\n").failures
    assert failure.exit_reason == 39
    assert failure.exit_fields == {"flags": 8, "gpa": 0xFEE00000, "size": 0x1000}
    text = to_plain(explanation(diagnose(failure)), 200)
    assert "flags 0x8 (a private access), gpa 0xfee00000, size 0x1000" in text
    (again,) = read(to_json(diagnose(failure))).failures
    assert again.exit_fields == failure.exit_fields


def test_what_a_system_event_carries_is_kept() -> None:
    """Firecracker prints the type of KVM_EXIT_SYSTEM_EVENT, and 3 is KVM_SYSTEM_EVENT_CRASH (linux/kvm.h)."""
    line = b"2024-01-01T00:00:00 [anonymous-instance:fc_vcpu 0] Received KVM_SYSTEM_EVENT signal type: 3, flag: 0\n"
    (failure,) = read(line).failures
    assert failure.exit_fields == {"type": 3}
    assert "type 0x3 (KVM_SYSTEM_EVENT_CRASH)" in to_plain(explanation(diagnose(failure)), 200)
