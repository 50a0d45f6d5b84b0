"""A text that is not worth reading has no failure in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, reports
from kvmwhy.ingest.marks import LOOSE
from kvmwhy.readers import OF_TEXT, read
from kvmwhy.readers.likely import may_tell
from kvmwhy.readers.qemu.banner import ERRNO
from kvmwhy.readers.trace.text_prefilter import HOT

FIXTURES = Path(__file__).parent.parent / "fixtures"
WORDS = sorted(
    {
        *(mark for format_ in OF_TEXT for mark in format_.marks),
        *(mark.decode() for mark in LOOSE),
        *HOT,
        *ERRNO,
        *("KVM: entry failed, hardware error 0x80000021", "KVM: unknown exit, hardware reason 31", "KVM: exception 6"),
        *("KVM internal error. Suberror: 1", "extra data[0]: 0x0000000000000001", "emulation failure", "KVM:", "Code="),
        *("INTERNAL_ERROR: ", "Internal error, ", "suberror: ", "suberror=0x1", "EFER=0000000000000500", "EFER= 0x500"),
        *("os error 14", "Error(16)", "errno 5", "errno=-5", " (", ": ", ", ", "0x11", " 17 ", "(os error 16)"),
        *('{"schema":1,"kind":"other"}', '{"schema":1,', '"kind":"other"}', "RAX=0000000000000000 RBX="),
        *("RIP=0000000000008086", "CR0=00000011", "ES =0010 00000000 ffffffff 00c09300", "\n", "\n", "\n", " ", "x"),
        *("qemu-1 [000] d.. 1.5: ", "kvm_emulate_insn: 0:8086:d9 03 (prot64)", " failed", "rip 0x8086 "),
        *("kvm_userspace_exit: reason ", "KVM_EXIT_UNKNOWN (0)", "[    1.5] ", "Jan  2 03:04:05 h QEMU[1]: "),
    }
)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map("".join))
def test_what_is_not_likely_is_nothing(text: str) -> None:
    """Of all marks, and of what readers want to see with them, in any order."""
    data = (text + "\n").encode()
    assert may_tell(data) or not read(data).failures


@given(reports())
def test_reports_are_likely(report: Printed) -> None:
    """Whatever QEMU prints."""
    assert may_tell(report.text.encode())


def test_what_was_captured_is_likely() -> None:
    """Every text of the fixtures with a failure."""
    texts = [path.read_bytes() for path in sorted(FIXTURES.rglob("*")) if path.suffix in {".log", ".dmesg", ".txt"}]
    told = [data for data in texts if read(data).failures]
    assert len(told) > 20
    assert all(map(may_tell, told))


@pytest.mark.parametrize(
    "line",
    [
        "DEBUG fc_vcpu 0: KVM_RUN returned, exit MmioWrite addr 0xd0000000 len 4",
        "before vcpu run",
        "about to run vcpu 3",
        " qemu-4001 [001] d.... 1000.000013: kvm_emulate_insn: 4f21:66 0f 6f 03 (prot64)",
        " qemu-4001 [001] d.... 1000.000013: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)",
        "[    1.500000] EFER= 0x0000000000000d01  PAT = 0x0007040600070406",
        "KVM: created a VM with 4 vCPUs",
        'request {"schema":1, "n": 5} served',
        "exit 17 suberror none so far",
        "KVM_CREATE_VM gave fd 12",
    ],
)
def test_what_programs_say_when_all_is_well_is_not_read(line: str) -> None:
    """Lines by which failures are searched, in a log without one."""
    data = f"{line}\n".encode() * 100
    assert not read(data).failures
    assert not may_tell(data)


def test_an_error_far_away_is_another_matter() -> None:
    """What makes a failure of a mark stands near it."""
    filler = "all is well\n" * 1000
    assert may_tell(b"KVM_RUN failed: os error 14\n")
    assert not may_tell(f"KVM_RUN returned\n{filler}open: os error 2\n".encode())
