"""trace.dat made to order: both versions, compressions, damage; and the windows of a big one."""

from __future__ import annotations

import random
import struct

import pytest

from kvmwhy.ingest.zstd import zstd
from kvmwhy.readers.trace import decompress, trace_dat, window_reader
from kvmwhy.readers.trace.decompress import UnpackError
from kvmwhy.readers.trace.trace_dat_sections import MAGIC
from kvmwhy.record import Failure
from readers.trace.samples import DATS, PAGE, RELEASES, Layout, dat_6, dat_7, load, page, record

LAYOUT = Layout()


def failing(pid: int, vcpu: int, rip: int, *, silent: bool) -> list[bytes]:
    """The events of one failed emulation."""
    insn = {"rip": rip, "csbase": 0, "flags": 9, "insn": b"\xd9\x03"}
    first = [
        LAYOUT.event("kvm_entry", pid, vcpu_id=vcpu, rip=rip),
        LAYOUT.event("kvm_exit", pid, exit_reason=48, guest_rip=rip, isa=1, info1=1, info2=rip << 12, vcpu_id=vcpu),
        LAYOUT.event("kvm_emulate_insn", pid, **insn, failed=0),
        LAYOUT.event("kvm_emulate_insn", pid, **insn, failed=1),
    ]
    if silent:
        return [
            *first,
            LAYOUT.event("kvm_inj_exception", pid, exception=6),
            LAYOUT.event("kvm_entry", pid, vcpu_id=vcpu, rip=rip),
        ]
    return [*first, LAYOUT.event("kvm_userspace_exit", pid, reason=17, errno=0)]


def ordinary(pid: int, vcpu: int) -> list[bytes]:
    return [
        LAYOUT.event("kvm_entry", pid, vcpu_id=vcpu, rip=1),
        LAYOUT.event("kvm_exit", pid, exit_reason=48, guest_rip=1, isa=1, info1=1, info2=0xFEE00000, vcpu_id=vcpu),
        LAYOUT.event("kvm_emulate_insn", pid, rip=1, csbase=0, flags=9, insn=b"\x8a\x03", failed=0),
        LAYOUT.event("kvm_mmio", pid, type=1, len=1, gpa=0xFEE00000, val=0),
        LAYOUT.event("kvm_userspace_exit", pid, reason=6, errno=0),
    ]


def recording(seed: int, exits: int, failures: int, cpus: int = 3, threads: int = 5) -> list[bytes]:
    """Threads that move between CPUs in the middle of everything; the CPUs' pages."""
    chance = random.Random(seed)  # noqa: S311 -- to be repeated
    marks = set(chance.sample(range(exits), failures))
    ns = 1 << 40
    on = {pid: chance.randrange(cpus) for pid in range(100, 100 + threads)}
    waiting: dict[int, list[bytes]] = {pid: [] for pid in on}
    buffers: list[list[tuple[int, bytes]]] = [[] for _ in range(cpus)]
    done = 0
    while done < exits or any(waiting.values()):
        pid = chance.choice(list(on))
        if not waiting[pid]:
            if done >= exits:
                continue
            bad = failing(pid, pid - 100, 0x1000 + done, silent=chance.random() < 0.5)
            waiting[pid] = bad if done in marks else ordinary(pid, pid - 100)
            done += 1
        if chance.random() < 0.02:
            on[pid] = chance.randrange(cpus)
        ns += chance.choice((300, 900, 4000))
        buffers[on[pid]].append((ns, waiting[pid].pop(0)))
    return [pages_of(events) for events in buffers]


def pages_of(events: list[tuple[int, bytes]]) -> bytes:
    out: list[bytes] = []
    held: list[bytes] = []
    begin = last = size = 0
    for ns, payload in events:
        if not held or size + len(payload) + 12 > PAGE - 16:
            if held:
                out.append(page(begin, *held))
            begin, last, held, size = ns, ns, [], 0
        delta = ns - last
        if delta >> 27:
            held.append(struct.pack("<II", (delta & (1 << 27) - 1) << 5 | 30, delta >> 27))
            size += 8
            delta = 0
        held.append(record(payload, delta))
        size += len(held[-1])
        last = ns
    return b"".join([*out, page(begin, *held)])


SMALL = recording(1, 60, 7)


def names(failures: tuple[Failure, ...]) -> list[tuple[int | None, bool, int | None]]:
    return sorted((f.emulation.rip, f.silent, f.source.vcpu) for f in failures if f.emulation)


@pytest.mark.parametrize(
    "data",
    [dat_6(LAYOUT, SMALL), dat_7(LAYOUT, SMALL), dat_7(LAYOUT, SMALL, how="zlib")],
    ids=["v6", "v7", "v7-zlib"],
)
def test_both_versions_give_what_the_pages_give(data: bytes) -> None:
    """One recording in three containers, and bare."""
    bare = trace_dat.read_pages(dict(enumerate(SMALL)), LAYOUT.formats)
    assert len(bare.failures) == 7
    read = trace_dat.read(data)
    assert read.damage == bare.damage == ()
    assert read.failures == bare.failures


@pytest.mark.parametrize("seed", range(3))
def test_windows_hide_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A big recording is read around its failures only, and gives what a whole reading gives."""
    cpus = dict(enumerate(recording(seed, 3000, 8)))
    monkeypatch.setattr(window_reader, "SMALL", 32)
    assert sum(map(len, cpus.values())) // PAGE > 100
    part = trace_dat.read_pages(cpus, LAYOUT.formats)
    whole = trace_dat.read_pages(cpus, LAYOUT.formats, whole=True)
    assert len(whole.failures) == 8
    assert names(part.failures) == names(whole.failures)
    by_rip = {f.emulation.rip: f for f in whole.failures if f.emulation}
    for failure in part.failures:
        assert failure.emulation
        full = by_rip[failure.emulation.rip]
        assert (failure.exit, failure.damage, failure.kind) == (full.exit, full.damage, full.kind)
        assert failure.trace[-5:] == full.trace[-5:]


def test_a_failure_whose_end_is_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sleeps for a second, and for hundreds of pages of other threads, before the guest gets its #UD."""
    begin, *rest = failing(7, 0, 0x5000, silent=True)
    ns = 1 << 40
    events = [(ns, begin), *((ns + n, payload) for n, payload in enumerate(rest[:3], 1))]
    for n in range(2000):
        events += [(ns + 10_000 * (n + 1) + k, payload) for k, payload in enumerate(ordinary(8, 1))]
    events += [(ns + 10**9 + n, payload) for n, payload in enumerate(rest[3:])]
    data = pages_of(events)
    monkeypatch.setattr(window_reader, "SMALL", 32)
    assert len(data) // PAGE > 64
    (failure,) = trace_dat.read_pages(data, LAYOUT.formats).failures
    assert failure.silent
    assert [event.name for event in failure.trace][-2:] == ["kvm_inj_exception", "kvm_entry"]


def test_lost_events_break_the_story() -> None:
    """The exit in front of the gap is not taken for that of the emulation behind it."""
    first, second = failing(7, 0, 0x5000, silent=False)[:2], failing(7, 0, 0x6000, silent=False)[3:]
    data = page(100, *(record(e, 1) for e in first)) + page(200, *(record(e, 1) for e in second), missed=5)
    read = trace_dat.read_pages(data, LAYOUT.formats)
    (failure,) = read.failures
    assert failure.exit is None
    assert failure.damage
    assert read.damage == ("the kernel lost 5 events at 1 places of this trace",)


def test_a_counting_clock_gives_no_seconds() -> None:
    """x86-tsc: the order is known, the unit is not."""
    data = dat_7(LAYOUT, SMALL).replace(b"\0local\0", b"\0count\0")
    read = trace_dat.read(data)
    assert len(read.failures) == 7
    assert all(event.time is None for failure in read.failures for event in failure.trace)


@pytest.mark.parametrize("step", [1, 997])
def test_a_file_that_is_cut_anywhere(step: int) -> None:
    """What is there is read, and that something is missing is said."""
    for data in (dat_6(LAYOUT, SMALL), dat_7(LAYOUT, SMALL), dat_7(LAYOUT, SMALL, how="zlib")):
        stop = min(len(data), 600) if step == 1 else len(data)
        for cut in range(len(MAGIC), stop, step):
            read = trace_dat.read(data[:cut])
            assert read.damage or len(read.failures) == 7
            assert len(read.failures) <= 7 + 3  # a cut may leave a failure without its exit


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", DATS)
def test_a_genuine_file_that_is_damaged(release: str, name: str) -> None:
    """Bytes that turned, in the directory and in the pages."""
    data = load(release, f"{name}.dat")
    chance = random.Random(release + name)  # noqa: S311 -- to be repeated
    for _ in range(15):
        torn = bytearray(data)
        for _ in range(chance.choice((1, 5, 50))):
            torn[chance.randrange(len(MAGIC) + 2, len(torn))] = chance.randrange(256)
        trace_dat.read(bytes(torn))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (MAGIC + b"9\0\0\x08" + bytes(40), "version 9"),
        (MAGIC + b"6\0\1\x08" + bytes(40), "big-endian"),
        (MAGIC, "cut off"),
        (dat_7(LAYOUT, SMALL, how="zlib").replace(b"zlib\0", b"lzo9\0"), "'lzo9'"),
    ],
)
def test_what_cannot_be_read_is_named(data: bytes, word: str) -> None:
    """No failure is made of it, and the reason is there."""
    read = trace_dat.read(data)
    assert read.failures == ()
    assert any(word in remark for remark in read.damage)


def test_a_file_without_kvms_formats() -> None:
    """Recorded without -e kvm, or by a kernel without it."""
    empty = Layout()
    empty.text = "name: sched_switch\nID: 5\n"
    read = trace_dat.read(dat_6(empty, SMALL))
    assert read.failures == ()
    assert "kvm_emulate_insn" in read.damage[0]


@pytest.mark.parametrize("how", ["zlib", "zstd"])
def test_nothing_blows_up(how: str) -> None:
    """A piece that claims gigabytes, or gives more than it claims, is refused before it is held."""
    import zlib

    packed = zlib.compress(bytes(1 << 20)) if how == "zlib" else zstd().compress(bytes(1 << 20))
    with pytest.raises(UnpackError, match="larger than any"):
        decompress.unpack(packed, 1 << 31, how)
    assert decompress.unpack(packed, 1 << 20, how) == bytes(1 << 20)
    with pytest.raises(UnpackError):
        decompress.unpack(packed[:-9], 1 << 20, how)
    with pytest.raises(UnpackError):
        decompress.unpack(b"no such thing", 100, how)


def test_without_zstd_the_file_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older Pythons have no zstd of their own."""
    monkeypatch.setattr("kvmwhy.ingest.zstd.MODULES", ("no_such_module",))
    read = trace_dat.read(load(RELEASES[0], "v7-zstd.dat"))
    assert read.failures == ()
    assert "trace-cmd convert" in read.damage[0]


def history(*last: bytes) -> dict[int, bytes]:
    """A guest that goes in and out for many pages, and what comes at the end."""
    events = []
    for n in range(4000):
        name, fields = ("kvm_entry", {}) if n % 2 else ("kvm_exit", {"exit_reason": 12, "isa": 1, "guest_rip": n})
        events.append((1000 * n, LAYOUT.event(name, 7, vcpu_id=0, **fields)))
    ends = [(4_000_000 + n, event) for n, event in enumerate(last)]
    return {0: pages_of([*events, *ends])}


def test_a_recording_that_ends_in_a_triple_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The VMM was gone before its return was recorded; the last exit tells what happened."""
    monkeypatch.setattr(window_reader, "SMALL", 8)
    fault = LAYOUT.event("kvm_exit", 7, vcpu_id=0, exit_reason=2, isa=1, guest_rip=0x1234)
    (failure,) = trace_dat.read_pages(history(fault), LAYOUT.formats).failures
    assert (failure.kind, failure.exit_reason) == ("shutdown", None)
    assert failure.cpu is not None
    assert failure.cpu.registers == {"rip": 0x1234}


@pytest.mark.parametrize("small", [True, False])
def test_a_recording_in_which_nothing_fails(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From when to when, and how it ends; how many events only where all were read."""
    if not small:
        monkeypatch.setattr(trace_dat, "SMALL", 8)
    (failure,) = trace_dat.read(dat_6(LAYOUT, list(history().values()))).failures
    assert failure.kind == "healthy"
    assert failure.symptom is not None
    counted = {"events": 4000} if small else {}
    assert failure.symptom.fields == {"first_ns": 0, "last_ns": 3_999_000, "ends_in": "kvm_entry", **counted}
