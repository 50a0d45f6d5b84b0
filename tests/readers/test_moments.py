"""Several vCPUs that stop alike in one moment: text in, one story out.

The lines are QEMU's (accel/kvm/kvm-all.c: kvm_handle_internal_error; target/i386/cpu-dump.c) behind journald's and
syslog's prefixes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kvmwhy.pipeline import records
from kvmwhy.readers.moments import moments

FIRMWARE = 0xFD0A5
ELSEWHERE = 0x7C00


def dump(rcx: int, rip: int = FIRMWARE, suberror: int = 1, word: str = "") -> list[str]:
    return [
        f"KVM internal error. Suberror: {suberror}",
        *([f"extra data[0]: {word}"] if word else []),
        f"EAX=00000000 EBX=00000000 ECX={rcx:08x} EDX=00000000",
        "ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000",
        f"EIP={rip:08x} EFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0",
    ]


def stamped(time: str, lines: list[str], pid: int = 4242) -> list[str]:
    return [f"{time} host qemu-system-x86_64[{pid}]: {line}" for line in lines]


def alike(*pieces: list[str]) -> list[int]:
    """How many are told to belong together, failure by failure."""
    text = "\n".join(line for piece in pieces for line in piece) + "\n"
    failures = [record.failure for record in records([text.encode()], "guest.log")]
    return [failure.source.alike for moment in moments(failures) for failure in moment]


def test_three_vcpus_at_one_instruction() -> None:
    """Each has registers of its own; one answer is given for all, with their number."""
    assert alike(dump(1), dump(2), dump(3)) == [3, 3, 3]


@pytest.mark.parametrize(
    "second",
    [dump(2, rip=ELSEWHERE), dump(2, suberror=3, word="0x80000b0e"), [*["all is well"] * 300, *dump(2)]],
    ids=["elsewhere", "another suberror", "far away"],
)
def test_what_differs_is_a_story_of_its_own(second: list[str]) -> None:
    """Without times only one place, in lines near each other, makes one moment."""
    assert alike(dump(1), second) == [1, 1]


def test_times_decide_where_they_are_shown() -> None:
    """Two seconds between two dumps are two moments, wherever in the file they stand."""
    near = (stamped("2026-11-29T10:00:00.100001+00:00", dump(1)), stamped("2026-11-29T10:00:00.600001+00:00", dump(2)))
    far = (stamped("2026-11-29T10:00:00.100001+00:00", dump(1)), stamped("2026-11-29T10:00:02.100001+00:00", dump(2)))
    assert alike(*near) == [2, 2]
    assert alike(*far) == [1, 1]


def test_a_host_that_goes_down_stops_all_its_guests() -> None:
    """INIT (suberror 4, exit 3 of VMX) reached vCPUs of two VMs, at unlike places, within 51 µs."""
    words = [
        stamped(
            f"2026-11-29T10:00:00.{100000 + 17 * n}+00:00", dump(n, 0x1000 * n, 4, "0x0000000000000003"), 42 + n % 2
        )
        for n in (1, 2, 3)
    ]
    assert alike(*words) == [3, 3, 3]


def test_the_text_names_the_others(tmp_path: Path) -> None:
    """One answer, and where the other vCPUs were."""
    log = tmp_path / "guest.log"
    log.write_text("\n".join(dump(1) + dump(2)) + "\n")
    explain = [sys.executable, "-m", "kvmwhy", "explain", "--full", str(log)]
    out = subprocess.run(explain, capture_output=True, text=True, check=False).stdout
    assert out.count("Whose doing") == 1
    assert "another vCPU stopped so at that time: line 5, RIP 0xfd0a5" in out


def test_words_without_registers_between_another_vcpus() -> None:
    """Suberror 4 ends with the number of the host's CPU: vCPUs whose dumps were never written differ by it alone."""
    words = [
        ["KVM internal error. Suberror: 4", "extra data[0]: 0x0000000000000003", f"extra data[1]: 0x{cpu:016x}"]
        for cpu in (3, 0xA5, 0x32)
    ]
    assert alike(dump(1, 0x1000, 4, "0x0000000000000003"), *words) == [4, 4, 4, 4]


@pytest.mark.usefixtures("no_hang")
def test_many_alike_are_grouped() -> None:
    """A log of nothing but one failure: to compare each with each of them would take minutes."""
    text = "\n".join(line for n in range(8000) for line in dump(rcx=n)).encode()
    failures = [record.failure for record in records([text])]
    assert sum(map(len, moments(failures))) == 8000


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [
        ("2026-01-02T01:00:00+00:00", "2026-01-05T01:00:00+00:00", 1),
        ("Jan  2 01:00:00", "Jan  2 09:00:00", 1),
        ("Jan  2 01:00:00", "Jan  2 01:00:01", 2),
    ],
)
def test_whole_seconds_rule_out_what_they_can(first: str, second: str, number: int) -> None:
    """Hours lie between two dumps that stand side by side: they are two stories, whatever their lines say."""
    assert alike(stamped(first, dump(1)), stamped(second, dump(2))) == [number, number]
