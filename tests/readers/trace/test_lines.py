"""Columns: whatever stands around an event, its thread, CPU, time and vCPU are found."""

from __future__ import annotations

import pytest

from kvmwhy.ingest.normalize import Text, clean
from kvmwhy.readers.trace import ftrace
from readers.trace.samples import RELEASES, text_of

EXIT = "kvm_exit: vcpu 3 reason npf rip 0x10 info1 0x4 info2 0xd0000000 intr_info 0x00000000 error_code 0x00000000"


@pytest.mark.parametrize(
    ("line", "time"),
    [
        (f"           <...>-2844    [001] d..1.  1042.123456: {EXIT}", 1042.123456),
        (f"       CPU 3/KVM-2844    (   2840) [001] d..1.  1042.123456: {EXIT}", 1042.123456),
        (f"       CPU 3/KVM-2844    (-------) [001] d..1.  1042.123456: {EXIT}", 1042.123456),
        (f"       CPU 3/KVM-2844    [001]  1042.123456: {EXIT}", 1042.123456),
        (f"       CPU 3/KVM-2844      1d..1. 1042123456us+: {EXIT}", 1042.123456),
        (f"       CPU 3/KVM-2844      1d..1. 1042123456us : {EXIT}", 1042.123456),
        (f"       CPU 3/KVM-2844    [001] d..1. 7391820471: {EXIT}", None),  # trace_clock counter or x86-tsc
        (f"       CPU 3/KVM  2844 [001]  1042.123456:                       kvm:{EXIT}", 1042.123456),
        (f"       CPU 3/KVM  2840/2844  [001]  1042.123456789:              kvm:{EXIT}", 1042.123456789),
        (f"kw:    CPU 3/KVM-2844  [001]  1042.123456: {EXIT}", 1042.123456),
        (f"[  217.3] kernel: CPU 3/KVM-2844      1d..1. 1042123456us : {EXIT}", 1042.123456),
        (f"Nov 22 10:00:00 host kernel: [  2.1] CPU 3/KVM-2844    [001] d..1. 1042.123456: {EXIT}", 1042.123456),
        (f"a: b-7 [001] 2: 3-2844    [001] d..1.  1042.123456: {EXIT}\r", 1042.123456),
    ],
)
def test_a_line_in_every_layout(line: str, time: float | None) -> None:
    """PID, CPU, time and the event, of a thread whose name has blanks, digits, a slash or a colon."""
    (event,) = ftrace.events(f"\n{line}\n", first_line=40)
    assert (event.name, event.pid, event.cpu, event.vcpu, event.place) == ("kvm_exit", 2844, 1, 3, 41)
    assert event.time == (None if time is None else pytest.approx(time))
    assert event.fields["info2"] == 0xD0000000


def test_perf_without_a_cpu() -> None:
    """What perf did not record, it does not print."""
    (event,) = ftrace.events(f"       CPU 3/KVM  2844  1042.123456:    kvm:{EXIT}\n")
    assert (event.pid, event.cpu) == (2844, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: kvm_emulate_insn\nID: 12\n",
        "I see kvm_emulate_insn: failed in dmesg",
        "kvm_userspace_exit:\n",
        "Suberror: 1\nEIP=0000\n",
        "a-1 [000] 1.0: sched_switch: kvm_emulate_insn: 0:0:90 (real) failed\n",
    ],
)
def test_no_trace(text: str) -> None:
    """Words of a trace in other text make no trace of it."""
    assert not ftrace.detect(text)
    assert ftrace.read(Text(text)).failures == ()


def test_a_trace_in_a_mail_is_detected_behind_prose() -> None:
    """The first mention need not be the event."""
    text = "I enabled kvm_emulate_insn: see below.\n" * 3 + text_of(RELEASES[0], "plain")
    assert ftrace.detect(text)


@pytest.mark.parametrize("line", ["CPU:1 [LOST 91 EVENTS]", "CPU:1 [91 EVENTS DROPPED]", "CPU:1 [LOST 91 EVENTS]\r"])
def test_lost_events_are_counted_and_end_every_history(line: str) -> None:
    """The exit before the gap need not be that of the emulation behind it."""
    text = (
        f"a-1 [000] 1.000001: {EXIT}\n{line}\n"
        "a-1 [000] 1.000002: kvm_emulate_insn: 0:10:d9 03 (prot64) failed\n"
        "a-1 [000] 1.000003: kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)\n"
    )
    read = ftrace.read(Text(text))
    (failure,) = read.failures
    assert failure.exit is None
    assert [event.name for event in failure.trace] == ["kvm_emulate_insn", "kvm_userspace_exit"]
    assert "lost" in failure.damage[0]
    assert "lost 91 events at 1 places" in read.damage[0]


def test_genuine_losses_of_trace_pipe() -> None:
    """A reader that was stopped while two CPUs wrote on."""
    losses = [text_of(release, "pipe").count("EVENTS]") for release in RELEASES]
    assert sum(losses) > 0
    for release, count in zip(RELEASES, losses, strict=True):
        read = ftrace.read(Text(text_of(release, "pipe")))
        assert bool(read.damage) == bool(count)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_a_stream_in_pieces_of_any_size(size: int) -> None:
    """Lines are put together again."""
    data = text_of(RELEASES[-1], "plain").encode()
    pieces = (data[n : n + size] for n in range(0, len(data), size))
    assert ftrace.read_file(pieces) == ftrace.read(Text(data.decode()))


def test_a_long_quiet_trace_hides_nothing() -> None:
    """Segments without a failure are passed over, and the lines are still counted."""
    text = text_of(RELEASES[-1], "plain")
    quiet = "".join(line for line in text.splitlines(keepends=True) if "kvm_entry" in line or "reason npf" in line)
    long = quiet * (3_000_000 // len(quiet))
    read = ftrace.read(Text(long + text + long))
    alone = ftrace.read(Text(text))
    assert [f.emulation for f in read.failures] == [f.emulation for f in alone.failures]
    assert [f.exit for f in read.failures] == [f.exit for f in alone.failures]
    lines = long.count("\n")
    assert [f.source.line for f in read.failures] == [(f.source.line or 0) + lines for f in alone.failures]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["plain", "latency", "report-raw", "perf"])
def test_a_trace_survives_what_is_done_to_mail(release: str, name: str) -> None:
    """Every text is cleaned before it is read; and a quoted trace is still one."""
    text = text_of(release, name)
    want = ftrace.read(Text(text)).failures
    assert ftrace.read(clean(text.encode())).failures == want
    quoted = "\r\n".join(f"> {line}" for line in text.splitlines()).encode()
    assert ftrace.read(clean(quoted)).failures == want


def test_what_is_followed_comes_at_once() -> None:
    """A watch need not wait for the end of the trace, nor for the next line."""
    tape = ftrace.Tape()
    head = "a-1 [000] 1.0: kvm_emulate_insn: 0:10:d9 03 (prot64) failed\n"
    assert list(tape.feed(head, 1)) == []
    (failure,) = tape.feed("a-1 [000] 1.1: kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)\n", 2)
    assert failure.emulation
    assert failure.emulation.insn.hex() == "d903"
