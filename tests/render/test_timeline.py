"""Traces as timelines: held against the official classes of the format, and against the events of the text itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.record import Event, Failure, Source
from kvmwhy.render.perfetto import Argument, Writer
from kvmwhy.render.timeline import Owner, Timeline
from timelines import BEGIN, END, INSTANT, Parsed

GUEST = Owner("thread 7")


def drawn(events: Iterable[tuple[int | None, float | None, Event]], owner: Owner = GUEST) -> Parsed:
    timeline = Timeline("made")
    out = timeline.begin()
    for vcpu, seconds, event in events:
        out += b"".join(timeline.take(owner, vcpu, seconds, event))
    return Parsed(out + b"".join(timeline.end())).held()


ENTRY = Event(name="kvm_entry", fields={"vcpu_id": 0, "rip": 0x1000})
EXIT = Event(name="kvm_exit", fields={"exit_reason": 48, "isa": 1, "guest_rip": 0x1002, "info1": 0x181})
MMIO = Event(name="kvm_mmio", fields={"type": 2, "len": 4, "gpa": 0xFEC00000, "val": 5})
TO_USER = Event(name="kvm_userspace_exit", fields={"reason": 6, "errno": 0})


def test_guest_host_and_userspace_are_slices() -> None:
    """The guest runs from its entry to its exit; userspace is a part of the host's time; what happens is within."""
    events = [(0, 1.0, ENTRY), (0, 1.1, EXIT), (0, 1.2, MMIO), (0, 1.3, TO_USER), (0, 1.5, ENTRY), (0, 1.6, EXIT)]
    parsed = drawn(events)
    told = [(round(e.ns / 1e8), e.type, e.name, e.category) for e in parsed.events]
    assert told == [
        (10, BEGIN, "guest", "guest"),
        (11, END, "", ""),
        (11, BEGIN, "EPT_VIOLATION", "host"),
        (12, INSTANT, "kvm_mmio", "event"),
        (13, BEGIN, "userspace: KVM_EXIT_MMIO", "userspace"),
        (15, END, "", ""),
        (15, END, "", ""),
        (15, BEGIN, "guest", "guest"),
        (16, END, "", ""),
        (16, BEGIN, "EPT_VIOLATION", "host"),
        (16, END, "", ""),
    ]
    assert parsed.events[2].said == {"exit_reason": "EPT_VIOLATION", "guest_rip": 0x1002, "info1": 0x181}
    assert parsed.events[3].said == {"type": "write", "len": 4, "gpa": 0xFEC00000, "val": 5}
    (lane,) = (t for t in parsed.tracks.values() if t.parent_uuid)
    assert lane.name == "vCPU 0, thread 7"


def test_nothing_goes_on_over_a_gap_where_no_event_names_its_vcpu() -> None:
    """As on arm64 and riscv64: a guest that was entered before the gap does not run on until an exit after it."""
    entry, leave = Event(name="kvm_entry", fields={"vcpu_pc": 0x1000}), Event(name="kvm_exit", fields={"ret": 0})
    timeline = Timeline("made")
    out = timeline.begin() + b"".join(timeline.take(GUEST, None, 1.0, entry)) + b"".join(timeline.lost(3))
    out += b"".join(timeline.take(GUEST, None, 9.0, leave)) + b"".join(timeline.end())
    parsed = Parsed(out).held()
    ends = [e.ns for e in parsed.events if e.type == END]
    assert min(ends) == 1_000_000_000


def test_a_thread_that_runs_two_vcpus_has_two_lanes() -> None:
    """What one had open ends when the other begins; what came before the first name is the first one's."""
    parsed = drawn([(None, 1.0, EXIT), (0, 1.1, ENTRY), (1, 1.2, ENTRY), (None, 1.3, EXIT), (0, 1.4, ENTRY)])
    names = {uuid: track.name for uuid, track in parsed.tracks.items()}
    assert sorted(names.values()) == ["made", "vCPU 0, thread 7", "vCPU 1, thread 7"]
    begun = [(names[e.track][:6], e.name) for e in parsed.events if e.type == BEGIN]
    assert begun == [
        ("vCPU 0", "EPT_VIOLATION"),
        ("vCPU 0", "guest"),
        ("vCPU 1", "guest"),
        ("vCPU 1", "EPT_VIOLATION"),
        ("vCPU 0", "guest"),
    ]


def test_arm64_has_no_vcpu_in_its_events() -> None:
    """The lane is the thread's, and the exit is named by its class (arch/arm64/kvm/trace_arm.h)."""
    entry = Event(name="kvm_entry", fields={"vcpu_pc": 0x4000})
    leave = Event(name="kvm_exit", fields={"ret": "TRAP", "esr_ec": 0x24, "vcpu_pc": 0x4004})
    parsed = drawn([(None, 1.0, entry), (None, 1.1, leave)])
    assert [t.name for t in parsed.tracks.values()] == ["made", "thread 7"]
    assert [e.name for e in parsed.events if e.type == BEGIN] == ["guest", "DABT_LOW (0x24)"]


def test_a_failure_is_marked_twice() -> None:
    """On its vCPU's lane, and on the lane of all failures, with its answer."""
    timeline = Timeline("made")
    out = timeline.begin() + b"".join(timeline.take(GUEST, 0, 1.0, EXIT))
    failure = Failure(kind="internal-error", source=Source(vcpu=0, line=9, time="1.0"))
    out += b"".join(timeline.fail(GUEST, failure, "KVM could not."))
    parsed = Parsed(out + b"".join(timeline.end())).held()
    marks = [(parsed.tracks[e.track].name, e.said["answer"]) for e in parsed.events if e.category == "failure"]
    assert marks == [("vCPU 0, thread 7", "KVM could not."), ("Failures", "KVM could not.")]


def test_nothing_goes_on_over_a_gap() -> None:
    """The kernel lost events: what was open ends with the last that was seen."""
    timeline = Timeline("made")
    out = timeline.begin() + b"".join(timeline.take(GUEST, 0, 1.0, ENTRY)) + b"".join(timeline.lost(12))
    out += b"".join(timeline.take(GUEST, 0, 9.0, EXIT))
    parsed = Parsed(out + b"".join(timeline.end())).held()
    ends = [e.ns for e in parsed.events if e.type == END]
    assert ends[0] == 1_000_000_000
    assert [e.said for e in parsed.events if e.name == "events lost"] == [{"events": 12}]


TIMES = st.one_of(st.none(), st.floats(), st.floats(0, 1e6), st.integers(-1, 1 << 70).map(float))
EVENTS = st.sampled_from([ENTRY, EXIT, MMIO, TO_USER, Event(name="kvm_entry", fields={"text": "\x1b[2J\u202e<b>"})])
HOSTILE = st.builds(
    Event,
    name=st.text(max_size=20),
    fields=st.dictionaries(
        st.text(max_size=8),
        st.one_of(st.integers(-(1 << 64) + 1, (1 << 64) - 1), st.text(st.characters(codec=None), max_size=20)),
        max_size=4,
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), TIMES, st.one_of(EVENTS, HOSTILE)), max_size=40))
def test_whatever_comes_is_a_timeline(events: list[tuple[int | None, float | None, Event]]) -> None:
    """Times that run back or are none, text that would act on a screen: it parses, nests, and shows no such text."""
    parsed = drawn(events)
    for event in parsed.events:
        for text in (event.name, *event.said, *(v for v in event.said.values() if isinstance(v, str))):
            assert text.isprintable()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "instant"]),
            st.integers(0, (1 << 64) - 1),
            st.integers(0, (1 << 64) - 1),
            st.text(max_size=200),
            st.lists(
                st.builds(Argument, st.text(max_size=9), st.integers(0, (1 << 63) - 1), st.booleans()), max_size=3
            ),
        ),
        max_size=8,
    )
)
def test_bytes_are_those_of_the_official_classes(events: list[Any]) -> None:
    """Each packet, parsed and written again by the official classes, is the same bytes, and has the values given."""
    writer = Writer()
    data = writer.track(1, "a", parent=2, rank=300) + b"".join(
        writer.event(kind, track, ns, name=name, category="c", arguments=said) for kind, track, ns, name, said in events
    )
    parsed = Parsed(data)
    for event, (_, track, ns, name, _) in zip(parsed.events, events, strict=True):
        assert (event.track, event.ns, event.name) == (track, ns, name)


def test_names_that_never_end_are_written_out() -> None:
    """The table of names is bounded; names behind it are read all the same."""
    writer = Writer()
    data = b"".join(writer.event("instant", 1, n, name=f"name {n}") for n in range(5000))
    assert [event.name for event in Parsed(data).events] == [f"name {n}" for n in range(5000)]
    assert sum(map(len, writer._names.values())) <= 3 * 4096


def test_lanes_are_bounded() -> None:
    """Threads without end: the first ones are drawn, the others counted."""
    timeline = Timeline("made")
    for n in range(6000):
        b"".join(timeline.take(Owner(f"thread {n}"), 0, float(n), EXIT))
    assert (timeline.lanes, timeline.left_out) == (4096, 1904)


@pytest.mark.parametrize("text", ["<script>", "\u202e\x1b[31m"])
def test_a_title_is_harmless(text: str) -> None:
    """The file's own name is shown in the UI."""
    track = Parsed(Timeline(text).begin()).tracks[1]
    assert track.name.isprintable()
    assert re.sub(r"\\(x1b|u202e)", "", track.name) in {"<script>", "[31m"}
