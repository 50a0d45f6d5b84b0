"""What a fast search finds is what a careful reading finds, however the log comes in."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.logs import BLOCK, FIXTURES, KNOWN, NOISE, chunked, counts, distinct, fixtures, found_in, made_log
from kvmwhy import fleet
from kvmwhy.fleet import block_dedup as counting
from kvmwhy.fleet.block_dedup import counted
from kvmwhy.fleet.input_splits import Piece, Unread, plan
from kvmwhy.fleet.marks import HEADS, LIBVIRT, find
from kvmwhy.fleet.worker import Meter, look
from kvmwhy.ingest.archives import members
from kvmwhy.ingest.marks import LOOSE
from kvmwhy.ingest.multi_search import finder, one_by_one
from kvmwhy.readers.inputs import read_stream


def blocks_of(chunks: Iterable[bytes]) -> Counter[tuple[bytes, bytes, bytes]]:
    """Each block with what stands before it and libvirt's header, and how often it is there."""
    out: Counter[tuple[bytes, bytes, bytes]] = Counter()
    for block in counted(chunks):
        out[block.text, block.before, block.header] += block.times
    return out


@pytest.mark.parametrize("seed", range(4))
def test_every_failure_is_found_once(seed: int) -> None:
    """In a log of all fixtures, each as often as it was put in; the reader of single texts says what is in each."""
    data, wanted = made_log(seed)
    assert found_in((data,)) == wanted


@pytest.mark.parametrize("seed", range(4, 7))
def test_chunks_of_any_size_give_the_same_blocks(seed: int) -> None:
    """Bytes one by one, pages, megabytes: what is cut out, and what stands before it, is the same."""
    data, _ = made_log(seed, parts=25)
    rng = random.Random(seed)
    whole = blocks_of((data,))
    assert blocks_of(chunked(data, (rng.choice((1, 100, 4096, 65_536)) for _ in range(3000)))) == whole
    assert blocks_of(chunked(data, (rng.randrange(1, 3 << 20) for _ in range(100)))) == whole


@pytest.mark.parametrize(("seed", "size"), [(7, 1 << 20), (8, 1 << 20), (9, 2 << 20)])
def test_pieces_of_any_size_give_the_same_failures(tmp_path: Path, seed: int, size: int) -> None:
    """A file that is cut into ranges has every failure in exactly one of them."""
    data, wanted = made_log(seed)
    path = tmp_path / "log"
    path.write_bytes(data)
    pieces = [piece for piece in plan([str(path)], size=size) if isinstance(piece, Piece)]
    assert len(pieces) > 2
    assert [p.start for p in pieces[1:]] == [p.end for p in pieces[:-1]]
    assert pieces[-1].end == len(data)
    found: Counter[str] = Counter()
    complaints: list[Unread] = []
    for piece in pieces:
        for _, sightings in look(piece, KNOWN, complaints.append, Meter()):
            found += counts((seen.made, seen.times) for seen in sightings)
    assert found == wanted
    assert not complaints


@pytest.mark.parametrize(("cut", "wanted"), [(b"", 9001), (b"Code=", 9001), (b"EFER=", 9002)])
def test_dense_logs_are_counted_and_cut_alike(monkeypatch: pytest.MonkeyPatch, cut: bytes, wanted: int) -> None:
    """Splitting at C speed gives the blocks that cutting one by one gives, with code bytes and without.

    A torn one goes with the next, if the next has an end that it has not.
    """
    rng = random.Random(1)
    kinds = [distinct(n)[: distinct(n).index(cut) if cut else None].rstrip(b"\n") + b"\n" for n in range(40)]
    dense = b"".join(rng.choices(kinds, k=3000))
    data = b"".join((dense, kinds[0][:700], dense, NOISE * 500, dense, kinds[1][:-30]))
    fast = blocks_of(chunked(data, [1 << 18] * 99))
    monkeypatch.setattr(counting, "_DENSE", 1 << 30)
    assert blocks_of((data,)) == fast
    assert sum(fast.values()) == wanted


def test_what_two_vcpus_write_at_once_stays_together() -> None:
    """A third announcement between the dumps of the first two: one block has all, as the reader needs it."""
    head, rest = BLOCK[:32], BLOCK[32:]
    middle = rest.index(b"\nES =") + 1
    mixed = head + head + rest + head + rest[:middle] + rest[middle:] + rest
    (block,) = counted((NOISE * 400 + mixed + NOISE * 400,))
    assert block.text == mixed
    apart = [b.text for b in counted((NOISE * 400 + BLOCK * 3 + NOISE * 400,))]
    assert apart == [BLOCK] * 3


def test_a_torn_failure_does_not_swallow_what_follows() -> None:
    """The block without code bytes goes with the next; the ones behind are apart again."""
    blocks = [b.text for b in counted((NOISE * 400 + BLOCK[:900] + b"\n" + BLOCK * 3,))]
    assert blocks == [BLOCK[:900] + b"\n" + BLOCK, BLOCK, BLOCK]


@given(st.lists(st.sampled_from([*HEADS, *LOOSE, LIBVIRT, b"Code=", b"\n", b"KVM", b"x", b" "]), max_size=60))
def test_finders_agree(words: list[bytes]) -> None:
    """Without ahocorasick_rs the standard library finds the same."""
    data = b"".join(words)
    anchors = (*HEADS, *LOOSE, LIBVIRT)
    slow = one_by_one(anchors)(data)
    assert finder(anchors)(data) == slow == find(data)


marks = st.sampled_from(
    [*HEADS, *LOOSE, LIBVIRT, b"Code=", b"\n", b"efer 5", BLOCK, BLOCK[:600], NOISE * 170, b"A" * 9000]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(marks, max_size=40), st.lists(st.integers(1, 60_000), min_size=1, max_size=80))
def test_any_order_of_marks_is_cut_alike(parts: list[bytes], sizes: list[int]) -> None:
    """Whatever an attacker writes, its blocks do not depend on how it arrives, do not overlap, and stay small."""
    data = b"".join(parts)
    whole = blocks_of((data,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "STEP", 40_000)
        assert blocks_of(chunked(data, sizes)) == whole
    end = 0
    for block in sorted(counted((data,)), key=lambda b: b.offset):
        assert block.offset >= end
        end = block.offset + len(block.text)
        assert len(block.text) <= 300 << 10


def test_the_fast_search_knows_what_readers_know() -> None:
    """No fixture is without a mark: what has a failure is looked at."""
    assert all(find(data) for data, _ in fixtures())
    for path in sorted((Path(__file__).parent.parent.parent / "examples").glob("*.log")):
        wanted = [f for e in read_stream((path.read_bytes(),)) for f in e.failures]
        assert sum(found_in((NOISE * 20_000 + path.read_bytes() + NOISE * 500,)).values()) == len(wanted) > 0


@pytest.mark.parametrize(
    ("what", "times", "most"),
    [
        ("b'A' * (1 << 20)", 500, 32),  # no newline, nothing to find
        ("(b'KVM internal error' * 60000)", 3, 300),  # nothing but marks: a step of them is held
        ("(b'unhandled exit\\nCode=' * 50000)", 3, 300),
    ],
)
def test_memory_is_bounded(what: str, times: int, most: int) -> None:
    """Input without end, without newlines, or with nothing but marks is read with so many MiB."""
    code = (
        "import resource\nfrom kvmwhy.fleet.block_dedup import counted\nimport kvmwhy.readers\n"
        f"chunk = {what}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"n = sum(block.times for block in counted(chunk for _ in range({times})))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert int(out.stdout) < most << 10


def test_a_directory_has_what_its_files_have() -> None:
    """Logs, pages, compressed traces: all fixtures, scanned at once, are all that is read in them one by one."""
    wanted: Counter[str] = Counter()
    paths = [path for path in sorted(FIXTURES.rglob("*")) if path.is_file()]
    for path in paths:
        for member in members((path.read_bytes(),), str(path), print):
            for evidence in read_stream(member.chunks):
                wanted += counts((failure, failure.source.count) for failure in evidence.failures)
    unread: list[Unread] = []
    found = list(fleet.scan([str(FIXTURES)], unread=unread))
    assert counts((failure, failure.source.count) for failure in found) == wanted
    assert not unread
    assert sum(wanted.values()) > len(fixtures())
