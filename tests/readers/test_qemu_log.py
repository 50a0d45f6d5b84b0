"""What QEMU printed is read back: every value, whichever way it is read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import HINT, Printed, banner_of, internal_errors, reports
from kvmwhy.readers import read
from kvmwhy.readers.qemu import registers_tolerant
from kvmwhy.record import Failure, Host, Source

FLDS = Path(__file__).parents[1] / "fixtures" / "long64-flds" / "qemu.log"


def bare(failure: Failure) -> Failure:
    """The failure itself, without where and beside what it was seen."""
    return msgspec.structs.replace(failure, source=Source(), host=Host(), repairs=())


@given(reports())
def test_every_value_comes_back(report: Printed) -> None:
    """Registers, segments, code, words and their count are what was printed, and nothing is called damaged."""
    evidence = read(report.text.encode())
    assert [bare(f) for f in evidence.failures] == [report.failure]
    assert evidence.damage == ()


@given(reports())
def test_both_paths_tell_the_same(report: Printed) -> None:
    """The pattern for an intact dump is only faster than reading it token by token."""
    fast = read(report.text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registers_tolerant, "match_whole", lambda *_: None)
        assert read(report.text.encode()) == fast


@given(st.lists(reports(), min_size=1, max_size=4))
def test_reports_one_after_another_stay_apart(printed: list[Printed]) -> None:
    """Each failure has its own words and its own registers, on its own line."""
    text = "".join(report.text for report in printed)
    failures = read(text.encode(), first_line=5).failures
    assert [bare(f) for f in failures] == [report.failure for report in printed]
    lines = [5]
    for report in printed[:-1]:
        lines.append(lines[-1] + report.text.count("\n"))
    assert [f.source.line for f in failures] == lines


def test_the_hint_is_seen() -> None:
    """QEMU gives its advice on Intel hosts only, so it names the vendor."""
    host = read(f"KVM: entry failed, hardware error 0x80000021\n{HINT}".encode()).failures[0].host
    assert host.unrestricted_guest_hint
    assert host.vendor == "vmx"


def test_words_are_not_counted_while_more_may_follow() -> None:
    """Without a tail or a dump behind them the list may have been cut."""
    (failure,) = read(b"KVM internal error. Suberror: 3\nextra data[0]: 0x0000000080000b0e\n").failures
    assert failure.data == (0x80000B0E,)
    assert failure.ndata is None


@given(internal_errors(), reports(internal_errors()))
def test_words_without_their_banner_are_kept(lost: tuple[str, dict[str, object]], report: Printed) -> None:
    """A log that begins behind the banner still has its words; which suberror they are of is not guessed."""
    head, fields = lost
    words = head.partition("\n")[2]
    data = fields["data"]
    if not data:
        return
    first, *_ = read((words + report.dump).encode()).failures
    assert first.data == data
    assert first.suberror == (1 if "emulation failure" in words else None)
    assert "missing" in first.damage[0]


def test_a_title_that_quotes_the_banner_takes_neither_words_nor_registers() -> None:
    """A bug report's title repeats the first line of the log below it."""
    data = FLDS.read_bytes()
    (alone,) = read(data).failures
    failures = read(b"Subject: KVM internal error. Suberror: 1 after upgrade\n\n" + data).failures
    assert bare(failures[-1]) == bare(alone)
    assert all(f.cpu is None and not f.data for f in failures[:-1])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("KVM: entry failed, hardware error 0x80000021", 0x80000021),
        ("KVM: entry failed, hardware error 0x7", 7),
        ("KVM: entry failed, hardware error 0x0", 0),
        ("KVM: entry failed, hardware error 0x80", None),
        ("KVM: entry failed, hardware error 0x80\n", 0x80),
    ],
)
def test_a_line_pasted_alone_is_whole_unless_it_may_be_cut(text: str, error: int | None) -> None:
    """0x7 is nothing's beginning; 0x80 without a line end may be 0x80000021's."""
    (failure,) = read(text.encode()).failures
    assert failure.hardware_error == error
    assert bool(failure.damage) == (error is None)


def test_other_vm_of_the_same_log_does_not_inherit_a_failure() -> None:
    """libvirt appends to one log per domain; a dump belongs to the run in which it was printed."""
    data = FLDS.read_bytes()
    (alone,) = read(data).failures
    start = b"2026-01-02 03:04:05.678+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.13\n"
    lone = b"KVM: entry failed, hardware error 0x7\n"
    first, second = read(start + lone + start + data).failures
    assert first.cpu is None
    assert bare(second) == bare(alone)


def test_an_index_that_no_page_can_hold_is_named() -> None:
    """A page has sixteen words."""
    text = banner_of(3, tuple(range(17)), padded=True)
    (failure,) = read(text.encode()).failures
    assert failure.data == tuple(range(16))
    assert failure.ndata is None
    assert "cannot exist" in failure.damage[0]


@settings(max_examples=20)
@given(reports(internal_errors()))
def test_the_return_value_of_qemu_kvm_is_no_errno_of_an_announced_failure(report: Printed) -> None:
    """qemu-kvm.c: handle_unhandled returns -EINVAL itself, so the line behind it says nothing of KVM_RUN."""
    text = report.head + "kvm_run returned -22\n" + report.dump
    (failure,) = read(text.encode()).failures
    assert failure.errno is None
