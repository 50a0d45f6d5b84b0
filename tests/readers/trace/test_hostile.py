"""Traces are hostile input: nothing raises, nothing hangs, whatever stands in them.

Sizes are such that quadratic work would take minutes; no test measures time.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers.trace import ftrace, trace_dat
from kvmwhy.readers.trace.formats import Formats
from kvmwhy.readers.trace.pages import Decoder
from kvmwhy.readers.trace.vcpu_tracker import Story
from readers.trace.samples import Layout, dat_6, dat_7, page, record

LAYOUT = Layout()
MEGA = 1 << 20
TOKENS = (
    "a-1 [000] 1.5: ", "CPU 0/KVM-7    [001] d..1. 2.000001: ", "b-2  0d..1 5us+: ", " c 9/8 [002] 3.5:  kvm:",
    "kvm_exit: vcpu 0 reason npf rip 0x1 info1 0x4 info2 0x5", "kvm_exit: reason ", "kvm_entry: vcpu 1, rip 0x1",
    "kvm_entry: vcpu 99999999999", "kvm_emulate_insn: 0:10:d9 03 (prot64) failed", "kvm_emulate_insn: 0:",
    "kvm_emulate_insn: rip=zz len=-4 insn=ARRAY[d9] failed=1",
    "kvm_userspace_exit: reason KVM_EXIT_INTERNAL_ERROR (17)",
    "kvm_userspace_exit: reason error (14)", "kvm_userspace_exit: reason=17 errno=99999999999999999999",
    "kvm_inj_exception: #UD", "kvm_inj_exception: exception=6 reinjected=x", "CPU:0 [LOST 999999999999999999 EVENTS]",
    "CPU:0 [5 EVENTS DROPPED]", "kvm_track_tsc: vcpu_id 0", "kvm_page_fault: vcpu 3 rip 0x0 address 0x0 error_code 0x0",
    "\n", " ", ": ", "\t", "[", "]", "\x1b[31m", "\x00", "\u0663", "\ud800", "9" * 400, "kvm_", ":" * 50,
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=6)), max_size=60))
def test_any_text(pieces: list[str]) -> None:
    """Every word that the reader looks for, in any place."""
    text = "".join(pieces)
    ftrace.detect(text)
    for failure in ftrace.read(Text(text)).failures:
        assert len(failure.trace) <= 16
        assert failure.emulation is None or len(failure.emulation.insn) <= 15


@settings(max_examples=100)
@given(st.binary(max_size=4096), st.integers(0, 1 << 64))
def test_any_page(body: bytes, seed: int) -> None:
    """Whatever the ring buffer had."""
    decoder = Decoder(LAYOUT.formats)
    story = Story()
    for _, event in decoder.timed(body):
        assert isinstance(event.fields, dict)
        story.take(event)
    trace_dat.read_pages({0: body, 1: page(seed % (1 << 64), record(body[: len(body) & ~3][:400]))}, LAYOUT.formats)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(LAYOUT.ids)), st.binary(max_size=60), st.integers(0, 1 << 27)), max_size=40
    )
)
def test_any_events(events: list[tuple[str, bytes, int]]) -> None:
    """Events of the right kinds with anything in them, short ones too."""
    heads = [LAYOUT.ids[name].to_bytes(2, "little") + bytes(6) + rest for name, rest, _ in events]
    records = [
        record(payload + bytes(-len(payload) % 4), delta & (1 << 27) - 1)
        for payload, (_, _, delta) in zip(heads, events, strict=True)
    ]
    trace_dat.read_pages(page(0, *records), LAYOUT.formats)


@settings(max_examples=80)
@given(st.binary(max_size=600), st.integers(0, 4000), st.sampled_from((dat_6, dat_7)))
def test_any_container(data: bytes, at: int, make: object) -> None:
    """A file of either version with a piece of it overwritten."""
    pages = page(5, record(LAYOUT.event("kvm_emulate_insn", 1, failed=1)))
    whole = bytearray(dat_6(LAYOUT, [pages]) if make is dat_6 else dat_7(LAYOUT, [pages], how="zlib"))
    at %= len(whole)
    whole[max(at, 12) : max(at, 12) + len(data)] = data
    trace_dat.read(bytes(whole))


@given(st.text(alphabet="name: kvm_exitID:5\t\n;field:offset:size:signed:0[]", max_size=300))
def test_any_format_file(text: str) -> None:
    """Names, IDs, offsets and sizes of any kind."""
    Decoder(Formats.parse(text + LAYOUT.text.replace("offset:8", "offset:900000")))


REPEATED = {
    "failures": "a-1 [000] 1.5: kvm_emulate_insn: 0:10:d9 03 (prot64) failed\n",
    "failures of threads": "".join(
        f"a-{n} [000] 1.5: kvm_emulate_insn: 0:{n:x}:d9 03 (prot64) failed\n" for n in range(99)
    ),
    "vCPUs of a thread": "".join(f"a-1 [000] 1.5: kvm_entry: vcpu {n}, rip 0x1\n" for n in range(99)),
    "lost": "CPU:0 [LOST 1 EVENTS]\n",
    "half lines": "a-1 [000] 1.5: kvm_emulate_insn",
    "digits": "1 ",
    "numbers": "12345678901 ",
    "dashes": "-1",
    "colons": ": ",
    "names": "kvm_exit:",
    "blanks": "a-1 [000]" + " " * 60,
    "brackets": "1 [",
    "flags": "1 1d..1 ",
    "beginnings": "a-1 [000] 1.5: kvm_",
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_megabyte_of_one_thing(name: str) -> None:
    """On one line or on many."""
    text = REPEATED[name] * (MEGA // len(REPEATED[name]))
    ftrace.detect(text)
    ftrace.read(Text(text))
    ftrace.read(Text("a-1 [000] 1.5: kvm_emulate_insn: " + text.replace("\n", "")))


def test_many_threads_are_forgotten_in_turn() -> None:
    """A trace with more threads than are followed: memory does not grow with them."""
    text = "".join(f"a-{n} [000] 1.5: kvm_entry: vcpu 0, rip 0x1\n" for n in range(20_000))
    story = Story()
    for event in ftrace.events(text):
        story.take(event)
    assert len(story._threads) <= 4096
    assert story.waiting == 0


def test_many_distinct_failures_are_bounded() -> None:
    """Those that are left out are counted."""
    text = "".join(f"a-1 [000] 1.5: kvm_emulate_insn: 0:{n:x}:d9 03 (prot64) failed\n" for n in range(10_100))
    read = ftrace.read(Text(text))
    assert len(read.failures) == 10_000
    assert "100 more" in read.damage[-1]


def test_pages_that_all_claim_one_time() -> None:
    """Merging by time gets on."""
    data = page(7, record(LAYOUT.event("kvm_emulate_insn", 1, failed=1))) * 600
    assert trace_dat.read_pages({0: data, 1: data}, LAYOUT.formats).failures[0].source.count == 1200


def test_a_clock_that_runs_over() -> None:
    """A page near the end of 64 bits: found by fuzzing."""
    failing = record(LAYOUT.event("kvm_emulate_insn", 1, failed=1), 100)
    extend = b"\xfe\xff\xff\xff" * 2
    for records in ([failing], [extend, failing], [extend] * 90 + [failing]):
        data = page((1 << 64) - 7, *records)
        assert len(trace_dat.read_pages(data, LAYOUT.formats).failures) == 1
        assert trace_dat.read_pages(data * 300, LAYOUT.formats).failures[0].source.count == 300


def test_pages_whose_times_run_backwards() -> None:
    """A damaged file: nothing is lost, and nothing hangs."""
    data = b"".join(page(10_000 - n, record(LAYOUT.event("kvm_emulate_insn", 1, rip=n, failed=1))) for n in range(600))
    assert len(trace_dat.read_pages(data, LAYOUT.formats, whole=True).failures) == 600
    trace_dat.read_pages(data, LAYOUT.formats)
