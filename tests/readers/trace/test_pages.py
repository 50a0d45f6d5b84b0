"""Ring buffer pages, byte by byte; and format files that decide where a field is."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.formats import Formats
from kvmwhy.readers.trace.pages import Decoder, Lost
from readers.trace.samples import EVENTS, PAGE, RELEASES, Layout, formats_of, load, page, record, text_of

LAYOUT = Layout()
MMIO = LAYOUT.event("kvm_mmio", 77, type=1, len=4, gpa=0xD0000000, val=42)
OTHER = LAYOUT.event("kvm_fpu", 77, load=1)


def times(decoder: Decoder, data: bytes) -> list[int]:
    return [ns for ns, _ in decoder.timed(data)]


def decode(data: bytes) -> tuple[list[TraceEvent], Decoder]:
    decoder = Decoder(LAYOUT.formats)
    return list(decoder.page(data, cpu=1)), decoder


def test_deltas_add_up() -> None:
    """27 bits of time since the event before, also where that is of no interest."""
    data = page(1000, record(MMIO, 5), record(OTHER, 7), record(MMIO, 1))
    assert times(Decoder(LAYOUT.formats), data) == [1005, 1013]


def test_time_extends_and_absolute_stamps() -> None:
    """Type 30 adds 59 bits, type 31 sets them; a stamp has no room for the highest five."""
    extend = struct.pack("<II", 3 << 5 | 30, 2)
    base = 0x1800_0000_0000_0000  # bits above 59 are in use
    stamp = struct.pack("<II", 9 << 5 | 31, 1)
    data = page(base, record(MMIO), extend, record(MMIO, 1), stamp, record(MMIO, 4))
    assert times(Decoder(LAYOUT.formats), data) == [base, base + (2 << 27) + 3 + 1, base + (1 << 27) + 9 + 4]


def test_discarded_events_and_padding() -> None:
    """Type 29: with a delta, one event that a filter took back; without, the end of the page."""
    discarded = struct.pack("<II", 6 << 5 | 29, 12) + bytes(8)
    end = struct.pack("<I", 29) + b"\xff" * 40
    data = page(0, record(MMIO, 1), discarded, record(MMIO, 1), end)
    decoder = Decoder(LAYOUT.formats)
    assert times(decoder, data) == [1, 8]
    assert decoder.torn == 0


def test_an_event_too_long_for_five_bits() -> None:
    """Type 0: the length stands in front of the data, and counts itself."""
    long = LAYOUT.event("kvm_mmio", 77, type=2, len=8, gpa=1, val=2).ljust(132, b"\0")
    events, decoder = decode(page(0, record(long, 1), record(MMIO, 1)))
    assert [event.fields["gpa"] for event in events] == [1, 0xD0000000]
    assert decoder.torn == 0


@pytest.mark.parametrize(("missed", "count"), [(91, 91), (0, None)])
def test_missed_events(missed: int, count: int | None) -> None:
    """Bit 31 of commit: some were overwritten; bit 30: how many stands behind the data."""
    head = Decoder(LAYOUT.formats).head(page(500, record(MMIO), missed=missed))
    assert head
    assert head.lost == Lost(500, count)
    events, _ = decode(page(500, record(MMIO), missed=missed))
    assert len(events) == 1


@pytest.mark.parametrize("cut", range(0, 120, 3))
def test_a_torn_page_gives_what_it_has(cut: int) -> None:
    """Whole events come out, and the page is counted unless nothing of it is left."""
    whole = page(0, *[record(MMIO, 1)] * 4)
    data = whole[:cut]
    events, decoder = decode(data)
    assert len(events) == max(0, (cut - 16) // (4 + len(MMIO)))
    assert decoder.torn == (1 if 0 < cut < 16 + 4 * (4 + len(MMIO)) else 0)


def test_an_event_that_claims_more_than_the_page() -> None:
    """The rest of the page cannot be told apart, and is not guessed."""
    events, decoder = decode(page(0, record(MMIO, 1), struct.pack("<I", 28)))
    assert len(events) == 1
    assert decoder.torn == 1


def test_a_commit_beyond_the_page() -> None:
    """What is there is read."""
    data = struct.pack("<QQ", 0, 0xFFFF0) + record(MMIO, 1) * 2
    events, decoder = decode(data)
    assert len(events) == 2
    assert decoder.torn == 1


@settings(max_examples=60)
@given(st.data())
def test_fields_are_found_by_name(data: st.DataObject) -> None:
    """A kernel that lays its structs out otherwise, with other IDs, gives the same events."""
    orders = {name: data.draw(st.permutations(range(len(fields)))) for name, fields in EVENTS.items()}
    numbers = data.draw(st.lists(st.integers(1, 0xFFFF), min_size=len(EVENTS), max_size=len(EVENTS), unique=True))
    layout = Layout(orders, dict(zip(EVENTS, numbers, strict=True)))
    exit_ = {"exit_reason": 0x400, "guest_rip": 9, "isa": 2, "info1": 3, "info2": 4, "intr_info": 5, "error_code": 6}
    insn = {"rip": 1 << 63, "csbase": 0xF0000, "flags": 9, "failed": 1}
    raw = page(
        0,
        record(layout.event("kvm_exit", 7, **exit_, vcpu_id=3)),
        record(layout.event("kvm_emulate_insn", 7, **insn, insn=b"\xd9\x03")),
        record(layout.event("kvm_userspace_exit", 7, reason=17, errno=-14)),
    )
    first, second, third = Decoder(layout.formats).page(raw)
    assert (first.pid, first.vcpu, first.fields) == (7, 3, {**exit_, "vcpu_id": 3})
    assert second.fields == {**insn, "len": 2, "insn": "d9 03"}
    assert third.fields == {"reason": 17, "errno": -14}


def test_formats_say_how_a_page_begins() -> None:
    """Sub-buffers of 64 KiB, and a commit of four bytes, as header_page has them."""
    text = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    text += "\tfield: local_t commit;\toffset:8;\tsize:4;\tsigned:1;\n"
    text += "\tfield: char data;\toffset:12;\tsize:65524;\tsigned:0;\n"
    formats = Formats.parse(text + LAYOUT.text)
    assert (formats.page_size, formats.commit, formats.data) == (65536, (8, 4), 12)
    raw = struct.pack("<QI", 40, 4 + len(MMIO)) + record(MMIO, 2)
    assert [ns for ns, _ in Decoder(formats).timed(raw.ljust(65536, b"\0"))] == [42]


@pytest.mark.parametrize("release", RELEASES)
def test_genuine_formats(release: str) -> None:
    """Of some ninety tracepoints, those of the story; pages of 4 KiB."""
    formats = formats_of(release)
    assert formats.missing == ()
    assert formats.page_size == PAGE
    assert {"kvm_exit", "kvm_entry", "kvm_inj_exception", "kvm_mmio"} <= formats.by_name.keys()
    assert "kvm_fpu" not in formats.by_name


@pytest.mark.parametrize("release", RELEASES)
def test_genuine_pages_have_as_many_events_as_the_text(release: str) -> None:
    """Stepping over what is of no interest loses nothing."""
    decoder = Decoder(formats_of(release))
    count = 0
    for cpu in (0, 1):
        raw = load(release, f"raw/cpu{cpu}")
        count += sum(1 for at in range(0, len(raw), PAGE) for _ in decoder.page(raw[at : at + PAGE]))
    text = text_of(release, "plain")
    names = "|".join(decoder.formats.by_name)
    assert count == len(re.findall(rf": (?:{names}): ", text))
    assert decoder.torn == 0


@pytest.mark.parametrize(
    "text",
    ["", "name: kvm_exit\n", "name: kvm_exit\nID: x\n", "name: kvm_exit\nID: 5\n\tfield:int a;\toffset:0;\tsize:4;\n"],
)
def test_damaged_formats_are_left_out(text: str) -> None:
    """A tracepoint without an ID, or without what all events have, cannot be read."""
    formats = Formats.parse(text)
    assert formats.by_id == {}
    assert formats.missing == ("kvm_emulate_insn", "kvm_userspace_exit")
