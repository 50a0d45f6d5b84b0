"""Pieces of QEMU's reports, in other orders and among other dumps: nothing is lost, nothing is taken from others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, internal_errors, reports
from kvmwhy.readers import read
from kvmwhy.record import Failure

FLDS = (Path(__file__).parents[1] / "fixtures" / "long64-flds" / "qemu.log").read_text()
DUMP = FLDS[FLDS.index("RAX=") :]


def one(text: str) -> Failure:
    (failure,) = read(text.encode()).failures
    return failure


def test_a_lone_word_is_kept_under_its_index() -> None:
    """The tail of a report: only the last word is left of eight."""
    failure = one("extra data[7]: 0x0000000000000005\nemulation failure\n" + DUMP)
    assert (failure.suberror, failure.data, failure.data_apart, failure.ndata) == (1, (), {7: 5}, None)
    assert failure.cpu is not None
    assert any("[0] to [6]" in text for text in failure.damage)


def test_words_behind_a_gap_are_kept_under_their_index() -> None:
    """One line of four is lost."""
    text = "KVM internal error. Suberror: 3\nextra data[0]: 80000b0e\nextra data[2]: 31\nextra data[3]: 181\n"
    failure = one(text + DUMP)
    assert (failure.data, failure.data_apart, failure.ndata) == ((0x80000B0E,), {2: 0x31, 3: 0x181}, None)
    assert any("extra data[1] is missing" in text for text in failure.damage)


def test_words_in_another_order_are_whole() -> None:
    """A gap that a later line fills is none."""
    text = "KVM internal error. Suberror: 3\nextra data[0]: 1\nextra data[2]: 3\nextra data[1]: 2\n"
    failure = one(text + DUMP)
    assert (failure.data, failure.data_apart, failure.ndata, failure.damage) == ((1, 2, 3), {}, 3, ())


def test_code_above_its_banner() -> None:
    """Reports are pasted in any order: a line of code before a dump that has none is that dump's."""
    registers, code = DUMP[: DUMP.index("Code=")], DUMP[DUMP.index("Code=") :]
    failure = one(code + "KVM internal error. Suberror: 1\nemulation failure\n" + registers)
    assert failure.code == one(FLDS).code
    assert failure.suberror == 1


def test_a_suberror_without_its_number_is_still_one() -> None:
    """The number is unknown, the failure is not."""
    failure = one("KVM internal error. Suberror: \n" + DUMP)
    assert (failure.kind, failure.suberror) == ("internal-error", None)
    assert failure.damage


HOST_STATE = """\
*** Host State ***
RIP = 0xffffffffc0a1b2c3  RSP = 0xffffc90000b1bd20
CS=0010 SS=0018 DS=0000 ES=0000 FS=0000 GS=0000 TR=0040
FSBase=00007f0000000000 GSBase=ffff888000000000 TRBase=fffffe0000003000
GDTBase=fffffe0000001000 IDTBase=fffffe0000000000
CR0=0000000080050033 CR3=0000000102ece000 CR4=00000000003726e0
Sysenter RSP=fffffe0000003000 CS:RIP=0010:ffffffff81a01800
EFER = 0x0000000000000d01  PAT = 0x0407050600070106
"""


@given(reports(), st.booleans())
@settings(max_examples=10)
def test_the_hosts_state_in_a_vmcs_dump_is_not_the_guests(report: Printed, before: bool) -> None:
    """arch/x86/kvm/vmx/vmx.c: dump_vmcs prints CR0, CR3 and CR4 of the host as QEMU does the guest's."""
    text = HOST_STATE + report.text if before else report.text + HOST_STATE
    failures = [failure for failure in read(text.encode()).failures if failure.source.vmm == "qemu"]
    assert [failure.cpu for failure in failures] == [report.failure.cpu]
    cut = [remark for failure in failures for remark in failure.damage if "is cut" in remark]
    assert all(remark.startswith("the dump is cut") for remark in cut)  # the VMCS's own, of which these lines are all


def test_an_oops_of_a_kernel_has_no_dump_of_qemu() -> None:
    """The kernel's colon is not QEMU's equals sign."""
    text = "RIP: 0010:vmx_vcpu_run+0x1/0x2\nRAX: 0000000000000000 RBX: 0000000000000001 RCX: 0000000000000002\n"
    assert not any(failure.source.vmm == "qemu" for failure in read(text.encode()).failures)


def test_a_dump_of_tcg_is_no_failure_of_kvm() -> None:
    """target/i386/cpu-dump.c prints CCS= for -d cpu and for cpu_abort(), never for KVM."""
    text = DUMP.replace("EFER=", "CCS=0000000000000000 CCD=0000000000000000 CCO=EFLAGS\nEFER=")
    assert not any(failure.source.vmm == "qemu" for failure in read(text.encode()).failures)
    failure = one(FLDS + text)
    assert failure.suberror == 1


def test_registers_that_were_asked_for_are_no_failure() -> None:
    """The monitor's "info registers" names the vCPU above and the FPU below."""
    asked = "CPU#1\n" + DUMP[: DUMP.index("Code=")] + "FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80\n"
    failure = one(asked)
    assert (failure.kind, failure.source.vcpu) == ("healthy", 1)
    assert one(FLDS + asked).suberror == 1
    assert one("VM status: paused (internal-error)\n" + asked).kind == "other"


@pytest.mark.parametrize(
    ("words", "errno"),
    [  # po/*.po of glibc 2.36
        ("Adresse", None),
        ("错误的地址", "EFAULT"),
        ("Ungültige Adresse", "EFAULT"),
        ("不正なアドレスです", "EFAULT"),
        ("Dirección incorrecta", "EFAULT"),
        ("Неправильний адрес", None),  # Russian and Ukrainian mixed: nobody's words
        ("Неправильный адрес", "EFAULT"),
        ("Argument invalide", "EINVAL"),
        ("Не вдалося розподілити пам\u2019ять", "ENOMEM"),
    ],
)
def test_the_error_in_another_language(words: str, errno: str | None) -> None:
    """QEMU prints strerror(), in the language of whoever started it; what is no such word is not guessed."""
    failure = one(f"error: kvm run failed {words}\n" + DUMP)
    assert failure.errno == errno
    assert bool(failure.damage) == (errno is None)


@given(reports(internal_errors()), st.integers(0, 20), st.integers(3, 10))
def test_any_few_lines_of_a_dump_are_read(report: Printed, first: int, count: int) -> None:
    """What the window shows is read; its values are the whole dump's."""
    lines = report.dump.splitlines(keepends=True)
    window = lines[min(first, len(lines) - count) :][:count]
    failures = read("".join(window).encode()).failures
    whole = report.failure.cpu
    assert whole is not None
    for failure in failures:
        if failure.cpu is not None:
            assert failure.cpu.registers.items() <= whole.registers.items()
            assert failure.cpu.segments.items() <= whole.segments.items()
    shown = sum(line.startswith(("ES", "CS", "SS", "DS", "FS", "GS")) for line in window)
    if shown >= 3:
        assert failures


def test_run_failed_without_error_is_read_once() -> None:
    """qemu-kvm and titles leave "error: " out; QEMU's own line says the same, and better."""
    assert one("kvm run failed Bad address\n").errno == "EFAULT"
    assert len(read(b"Subject: kvm run failed Bad address\n\nerror: kvm run failed Bad address\n").failures) == 1
    assert read(b"the kvm run failed again yesterday\n").failures == ()


def test_a_word_that_differs_from_its_own_double_is_named() -> None:
    """Two vCPUs' words in one list: neither is dropped silently, and the list is not counted."""
    text = "KVM internal error. Suberror: 3\nextra data[0]: 1\nextra data[1]: 2\nextra data[1]: 9\n"
    failure = one(text)
    assert (failure.data, failure.data_apart, failure.ndata) == ((1, 2), {}, None)
    assert any("twice" in remark for remark in failure.damage)
